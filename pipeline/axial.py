"""Which axial slices show a disc, by the distance of their planes to the disc's point in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cauda.core.domain import F64, Point, Volume

DISC_MM = 5.0  # half a disc's height: a slice this far away still shows the level
MARGIN_MM = 10.0  # the canal must lie this far inside the image
MOST_OBLIQUE = 0.64  # cosine of 50 degrees, between slice normal and canal: others do not cut across it
REACH_MM = 25.0  # a plane's crossing with the canal is looked for this far from the disc


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxialSlice:
    """One slice that shows a level, and where the canal's centreline goes through it."""

    volume: Volume
    index: int
    distance_mm: float  # of its plane from the disc's point; positive towards the head
    center_mm: Point
    canal_shown: bool = True  # False once the canal was looked for round the centre, and not found


def slices_at(volumes: Sequence[Volume], point_mm: Point, canal_mm: F64) -> list[AxialSlice]:
    """The slice nearest to the disc and its neighbours in the same block, nearest first; empty if not imaged."""
    blocks = [found for volume in volumes if (found := _in_block(volume, point_mm, canal_mm))]
    return min(blocks, key=lambda found: _cost(found[0], canal_mm), default=[])


def through_canal(volumes: Sequence[Volume], canal_mm: F64) -> list[AxialSlice]:
    """All slices that the canal's centreline goes through, for judging a whole series; distances are 0."""
    middle = canal_mm.mean(axis=0)
    length = float(np.linalg.norm(canal_mm[0] - canal_mm[-1]))
    found = []
    for volume in volumes:
        normal = _normal(volume)
        for index in range(len(volume.pixels)):
            origin = np.array(volume.point_mm(0, 0, index))
            center = crossing(canal_mm, origin, normal, middle, reach_mm=length)
            if center is not None and _shows(volume, index, center, canal_mm):
                found.append(AxialSlice(volume=volume, index=index, distance_mm=0.0, center_mm=center))
    return found


def reach_mm(gap_mm: float) -> float:
    """How far a slice may lie from a disc's point and still show the level."""
    return max(0.6 * gap_mm, DISC_MM)


def _in_block(volume: Volume, point_mm: Point, canal_mm: F64) -> list[AxialSlice]:
    normal = _normal(volume)
    reach = reach_mm(volume.spacing_mm[2])
    found = []
    for index in range(len(volume.pixels)):
        origin = np.array(volume.point_mm(0, 0, index))
        distance = float(normal @ (origin - point_mm))
        if abs(distance) <= reach:
            center = crossing(canal_mm, origin, normal, point_mm)
            if center is not None and _shows(volume, index, center, canal_mm):
                found.append(AxialSlice(volume=volume, index=index, distance_mm=distance, center_mm=center))
    return sorted(found, key=lambda one: (abs(one.distance_mm), one.distance_mm))


def _normal(volume: Volume) -> F64:
    """The slice normal, pointing to the head."""
    normal = np.cross(volume.affine[:3, 0], volume.affine[:3, 1])
    normal = normal / np.linalg.norm(normal)
    return np.asarray(normal if normal[2] >= 0 else -normal, dtype=np.float64)


def crossing(canal_mm: F64, origin: F64, normal: F64, near_mm: Point | F64, reach_mm: float = REACH_MM) -> Point | None:
    """Where the canal's centreline (N, 3) goes through a plane, near a point; None where it does not."""
    close = np.linalg.norm(canal_mm - near_mm, axis=1) <= reach_mm
    heights = (canal_mm - origin) @ normal
    best: tuple[float, F64] | None = None
    for i in np.flatnonzero(close[:-1] & close[1:] & (heights[:-1] * heights[1:] <= 0)):
        share = heights[i] / (heights[i] - heights[i + 1]) if heights[i] != heights[i + 1] else 0.0
        point = canal_mm[i] + share * (canal_mm[i + 1] - canal_mm[i])
        away = float(np.linalg.norm(point - near_mm))
        if best is None or away < best[0]:
            best = away, point
    return None if best is None else (float(best[1][0]), float(best[1][1]), float(best[1][2]))


def _shows(volume: Volume, index: int, center: Point, canal_mm: F64) -> bool:
    """Whether a slice has the canal inside its picture, and cut across."""
    return _inside(volume, index, center) and squareness(_normal(volume), center, canal_mm) > MOST_OBLIQUE


def _inside(volume: Volume, index: int, center: Point) -> bool:
    col, row, _ = volume.voxel(center)
    row_mm, col_mm, _ = volume.spacing_mm
    _, height, width = volume.pixels.shape
    along_row = MARGIN_MM <= col * col_mm <= (width - 1) * col_mm - MARGIN_MM
    along_column = MARGIN_MM <= row * row_mm <= (height - 1) * row_mm - MARGIN_MM
    return bool(along_row and along_column) and not _padded(volume, col, row, index)


def _padded(volume: Volume, col: float, row: float, index: int) -> bool:
    """Whether the device filled this place in: it lies outside what was imaged."""
    return volume.padding is not None and bool(volume.padding[index, round(row), round(col)])


def squareness(normal: F64, center: Point, canal_mm: F64) -> float:
    """How squarely a plane cuts across the canal (N, 3) there: the cosine between its normal and the canal."""
    nearest = int(np.linalg.norm(canal_mm - center, axis=1).argmin())
    low, high = max(0, nearest - 10), min(len(canal_mm) - 1, nearest + 10)
    along = canal_mm[high] - canal_mm[low]
    return abs(float(normal @ along)) / max(float(np.linalg.norm(along)), 1e-6)


def _cost(one: AxialSlice, canal_mm: F64) -> float:
    """Distance first; between blocks that both show the disc, the one cut more squarely across the canal."""
    return abs(one.distance_mm) + 10.0 * (1.0 - squareness(_normal(one.volume), one.center_mm, canal_mm))
