"""Slices reformatted from a finely sampled stack, as scanners and workstations make them from a 3D acquisition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cauda.core.domain import F32
from cauda.models.phantom.imaging import Plane

_PARTS = 3  # sheets averaged through the thickness


def reformatted(source: Sequence[Plane], pictures: Sequence[F32], plane: Plane) -> F32:
    """The slice of ``plane`` (rows, columns) through parallel, evenly spaced pictures; 0 where they do not reach."""
    volume = np.stack(pictures)
    first = source[0]
    step = (source[-1].corner - first.corner) / (len(source) - 1)
    offsets = (np.arange(_PARTS) - (_PARTS - 1) / 2) * plane.thickness_mm / _PARTS
    sheets = []
    for offset in offsets:
        away = plane.points(offset) - first.corner
        at = (
            away @ step / float(step @ step),
            away @ first.along_column / first.pixel_mm,
            away @ first.along_row / first.pixel_mm,
        )
        sheets.append(ndimage.map_coordinates(volume, at, order=1, cval=0.0))
    mean: F32 = np.mean(sheets, axis=0, dtype=np.float32)
    return mean
