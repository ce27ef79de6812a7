"""Curves through landmarks, filled on a fine grid, and signed distances on it.

A point is (x, y) in millimetres from the middle of the canal before any narrowing: x to the patient's left (right on
the picture), y to the back (down). A label map is (H, W) uint8 of ``SIDE_PX`` pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.interpolate import CubicSpline

Points = NDArray[np.float64]  # (N, 2)
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

PITCH_MM = 0.25  # a quarter of a rootlet's calibre
HALF_MM = 44.0  # the crop's half diagonal, and what off-centre needs
SIDE_PX = int(2 * HALF_MM / PITCH_MM)


def to_px(points: Points) -> Points:
    """Pixels (column, row) of points; an integer is a pixel's centre."""
    return (points + HALF_MM) / PITCH_MM - 0.5


def grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The x (1, W) and y (H, 1) of the pixels' centres."""
    axis = (np.arange(SIDE_PX, dtype=np.float64) + 0.5) * PITCH_MM - HALF_MM
    return axis[None, :], axis[:, None]


def closed(landmarks: Points | Sequence[tuple[float, float]], samples: int = 8) -> Points:
    """A smooth closed curve through landmarks."""
    ring = np.vstack([landmarks, landmarks[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(ring, axis=0), axis=1))])
    at = np.interp(np.linspace(0, len(ring) - 1, samples * (len(ring) - 1), endpoint=False), range(len(ring)), along)
    return np.asarray(CubicSpline(along, ring, bc_type="periodic")(at))


def mirrored(half: Points) -> Points:
    """The same on the other side."""
    return np.asarray(half * np.array([-1.0, 1.0]))


def ellipse(
    middle: tuple[float, float], radii: tuple[float, float], turn_deg: float = 0.0, corners: int = 24
) -> Points:
    """A turned ellipse as a polygon."""
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    ring = np.stack([radii[0] * np.cos(t), radii[1] * np.sin(t)], axis=1)
    return np.asarray(ring @ np.array([[c, s], [-s, c]]) + np.array(middle))


class Canvas:
    """A label map that is painted on, later over earlier."""

    def __init__(self, label: int) -> None:
        self._image = Image.new("L", (SIDE_PX, SIDE_PX), label)
        self._draw: Any = ImageDraw.Draw(self._image)

    def fill(self, curve: Points, label: int, *, rim: int | None = None, rim_mm: float = 0.9) -> None:
        """Fill a closed curve, if wanted with a rim inside of it."""
        width = 1 if rim is None else max(1, round(rim_mm / PITCH_MM))
        outline = label if rim is None else rim
        self._draw.polygon([tuple(p) for p in to_px(curve)], fill=label, outline=outline, width=width)

    def stroke(self, line: Points, label: int, width_mm: float) -> None:
        """A line of some width."""
        width = max(1, round(width_mm / PITCH_MM))
        self._draw.line([tuple(p) for p in to_px(line)], fill=label, width=width, joint="curve")

    def labels(self) -> Labels:
        """A copy of what was painted."""
        return np.array(self._image, dtype=np.uint8)


def inside(curve: Points) -> Mask:
    """The pixels within a closed curve."""
    canvas = Canvas(0)
    canvas.fill(curve, 1)
    return canvas.labels() > 0


def window(half_mm: float) -> tuple[slice, slice]:
    """The rows and columns of a square round the origin."""
    middle, half = SIDE_PX // 2, round(half_mm / PITCH_MM)
    return slice(middle - half, middle + half), slice(middle - half, middle + half)


def signed_distance(mask: Mask) -> NDArray[np.float64]:
    """Millimetres from the mask's border, negative within."""
    if not mask.any() or mask.all():
        return np.full(mask.shape, -HALF_MM if mask.all() else HALF_MM)
    away = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    return np.asarray(away * PITCH_MM)
