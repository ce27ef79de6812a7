"""Isotropic pictures cut from a slice, oriented as radiologists look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F32, F64, Point, Volume

WINDOW_PERCENTILES = (1.0, 99.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """A square cut from one slice: ``pixels`` (P, P) in the volume's own values, axial as seen from the feet."""

    pixels: F32
    mm_per_px: float
    box_px: tuple[float, float, float, float]  # col0, row0, col1, row1 on the source image
    inside: float  # share of the square that lies on the image


def viewing_axes(volume: Volume) -> tuple[F64, F64]:
    """In-plane unit vectors (to the viewer's right, downward).

    Axial: patient's left, posterior. Sagittal: posterior, feet. Always parallel to the image's own axes, so that no
    pixel is turned; the sides come from the orientation, never from the column order.
    """
    one, two = (volume.affine[:3, axis] / np.linalg.norm(volume.affine[:3, axis]) for axis in (0, 1))
    normal = np.abs(np.cross(one, two))
    sagittal = int(normal.argmax()) == 0
    main = 1 if sagittal else 0  # the patient axis that runs across the picture
    across, down = (one, two) if abs(one[main]) >= abs(two[main]) else (two, one)
    down_axis, down_sign = (2, -1.0) if sagittal else (1, 1.0)
    return (
        across * (1.0 if across[main] >= 0 else -1.0),
        down * (1.0 if down[down_axis] * down_sign >= 0 else -1.0),
    )


def patch(volume: Volume, index: int, center_mm: Point, side_mm: float, px: int) -> Patch:
    """A square of ``side_mm`` around the point's foot on slice ``index``; outside the image the edge is repeated."""
    across, down = viewing_axes(volume)
    col, row, _ = volume.voxel(center_mm)
    row_mm, col_mm, _ = volume.spacing_mm
    step = side_mm / px
    offsets = (np.arange(px) - (px - 1) / 2) * step
    right_px = _in_pixels(across, volume)
    down_px = _in_pixels(down, volume)
    cols = col + offsets[None, :] * right_px[0] + offsets[:, None] * down_px[0]
    rows = row + offsets[None, :] * right_px[1] + offsets[:, None] * down_px[1]
    plane = volume.pixels[index]
    blur = [0.5 * max(0.0, step / mm - 1.0) for mm in (row_mm, col_mm)]  # no aliasing when pixels get larger
    if max(blur) > 0:
        plane = ndimage.gaussian_filter(plane, blur)
    pixels = ndimage.map_coordinates(plane, [rows, cols], order=1, mode="nearest").astype(np.float32)
    height, width = plane.shape
    inside = (cols > -0.5) & (cols < width - 0.5) & (rows > -0.5) & (rows < height - 0.5)
    half = side_mm / 2
    corners = np.array([[col, row]]) + np.array(
        [half * (a * np.array(right_px) + b * np.array(down_px)) for a in (-1, 1) for b in (-1, 1)]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    return Patch(
        pixels=pixels,
        mm_per_px=step,
        box_px=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
        inside=float(inside.mean()),
    )


def _in_pixels(direction: F64, volume: Volume) -> tuple[float, float]:
    """Columns and rows that one millimetre along an in-plane direction spans."""
    row_mm, col_mm, _ = volume.spacing_mm
    along_columns = volume.affine[:3, 0] / col_mm
    along_rows = volume.affine[:3, 1] / row_mm
    return float(direction @ along_columns) / col_mm, float(direction @ along_rows) / row_mm


def window(pixels: NDArray[np.floating]) -> tuple[float, float]:
    """The grey values that become black and white: the 1st and 99.5th percentile."""
    low, high = np.percentile(pixels, WINDOW_PERCENTILES)
    return float(low), float(high)


def windowed(pixels: F32, limits: tuple[float, float]) -> F32:
    """Grey values as 0..1, clipped."""
    low, high = limits
    scaled = (pixels - np.float32(low)) / np.float32(max(high - low, 1e-6))
    return np.asarray(np.clip(scaled, 0.0, 1.0), dtype=np.float32)


def graded_crop(volume: Volume, index: int, center_mm: Point, side_mm: float, px: int) -> F32:
    """What the embedder sees: (P, P) in 0..1 by the crop's own percentiles, so that coil falloff plays no part."""
    cut = patch(volume, index, center_mm, side_mm, px)
    return windowed(cut.pixels, window(cut.pixels))


def native_cutout(volume: Volume, index: int, center_mm: Point, side_mm: float) -> F32:
    """About the same square in the image's own pixels, windowed to 0..1; at least 16 pixels wide."""
    col, row, _ = volume.voxel(center_mm)
    row_mm, col_mm, _ = volume.spacing_mm
    _, height, width = volume.pixels.shape
    rows = _span(row, max(side_mm / row_mm, 16.0), height)
    cols = _span(col, max(side_mm / col_mm, 16.0), width)
    cut = volume.pixels[index, rows, cols]
    return windowed(cut, window(cut))


def _span(middle: float, size: float, length: int) -> slice:
    start = min(max(0, round(middle - size / 2)), max(0, length - round(size)))
    return slice(start, min(length, start + round(size)))
