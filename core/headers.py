"""What an image's header alone says: who it belongs to, and whether it may be used for grading.

The role decides what restarts the quiet time and opens a revision (CLINICAL.md 1, 3). It errs toward "may be used":
the pipeline decides by picture.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset

from cauda.core import uids
from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.core.identity import ATTRIBUTES, DEIDENTIFIED, DEMOGRAPHICS, IDENTITY, digest, stated

MANUFACTURER = "Cauda"

MR_IMAGE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4",  # MR Image
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image
        "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Color Image
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image
    }
)

# What pydicom was seen to raise on malformed elements.
_MALFORMED = (
    ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, RuntimeError, struct.error,
    BytesLengthException,
)  # fmt: skip

# Words that exclude T2 weighting or mean "not for grading", in the languages scanners speak.
_NOT_T2 = re.compile(
    r"\b(t1w?|t1[ _-]?(tse|fse|se|spin|flair|vibe|fs)|pdw?|loc|locali[sz]er|scout|survey|topogram|planning|lokalizer"
    r"|dwi|adc|diff(usion)?|ep2d|flash|vibe|fl3d|fgre|spgr|gre|medic|haste|myelo\w*|ssfse|mrcp|b[0-9]{3,4})\b"
)
_T1 = re.compile(r"\bt1(w|[ _-]?(tse|fse|se|spin|flair))?\b")

# Everything that is asked of a header here; the rest of it is passed over.
_ASKED = [
    tag_for_keyword(keyword) or 0
    for keyword in (
        *ATTRIBUTES, *DEIDENTIFIED,
        "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "ImageType", "SeriesDescription",
        "ProtocolName", "SequenceName", "ScanningSequence", "EchoPulseSequence", "EchoTime",
        "RepetitionTime", "ImageOrientationPatient", "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence", "ContributingEquipmentSequence",
    )
]  # fmt: skip
# How much is read of each: a functional group may hold what a maker put there, text is short.
_TEXT_BYTES, _SEQUENCE_BYTES = 1 << 14, 1 << 18
MOST_BYTES = dict.fromkeys(_ASKED, _TEXT_BYTES) | {
    tag_for_keyword(keyword) or 0: _SEQUENCE_BYTES
    for keyword in (
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ContributingEquipmentSequence",
    )
}  # fmt: skip
_APART = {tag_for_keyword("SOPInstanceUID"), tag_for_keyword("SpecificCharacterSet")}
_KEPT_BYTES = 4096  # of a header whose meaning is kept for the next image


_STEEPEST_AXIAL = 0.42  # cosine of 65 degrees: a block angled to L5/S1 leans so far, and is no coronal one


class Role(StrEnum):
    """What an instance may be used for, by its header."""

    AXIAL = "axial"  # T2-possible
    SAGITTAL = "sagittal"  # T2-possible
    SAGITTAL_T1 = "sagittal_t1"
    MR_OTHER = "mr_other"
    INERT = "inert"  # no MR image at all

    @property
    def is_input(self) -> bool:
        """Whether it changes the set of images usable for grading."""
        return self in {Role.AXIAL, Role.SAGITTAL, Role.SAGITTAL_T1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Identifiers, role and digests; no patient attribute."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    role: Role
    ours: bool
    identity: str
    demographics: str
    study_date: str | None = None  # YYYYMMDD
    stated: str | None = None  # `core.identity`


def read(source: Path | BinaryIO) -> tuple[Header, FileMetaDataset]:
    """Header and File Meta Information of a Part 10 file; Rejected when no study can be read from it."""
    try:
        dataset = dcmread(source, stop_before_pixels=True, specific_tags=_ASKED)
        return _read(dataset), dataset.file_meta
    except InvalidDicomError as error:
        raise Rejected(Reason.NOT_DICOM, "not a DICOM Part 10 file") from error
    except _MALFORMED as error:  # their text may hold values
        raise Rejected(Reason.NOT_DICOM, f"header cannot be read ({type(error).__name__})") from None


def read_elements(content: bytes, *, implicit: bool, big: bool) -> Header:
    """The header of a data set of which there is an excerpt: the elements of `MOST_BYTES`. Rejected as by `read`."""
    try:
        return _read(read_dataset(BytesIO(content), implicit, not big))
    except _MALFORMED as error:  # their text may hold values
        raise Rejected(Reason.NOT_DICOM, f"header cannot be read ({type(error).__name__})") from None


def _read(dataset: Dataset) -> Header:
    """`of`, where an image before may have said the same: those of a series differ in their SOP Instance UID."""
    asked = [one for one in dataset.values() if one.tag not in _APART]
    raw = tuple(one._replace(value_tell=0) for one in asked if isinstance(one, RawDataElement))
    if len(raw) < len(asked) or sum(len(one.value or b"") for one in raw) > _KEPT_BYTES:
        return of(dataset)
    charset, encoding = dataset.get("SpecificCharacterSet"), dataset.read_encoding or ()
    header = _of_raw(raw, charset if charset is None or isinstance(charset, str) else tuple(charset),
                     (encoding,) if isinstance(encoding, str) else tuple(encoding))  # fmt: skip
    return replace(header, sop_uid=_uid(dataset, "SOPInstanceUID"))


@lru_cache(maxsize=256)
def _of_raw(
    told: tuple[RawDataElement, ...], charset: str | tuple[str, ...] | None, encoding: tuple[str, ...]
) -> Header:  # fmt: skip
    """`of` elements as they were read, under a SOP Instance UID of no meaning."""
    dataset = Dataset({one.tag: one for one in told})
    if told:
        dataset.set_original_encoding(told[0].is_implicit_VR, told[0].is_little_endian, list(encoding))
    if charset is not None:
        dataset.SpecificCharacterSet = charset if isinstance(charset, str) else list(charset)
    dataset.SOPInstanceUID = "0"
    return of(dataset)


def of(dataset: Dataset) -> Header:
    """The header facts of a data set; Rejected naming the first UID that is missing or wrong."""
    study_uid = _uid(dataset, "StudyInstanceUID")
    return Header(
        study_uid=study_uid,
        series_uid=_uid(dataset, "SeriesInstanceUID"),
        sop_uid=_uid(dataset, "SOPInstanceUID"),
        sop_class_uid=_uid(dataset, "SOPClassUID"),
        role=role(dataset),
        ours=is_ours(dataset),
        identity=digest(dataset, IDENTITY),
        demographics=digest(dataset, DEMOGRAPHICS),
        study_date=_date(dataset, "StudyDate"),
        stated=stated(dataset, study_uid),
    )


def _date(dataset: Dataset, keyword: str) -> str | None:
    """A date as YYYYMMDD; None for none and for what is no day of the calendar."""
    value = str(dataset.get(keyword) or "").strip()
    try:
        return date.fromisoformat(value).isoformat().replace("-", "")
    except ValueError:
        return None


def _uid(dataset: Dataset, keyword: str) -> str:
    return uids.checked(str(dataset.get(keyword) or ""), keyword)


def is_ours(dataset: Dataset) -> bool:
    """Whether a Cauda made this result: it names itself in Contributing Equipment with a Device UID.

    Phantom images are input like any scanner's and do not carry it.
    """
    for item in dataset.get("ContributingEquipmentSequence") or ():
        if item.get("Manufacturer") == MANUFACTURER and item.get("DeviceUID"):
            return True
    return False


def role(dataset: Dataset) -> Role:
    """What the instance may be used for."""
    if dataset.get("SOPClassUID") not in MR_IMAGE_CLASSES:
        return Role.INERT
    plane = _plane(dataset)
    if plane is None:
        return Role.MR_OTHER
    # Scanners write one Protocol Name into all series of an exam: it excludes none, and speaks only for a series that
    # has no description of its own.
    description, sequence = (str(dataset.get(k) or "") for k in ("SeriesDescription", "SequenceName"))
    text = _words(description, sequence)
    named = text if description else _words(str(dataset.get("ProtocolName") or ""), sequence)
    image_type = {str(part).upper() for part in (dataset.get("ImageType") or ())}
    if image_type & {"LOCALIZER", "ADC", "DIFFUSION", "PROJECTION IMAGE"}:
        return Role.MR_OTHER
    echo = _number(dataset, "EchoTime") or _grouped(dataset, "MREchoSequence", "EffectiveEchoTime")
    repetition = _number(dataset, "RepetitionTime") or _grouped(
        dataset, "MRTimingAndRelatedParametersSequence", "RepetitionTime"
    )
    gradient = "GR" in str(dataset.get("ScanningSequence") or "") or dataset.get("EchoPulseSequence") == "GRADIENT"
    # A short echo with a short repetition is T1; STIR has a short echo but a long repetition.
    short = echo is not None and echo < 40 and repetition is not None and repetition < 1400
    t1 = short or (_T1.search(named) is not None and "t2" not in named)
    if plane == "sagittal" and t1 and not gradient:
        return Role.SAGITTAL_T1
    if t1 or gradient or _NOT_T2.search(text):
        return Role.MR_OTHER
    return Role.AXIAL if plane == "axial" else Role.SAGITTAL


def never_input(description: str) -> bool:
    """Whether a series is told by its description alone to be none that is used: a localizer, a diffusion series."""
    text = _words(description)
    return _NOT_T2.search(text) is not None and _T1.search(text) is None


def _words(*texts: str) -> str:
    return re.sub(r"[_*/()\[\].-]+", " ", " ".join(texts).lower())


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        value = float(dataset.get(keyword) or "nan")
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _plane(dataset: Dataset) -> str | None:
    """Axial or sagittal by the slice normal, as the pipeline's ``plane_of`` tells them; None otherwise."""
    try:
        cosines = np.asarray([float(x) for x in orientation(dataset)])
    except (TypeError, ValueError):
        return None
    if cosines.shape != (6,) or not np.isfinite(cosines).all():
        return None
    normal = np.abs(np.cross(cosines[:3], cosines[3:]))
    if normal.max() < 0.5:
        return None
    if int(normal.argmax()) == 0:
        return "sagittal"
    return "axial" if normal[2] >= _STEEPEST_AXIAL else None


def orientation(dataset: Dataset) -> Any:
    """Image Orientation (Patient), also from an Enhanced object's functional groups (first frame); () if absent."""
    if dataset.get("ImageOrientationPatient"):
        return dataset.ImageOrientationPatient
    plane = _group(dataset, "PlaneOrientationSequence")
    return plane.get("ImageOrientationPatient") or () if plane else ()


def _grouped(dataset: Dataset, sequence: str, keyword: str) -> float | None:
    group = _group(dataset, sequence)
    return _number(group, keyword) if group else None


def _group(dataset: Dataset, sequence: str) -> Dataset | None:
    """A functional group of an Enhanced object, that of the first frame where they differ."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in (dataset.get(groups) or ())[:1]:
            if items := item.get(sequence):
                found: Dataset = items[0]
                return found
    return None
