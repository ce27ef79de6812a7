"""Whether two pictures of the same places show one contrast: repeats may stand for each other, contrasts may not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from cauda.core.domain import F64
from cauda.pipeline.axial import AxialSlice, through_canal
from cauda.pipeline.crop import graded_crop
from cauda.pipeline.frames import text
from cauda.pipeline.placing import Placed
from cauda.pipeline.series import Acquisition, alike

ALIKE = 0.9  # correlation of two pictures of one place, smoothed; a repeat of a noisy slice reaches 0.95
SIDE_MM = 60.0
SIDE_PX = 60
SAME_PLACE_MM = 1.0
PARALLEL = 0.999  # cosine of 2.5 degrees


def unlike(placed: Sequence[Placed], canal_mm: F64) -> list[Placed]:
    """Those of one series whose headers state the same of the same places, though the pictures differ."""
    found = [
        pair
        for pair in combinations(placed, 2)
        if _one_series(pair[0].series, pair[1].series) and alike(pair[0].series, pair[1].series)
        if (score := likeness(pair[0], pair[1], canal_mm)) is not None and score < ALIKE
    ]
    return list(dict.fromkeys(one for pair in found for one in pair))


def likeness(one: Placed, other: Placed, canal_mm: F64) -> float | None:
    """The median correlation of the pictures round the canal at shared places; None where there are none."""
    others = through_canal(other.volumes, canal_mm)
    scores = [
        _correlation(slice_, twin)
        for slice_ in through_canal(one.volumes, canal_mm)
        if (twin := _at_same_place(slice_, others)) is not None
    ]
    return float(np.median(scores)) if scores else None


def _at_same_place(one: AxialSlice, others: Sequence[AxialSlice]) -> AxialSlice | None:
    return next(
        (
            each
            for each in others
            if np.linalg.norm(np.subtract(one.center_mm, each.center_mm)) < SAME_PLACE_MM
            and abs(float(one.volume.normal @ each.volume.normal)) > PARALLEL
        ),
        None,
    )


def _correlation(one: AxialSlice, other: AxialSlice) -> float:
    a, b = (
        ndimage.gaussian_filter(graded_crop(each.volume, each.index, each.center_mm, SIDE_MM, SIDE_PX), 1.0)
        for each in (one, other)
    )
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _one_series(one: Acquisition, other: Acquisition) -> bool:
    return bool(_uids(one) & _uids(other))


def _uids(one: Acquisition) -> set[str]:
    return {text(member.header, "SeriesInstanceUID") for member in one.each}
