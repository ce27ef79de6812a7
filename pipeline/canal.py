"""The canal on an axial slice: its centre refined by the body's symmetry, and how bright its fluid is."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cauda.core.domain import F32, F64, Point
from cauda.pipeline.axial import AxialSlice
from cauda.pipeline.crop import patch, viewing_axes, window, windowed

_STEP_MM = 0.5
_SIDE_MM = 70.0
_SHIFT_MM = 5.0  # a sagittal slice is about this thick: side to side the sagittal point knows no better
_PENALTY = 0.004  # of correlation per square millimetre moved
_CORE_MM = 6.0
_RING_MM = (9.0, 16.0)
_SEARCH_MM = 24.0
_MAP_MM = 2.0


def refined(one: AxialSlice) -> Point:
    """The centre moved sideways to where the slice is most like its mirror image; front to back it stays.

    The sac itself is not looked at: in stenosis there is nothing bright to find.
    """
    cut = _picture(one)
    steps = int(_SHIFT_MM / _STEP_MM)
    half = cut.shape[1] // 2 - steps
    middle = cut.shape[1] // 2
    scores = []
    for shift in range(-steps, steps + 1):
        left = cut[:, middle + shift - half : middle + shift]
        right = cut[:, middle + shift : middle + shift + half][:, ::-1]
        scores.append(_correlation(left, right) - _PENALTY * (shift * _STEP_MM) ** 2)
    across, _ = viewing_axes(one.volume)
    x, y, z = np.asarray(one.center_mm) + across * (_peak(scores) - steps) * _STEP_MM
    return float(x), float(y), float(z)


def _peak(scores: list[float]) -> float:
    """Where the scores are highest, between their steps: the top of the parabola through the best and its neighbours.

    A centre that follows the steps would change the crop by half a millimetre for a tenth in the sagittal point.
    """
    best = int(np.argmax(scores))
    if not 0 < best < len(scores) - 1:
        return float(best)
    before, here, after = scores[best - 1 : best + 2]
    bend = before - 2 * here + after
    return best + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def _picture(one: AxialSlice) -> F32:
    px = int(_SIDE_MM / _STEP_MM)
    cut = patch(one.volume, one.index, one.center_mm, _SIDE_MM, px).pixels
    return np.asarray(ndimage.gaussian_filter(windowed(cut, window(cut)), 2.0), dtype=np.float32)


def _correlation(a: F32, b: F32) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


def fluid_map(slices: list[AxialSlice]) -> F64:
    """How much brighter a 6 mm core is than the ring round it, (K, K) over shifts in 2 mm steps, zero in the middle.

    In units of the window, median over slices: severe stenosis at one level does not hide the canal at the others.
    """
    reach = int((_SEARCH_MM + _RING_MM[1]) / _MAP_MM)
    px = 2 * reach + 1
    radius = int(_RING_MM[1] / _MAP_MM) + 1
    grid = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) * _MAP_MM
    core, ring = grid <= _CORE_MM, (grid >= _RING_MM[0]) & (grid <= _RING_MM[1])
    kernel = (core / core.sum() - ring / ring.sum()).astype(np.float32)
    shown = int(_SEARCH_MM / _MAP_MM)
    keep = slice(reach - shown, reach + shown + 1)
    maps = []
    for one in slices:
        cut = patch(one.volume, one.index, one.center_mm, px * _MAP_MM, px).pixels
        maps.append(ndimage.correlate(windowed(cut, window(cut)), kernel, mode="nearest")[keep, keep])
    return np.asarray(np.median(maps, axis=0), dtype=np.float64)


def brightness(answer: F64) -> float:
    """By how much of the window the canal's fluid is brighter than what is round it; in T1 it is not."""
    middle = answer.shape[0] // 2
    return float(answer[middle - 2 : middle + 3, middle - 2 : middle + 3].max())
