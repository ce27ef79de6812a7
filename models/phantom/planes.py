"""Where the slices of a lumbar protocol lie in the patient, placed on a spine as a technologist would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cauda.core.domain import F64, Level
from cauda.models.phantom.imaging import Plane
from cauda.models.phantom.spine import Spine

HEAD, FEET, LEFT, BACK = (np.array(v, float) for v in ((0, 0, 1), (0, 0, -1), (1, 0, 0), (0, 1, 0)))
_FILLED = 0.9  # slice thickness by spacing: the rest is gap
_STACK_OVER_MM = 14.0  # beyond the uppermost and lowest disc

Matrix = tuple[int, float]  # pixels along a side, and their width in millimetres
SAGITTAL: Matrix = (384, 0.74)
AXIAL: Matrix = (320, 0.6)
ISOTROPIC: Matrix = (288, 1.0)
SURVEY: Matrix = (256, 1.6)


def sagittal(
    spine: Spine, slices: int, spacing_mm: float, matrix: Matrix = SAGITTAL, coarse: int = 1
) -> tuple[Plane, ...]:
    """A sagittal stack from the patient's right to the left."""
    middle = np.asarray(spine.centre) + np.array([0.0, -22.0, 4.0])
    offsets = (np.arange(slices) - (slices - 1) / 2) * spacing_mm
    return tuple(_centred(middle + o * LEFT, BACK, FEET, matrix, coarse, spacing_mm * _FILLED) for o in offsets)


def blocks(spine: Spine, slices: int, spacing_mm: float, coarse: int = 1) -> tuple[Plane, ...]:
    """An angled block parallel to each disc, five in all, each from head to feet."""
    return tuple(plane for level in Level for plane in _block(spine, level, slices, spacing_mm, coarse))


def stack(spine: Spine, spacing_mm: float, matrix: Matrix = AXIAL, coarse: int = 1) -> tuple[Plane, ...]:
    """One straight axial stack from above L1/L2 to below L5/S1, square to the table."""
    top, bottom = (spine.canal_centre(level)[2] for level in (Level.L1_L2, Level.L5_S1))
    length = top - bottom + 2 * _STACK_OVER_MM
    slices = int(np.ceil(length / spacing_mm)) + 1
    middle = np.asarray(spine.centre) + np.array([0.0, -8.0, 0.0])
    middle[2] = (top + bottom) / 2
    offsets = ((slices - 1) / 2 - np.arange(slices)) * spacing_mm
    return tuple(_centred(middle + o * HEAD, LEFT, BACK, matrix, coarse, spacing_mm * _FILLED) for o in offsets)


def survey(spine: Spine, slices: int = 3, coarse: int = 1) -> tuple[Plane, ...]:
    """Three planes, ``slices`` each, wide and far apart: sagittal, coronal, axial."""
    middle = np.asarray(spine.centre)
    steps = (np.arange(slices) - (slices - 1) / 2) * 20.0
    directions = ((LEFT, BACK, FEET), (BACK, LEFT, FEET), (HEAD, LEFT, BACK))
    return tuple(
        _centred(middle + step * across, row, column, SURVEY, coarse, 8.0)
        for across, row, column in directions
        for step in steps
    )


def cropped(plane: Plane, *, first_row: int = 0, rows: int | None = None, first_column: int = 0,
            columns: int | None = None) -> Plane:  # fmt: skip
    """A part of a plane; negative starts reach beyond it."""
    corner: F64 = plane.corner + plane.pixel_mm * (first_row * plane.along_column + first_column * plane.along_row)
    return replace(
        plane,
        corner=corner,
        rows=plane.rows if rows is None else rows,
        columns=plane.columns if columns is None else columns,
    )


def _block(spine: Spine, level: Level, slices: int, spacing_mm: float, coarse: int) -> Iterator[Plane]:
    normal = np.asarray(spine.normal(level))  # to the head
    back = np.cross(normal, LEFT)
    back = back if back[1] > 0 else -back
    middle = np.asarray(spine.place(spine.level_s(level), v=-8.0))
    for offset in ((slices - 1) / 2 - np.arange(slices)) * spacing_mm:
        yield _centred(middle + offset * normal, LEFT, back, AXIAL, coarse, spacing_mm * _FILLED)


def _centred(centre: F64, row: F64, column: F64, matrix: Matrix, coarse: int, thickness_mm: float) -> Plane:
    px, pixel_mm = matrix[0] // coarse, matrix[1] * coarse
    corner = centre - (row + column) * (px - 1) / 2 * pixel_mm
    return Plane(corner=corner, along_row=row, along_column=column, pixel_mm=pixel_mm, rows=px, columns=px,
                 thickness_mm=thickness_mm)  # fmt: skip
