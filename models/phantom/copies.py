"""The same pictures as another study: for load, where drawing each anew would be the bottleneck, and for replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

from pydicom import Dataset
from pydicom.multival import MultiValue

from cauda.core import uids

_STANDARD = "1.2.840.10008."  # UIDs that DICOM itself defines name no instance (PS3.6 annex A)
_KINDS = ("ClassUID", "SyntaxUID", "SchemeUID", "ContextUID")  # others that name no instance, by their keywords' ends
_PATIENT = 0x0010  # the group of what is known about a patient
_OF_NOBODY = frozenset({"PatientSex", "PatientAge", "PatientSize", "PatientWeight"})


def readdressed(images: Sequence[Dataset], number: int) -> list[Dataset]:
    """A phantom's copies with UIDs, Patient ID and Accession Number of their own; references among them stay whole."""
    copies = [_renamed(image, "copy", str(number)) for image in images]
    for image, copy in zip(images, copies, strict=True):
        copy.PatientID = f"{image.PatientID}-{number}"
    return copies


def as_test(images: Sequence[Dataset], *salt: str) -> list[Dataset]:
    """Copies of anybody's images under new UIDs, of a test patient (CLINICAL.md 33); one patient stays one.

    What is not in the patient's group, and the pixels, are as they were: this is no de-identification.
    """
    copies = [_renamed(image, *salt) for image in images]
    for image, copy in zip(images, copies, strict=True):
        for element in list(copy.group_dataset(_PATIENT)):
            if element.keyword not in _OF_NOBODY:
                del copy[element.tag]
        who = uids.derived("patient", *salt, str(image.get("PatientID", "")))
        copy.PatientName, copy.PatientID, copy.PatientBirthDate = "PHANTOM^CAUDA", f"CAUDA-TEST-{who[-12:]}", ""
        copy.QualityControlImage = "YES"
    return copies


def _renamed(image: Dataset, *salt: str) -> Dataset:
    copy = deepcopy(image)
    for element in copy.iterall():
        if element.VR == "UI" and not element.keyword.endswith(_KINDS) and element.value:
            element.value = _each(element.value, lambda uid: _own(uid, *salt))
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    copy.AccessionNumber = f"TEST{int(str(copy.StudyInstanceUID)[-9:]):09d}"
    return copy


def _own(uid: str, *salt: str) -> str:
    return uid if uid.startswith(_STANDARD) else uids.derived(*salt, uid)


def _each(value: str | MultiValue[str], change: Callable[[str], str]) -> str | list[str]:
    return [change(str(one)) for one in value] if isinstance(value, MultiValue) else change(str(value))
