"""What the doors take: every class of objects that belong to a study, in every encoding that is whole in itself.

What is not used for grading is kept as it came and is inert (CLINICAL.md 1): a sender that hands over a whole study
is not stopped by its odd objects.
"""

from __future__ import annotations

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, register_uid
from pynetdicom.service_class import StorageServiceClass

# Their pixels are elsewhere, or a live stream: what arrives could not be kept as it is.
_REFERENCES = frozenset(
    {
        "1.2.840.10008.1.2.4.94",  # JPIP Referenced
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.204",  # JPIP HTJ2K Referenced
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
        "1.2.840.10008.1.2.7.1",  # SMPTE ST 2110-20 Progressive
        "1.2.840.10008.1.2.7.2",  # SMPTE ST 2110-20 Interlaced
        "1.2.840.10008.1.2.7.3",  # SMPTE ST 2110-30 Audio
    }
)
# In order of preference: explicit VR keeps what a private element is.
TRANSFER_SYNTAXES: tuple[str, ...] = (
    ExplicitVRLittleEndian,
    *(u for u in ALL_TRANSFER_SYNTAXES if u not in {ExplicitVRLittleEndian, *_REFERENCES}),
)

# Archives still hold these and send them with the rest of a study: the first ultrasound and nuclear medicine, overlays,
# curves, look-up tables, trial reports.
_RETIRED = tuple(
    f"1.2.840.10008.5.1.4.1.1.{end}"
    for end in (
        "3", "5", "6", "8", "9", "9.1", "10", "11", "12.3", "77.1", "77.2", "88.1", "88.2", "88.3", "88.4", "129",
    )
)  # fmt: skip
# What makers' scanners and workstations send beside MR images.
_PRIVATE = (
    "1.2.840.113619.4.2",  # GE MR Image Info Object
    "1.2.840.113619.4.26",  # GE 3D Model
    "1.3.12.2.1107.5.9.1",  # Siemens CSA Non-Image
    "1.3.12.2.1107.5.99.3.10",  # Siemens CT MR Volume
    "1.3.12.2.1107.5.99.3.11",  # Siemens AX Frame Sets
    "1.3.46.670589.2.5.1.1",  # Philips 3D Presentation State
    "1.3.46.670589.2.11.1.1",  # Philips Volume Set
    "1.3.46.670589.5.0.1",  # Philips Volume (retired)
    "1.3.46.670589.5.0.1.1",  # Philips Volume
    "1.3.46.670589.5.0.2",  # Philips 3D Object (retired)
    "1.3.46.670589.5.0.2.1",  # Philips 3D Object
    "1.3.46.670589.5.0.3",  # Philips Surface (retired)
    "1.3.46.670589.5.0.3.1",  # Philips Surface
    "1.3.46.670589.5.0.4",  # Philips Composite Object
    "1.3.46.670589.5.0.7",  # Philips MR Cardio Profile
    "1.3.46.670589.5.0.8",  # Philips MR Cardio (retired)
    "1.3.46.670589.5.0.8.1",  # Philips MR Cardio
    "1.3.46.670589.5.0.10",  # Philips MR Synthetic Image
    "1.3.46.670589.5.0.11",  # Philips MR Cardio Analysis (retired)
    "1.3.46.670589.5.0.11.1",  # Philips MR Cardio Analysis
    "1.3.46.670589.5.0.13",  # Philips Perfusion
    "1.3.46.670589.5.0.14",  # Philips Perfusion Image
    "1.3.46.670589.11.0.0.12.1",  # Philips MR Spectrum
    "1.3.46.670589.11.0.0.12.2",  # Philips MR Series Data
    "1.3.46.670589.11.0.0.12.3",  # Philips MR Color Image
    "1.3.46.670589.11.0.0.12.4",  # Philips MR Examcard
)
SOP_CLASSES: tuple[str, ...] = (
    *(str(context.abstract_syntax) for context in AllStoragePresentationContexts),
    *_RETIRED,
    *_PRIVATE,
)


def register() -> None:
    """Tell pynetdicom that the classes beside its own are storage too: it aborts an association over others."""
    for uid in (*_RETIRED, *_PRIVATE):
        register_uid(uid, "Storage_" + uid.replace(".", "_"), StorageServiceClass)
