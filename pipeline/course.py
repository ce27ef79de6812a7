"""Where the canal runs from side to side: along a smooth course, and away from it where the canal map leaves it.

A cubic bears a bad slice and a bad row, and fits nearly every spine. It does not follow a curve of 77 degrees, nor a
slip. What a few neighbouring centimetres of the map agree on does; it decides where it is far from the cubic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cauda.core.domain import F64

SMOOTH_MM = 0.2  # smaller deviations from the smooth course are no outliers
LOCAL_MM = 10.0  # Gaussian along the spine: neighbours that far away say where the canal runs
TRUSTED_MM = 1.5  # the smooth course is that exact where the canal follows it; only what goes beyond counts


def course(rows: NDArray[np.intp], raw: F64, weight: F64, height: int, row_mm: float) -> F64:
    """The canal's side-to-side position (H,) from its centroids ``raw`` (R,) on ``rows`` (R,), weighted by its size.

    Past the first and last row it stays where it was.
    """
    smooth = _cubic(rows, raw, weight, height)
    local = _local(rows, raw, weight, row_mm)
    away = local - smooth[rows]
    follows = smooth[rows] + np.sign(away) * np.maximum(np.abs(away) - TRUSTED_MM, 0.0)
    return np.asarray(np.interp(np.arange(height), rows, follows), dtype=np.float64)


def _cubic(rows: NDArray[np.intp], raw: F64, weight: F64, height: int) -> F64:
    """A cubic (H,) that one bad row or slice does not bend."""
    x = np.linspace(-1, 1, height)
    trust = weight / weight.max()
    for _ in range(3):
        fit = np.polynomial.Polynomial.fit(x[rows], raw, deg=3, w=np.sqrt(trust), domain=[-1, 1])
        residual = np.abs(raw - fit(x[rows]))
        trust = weight / weight.max() / (1 + (residual / max(float(np.median(residual)), SMOOTH_MM)) ** 2)
    inside = np.clip(x, x[rows[0]], x[rows[-1]])  # no extrapolation
    return np.asarray(fit(inside), dtype=np.float64)


def _local(rows: NDArray[np.intp], raw: F64, weight: F64, row_mm: float) -> F64:
    """Straight lines (R,) through what lies near each row; rows far from the line count less."""
    along = rows * row_mm
    apart = along[None, :] - along[:, None]
    near = np.exp(-0.5 * (apart / LOCAL_MM) ** 2)  # (R, R)
    trust = weight / weight.max()
    for _ in range(3):
        share = near * trust[None, :]
        share /= share.sum(axis=1, keepdims=True)
        middle, value = (share * apart).sum(axis=1), share @ raw
        spread = (share * (apart - middle[:, None]) ** 2).sum(axis=1)
        slope = (share * (apart - middle[:, None]) * (raw[None, :] - value[:, None])).sum(axis=1)
        line = value - slope / np.maximum(spread, 1.0) * middle
        residual = np.abs(raw - line)
        trust = weight / weight.max() / (1 + (residual / max(float(np.median(residual)), SMOOTH_MM)) ** 2)
    return np.asarray(line, dtype=np.float64)
