"""The canal on an axial slice: its centre refined by the body's symmetry, whether it is there, how bright its fluid is.

Whether it is there must not depend on what stenosis takes away. Bright fluid is not asked for; on the sagittal map a
canal that is pinched at the disc goes on above and below it, and the body stays symmetric about it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from cauda.core.domain import F32, F64, Point
from cauda.pipeline.axial import AxialSlice, crossing
from cauda.pipeline.crop import patch, viewing_axes, window, windowed
from cauda.pipeline.sagittal import Midline

_STEP_MM = 0.5
_SIDE_MM = 70.0
_SHIFT_MM = 5.0  # a sagittal slice is about this thick: side to side the sagittal point knows no better
_PENALTY = 0.004  # of correlation per square millimetre moved
_ALONG_MM = 20.0  # of the canal to either side of a slice: a pinched level does not hide all of it
_MIN_SHARE = 0.3  # of that on the sagittal map: 245 phantom levels begin at 0.35 (Severe, slipped), usual ones at 0.69
_BESIDE_MM = 20.0
_BESIDE_STEP_MM = 1.0
_OTHER_AXIS_MM = 5.0  # the body's axis lies no farther from the canal; in 175 phantom levels it never lay 1 mm from it
_OTHER_AXIS_GAIN = 0.1  # of correlation
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
    shifts = range(-steps, steps + 1)
    scores = [_mirrored(cut, middle + shift, half) - _PENALTY * (shift * _STEP_MM) ** 2 for shift in shifts]
    across, _ = viewing_axes(one.volume)
    x, y, z = np.asarray(one.center_mm) + across * (_peak(scores) - steps) * _STEP_MM
    return float(x), float(y), float(z)


def located(one: AxialSlice, line: Midline) -> AxialSlice:
    """The slice with its centre refined, and whether it shows the canal there.

    It does not where the refinement ends at its bound, where the sagittal map has no canal at the centre and along the
    canal from there, or where the picture is symmetric about a place beside it.
    """
    center = np.asarray(refined(one))
    at_bound = float(np.linalg.norm(center - one.center_mm)) >= _SHIFT_MM - _STEP_MM / 2
    x, y, z = map(float, center)
    there = replace(one, center_mm=(x, y, z))
    return replace(there, canal_shown=not at_bound and _on_map(there, line) and not _symmetric_elsewhere(there))


def _on_map(one: AxialSlice, line: Midline) -> bool:
    """Whether the sagittal map has a canal at the centre, and along the canal's course from there."""
    track = line.centreline_mm()
    origin = np.array(one.volume.point_mm(0, 0, one.index))
    there = crossing(track, origin, one.volume.normal, one.center_mm)
    if there is None:
        return False
    near = track[np.linalg.norm(track - there, axis=1) <= _ALONG_MM]
    return float(line.canal_at(near + np.subtract(one.center_mm, there)).mean()) >= _MIN_SHARE


def _symmetric_elsewhere(one: AxialSlice) -> bool:
    """Whether the picture is much more like its mirror image about a place beside the centre."""
    reach, side = int(_BESIDE_MM / _STEP_MM), int(_SIDE_MM / _STEP_MM)
    half = side // 2 - reach // 2
    px = 2 * (half + reach)
    limits = window(patch(one.volume, one.index, one.center_mm, _SIDE_MM, side).pixels)
    cut = patch(one.volume, one.index, one.center_mm, px * _STEP_MM, px).pixels
    smooth = np.asarray(ndimage.gaussian_filter(windowed(cut, limits), 2.0), dtype=np.float32)
    rows = smooth[(px - side) // 2 : (px + side) // 2]
    step = int(_BESIDE_STEP_MM / _STEP_MM)
    shifts = range(-reach, reach + 1, step)
    scores = [_mirrored(rows, px // 2 + shift, half) for shift in shifts]
    best = int(np.argmax(scores))
    away = abs(shifts[best]) * _STEP_MM
    return away >= _OTHER_AXIS_MM and scores[best] - scores[len(scores) // 2] >= _OTHER_AXIS_GAIN


def _mirrored(picture: F32, column: int, half: int) -> float:
    """How like what lies left of a column is to the mirror image of what lies right of it."""
    return _correlation(picture[:, column - half : column], picture[:, column : column + half][:, ::-1])


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
