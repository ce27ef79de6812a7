"""Levels by K-means over axial slice positions, as Garcia de Celis and Bukaita (2025) assign them: never delivered.

Where the blocks of a stack nearly touch, or fewer than five levels were imaged, a cluster is not a level
(CLINICAL.md 10). `cauda analyze --experimental` writes it beside the count from the sacrum, so that anyone can see how
far off it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from cauda.core.domain import F64, Level, Report, SeriesRole, SliceRef, Volume
from cauda.core.errors import Rejected
from cauda.pipeline.series import series
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import series_volumes


def clusters(heights_mm: F64, count: int = len(Level)) -> list[NDArray[np.intp]]:
    """Indices of the slices of each cluster, most cranial cluster first; heights (N,) along the spine.

    Raises ValueError where there are fewer slices than clusters.
    """
    if len(heights_mm) < count:
        raise ValueError(f"{len(heights_mm)} slices make no {count} clusters")
    found = KMeans(n_clusters=count, n_init=10, random_state=0).fit(heights_mm[:, None])
    order = np.argsort(-found.cluster_centers_[:, 0])
    return [np.flatnonzero(found.labels_ == label) for label in order]


def guessed(images: Sequence[SourceImage], report: Report) -> dict[str, Any]:
    """For each axial T2 series what K-means would call the levels, and how far that is from the count.

    JSON-ready. ``off_mm`` is head to feet, between the cluster's middle slice and the counted level; null where the
    level was not counted.
    """
    counted = {one.level: one.point_mm for one in report.findings if one.point_mm is not None}
    found: list[dict[str, Any]] = []
    for one in series(images):
        axial = [each for each in one.acquisitions if each.role is SeriesRole.AXIAL_T2 and each.reason is None]
        if not axial:
            continue
        try:
            volumes = [volume for each in axial for volume in series_volumes(each.frames)[0]]
        except Rejected as problem:
            found.append({"series_instance_uid": one.uid, "reason": problem.message})
            continue
        slices, heights = _heights(volumes)
        if len(slices) < len(Level):
            found.append({"series_instance_uid": one.uid, "reason": f"only {len(slices)} slices"})
            continue
        levels = {}
        for level, members in zip(Level, clusters(heights), strict=True):
            middle = float(heights[members].mean())
            nearest = slices[int(members[np.abs(heights[members] - middle).argmin()])]
            at = counted.get(level)
            levels[level.value] = {
                "sop_instance_uid": nearest.sop_instance_uid,
                "frame": nearest.frame,
                "slices": len(members),
                "off_mm": None if at is None else round(middle - at[2], 1),
            }
        found.append({"series_instance_uid": one.uid, "levels": levels})
    return {"method": "k-means over slice positions", "delivered": False, "axial_series": found}


def _heights(volumes: Sequence[Volume]) -> tuple[list[SliceRef], F64]:
    """Every slice and how high (LPS z, mm) its middle lies."""
    slices: list[SliceRef] = []
    heights: list[float] = []
    for volume in volumes:
        _, rows, columns = volume.pixels.shape
        for index, ref in enumerate(volume.slices):
            slices.append(ref)
            heights.append(volume.point_mm((columns - 1) / 2, (rows - 1) / 2, index)[2])
    return slices, np.asarray(heights, dtype=np.float64)
