"""Whether two images under one SOP Instance UID show the same thing (CLINICAL.md 4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

_GEOMETRY = (
    "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "PhotometricInterpretation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


def same_picture(old: Path, new: Path) -> bool:
    """Equal geometry and equal decoded pixels; False where either cannot be decoded and the bytes differ."""
    a, b = dcmread(old), dcmread(new)
    if any(a.get(keyword) != b.get(keyword) for keyword in _GEOMETRY):
        return False
    if a.get("PixelData") == b.get("PixelData") and _syntax(a) == _syntax(b):
        return True
    try:
        return bool(np.array_equal(a.pixel_array, b.pixel_array))
    except (ValueError, AttributeError, NotImplementedError, RuntimeError, KeyError):
        return False  # what cannot be shown to be equal is not


def _syntax(dataset: Dataset) -> str:
    return str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))
