"""The same pictures as another study: for load, where drawing a spine for each would be the bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from pydicom import Dataset

from cauda.core import uids

_KEPT = frozenset({"SOPClassUID", "ReferencedSOPClassUID", "DimensionOrganizationUID"})


def readdressed(images: Sequence[Dataset], number: int) -> list[Dataset]:
    """Copies with UIDs, patient and accession number of their own; references among them stay whole."""
    return [_readdressed(image, number) for image in images]


def _readdressed(image: Dataset, number: int) -> Dataset:
    copy = deepcopy(image)
    for element in copy.iterall():
        if element.VR == "UI" and element.keyword not in _KEPT and str(element.value).startswith("2.25."):
            element.value = uids.derived("copy", str(number), str(element.value))
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    copy.PatientID = f"{image.PatientID}-{number}"
    copy.AccessionNumber = f"TEST{int(str(copy.StudyInstanceUID)[-9:]):09d}"
    return copy
