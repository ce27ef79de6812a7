"""Sagittal volumes made ready for the localiser, and its answer fused over slices into one midsagittal map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F32, F64, Point, Volume
from cauda.pipeline.course import course
from cauda.pipeline.parts import Localiser

HALF_WIDTH_MM = 30.0  # the canal is looked for this far to either side of the stack's middle
STEP_MM = 3.5  # slices closer than this add time and no knowledge
NEAR_STEP_MM = 2.6  # beside the canal
COARSE_MM = 8.0  # half a canal's width: no canal falls between two slices
NEAR_MM = 10.0  # to either side of the canal's course
COURSE_QUANTILES = (0.1, 0.9)
FUSION_MM = 4.0  # Gaussian over the distance from the canal's centre, so that neighbours stand in for a bad slice
MIN_CANAL_MM = 60.0
MAX_PIECES = 20
MIN_PIECE_MM = 8.0  # shorter ones are specks
END_MM = 5.0  # of a piece's length say where it ends
OVERLAP_MM = 5.0  # where a slip cuts the canal, its parts lie behind each other
STEP_BACK_MM = 15.0  # a slip of 14 mm moves the canal that much, front to back
ASIDE_MM = 10.0
EXTEND_MM = 40.0  # past its ends the canal goes on straight: the last disc may lie beyond what was seen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Midline:
    """What the sagittal slices show in the curved plane through the canal's centre.

    ``maps`` (C, H, W) are class probabilities; ``columns`` and ``slices`` (H,) say per row where the canal's centre
    lies, for rows ``first`` to ``last``. ``canal`` (N, H, W) is the canal's probability on the slices that were looked
    at, ``heights_mm`` (N,) says where these lie.
    """

    volume: Volume
    classes: tuple[str, ...]
    maps: F32
    columns: F64
    slices: F64
    first: int
    last: int
    canal: F32
    heights_mm: F64

    def map(self, name: str) -> F32:
        """The probability (H, W) of one class; zeros for a class the localiser does not know."""
        if name not in self.classes:
            return np.zeros(self.maps.shape[1:], dtype=np.float32)
        return np.asarray(self.maps[self.classes.index(name)], dtype=np.float32)

    def centreline(self) -> F64:
        """The canal's centre (N, 3) as (column, row, slice), from head to feet."""
        rows = np.arange(self.first, self.last + 1)
        return np.stack([self.columns[rows], rows.astype(np.float64), self.slices[rows]], axis=1)

    def centreline_mm(self) -> F64:
        """The canal's centre (N, 3) in millimetres LPS, from head to feet."""
        line = self.centreline()
        in_plane = line[:, :2] @ self.volume.affine[:3, :2].T
        origins = np.stack([self.volume.origin_mm(float(index)) for index in line[:, 2]])
        return np.asarray(origins + in_plane, dtype=np.float64)

    def point_mm(self, col: float, row: float) -> Point:
        """The patient point of a position on the map, on the curved plane."""
        index = float(np.interp(row, np.arange(len(self.slices)), self.slices))
        return self.volume.point_mm(col, row, index)

    def canal_at(self, points_mm: F64) -> F64:
        """The canal's probability at patient points (..., 3), between slices linear; 0 off what was looked at."""
        volume = self.volume
        flat = points_mm.reshape(-1, 3)
        places = np.array([volume.voxel((float(x), float(y), float(z))) for x, y, z in flat])
        heights = np.interp(places[:, 2], np.arange(len(volume.slices)), volume.heights_mm)
        index = np.interp(heights, self.heights_mm, np.arange(len(self.heights_mm)), left=-1, right=-1)
        at = np.stack([index, places[:, 1], places[:, 0]])
        found = ndimage.map_coordinates(self.canal, at, order=1, mode="constant")
        return np.asarray(found.reshape(points_mm.shape[:-1]), dtype=np.float64)


def upright(volume: Volume) -> Volume:
    """The same volume with rows from head to feet, columns from anterior to posterior and slices from right to left.

    By its orientation: however the picture was stored, the same pixels come out.
    """
    volume = replace(volume, padding=None)  # already dark; nothing asks a turned volume for it
    if abs(volume.affine[2, 0]) > abs(volume.affine[2, 1]):  # the picture lies on its side
        volume = replace(volume, affine=volume.affine[:, [1, 0, 2, 3]], pixels=volume.pixels.transpose(0, 2, 1))
    if volume.affine[2, 1] > 0:
        volume = _flipped(volume, 1)
    if volume.affine[1, 0] < 0:
        volume = _flipped(volume, 0)
    return _reversed(volume) if volume.affine[0, 2] < 0 else volume


def _flipped(volume: Volume, axis: int) -> Volume:
    """With the columns (axis 0) or the rows (axis 1) the other way round."""
    array_axis = 2 - axis
    across = volume.affine[:3, axis] * (volume.pixels.shape[array_axis] - 1)
    affine = volume.affine.copy()
    affine[:3, 3] += across
    affine[:3, axis] = -affine[:3, axis]
    origins = None if volume.origins_mm is None else volume.origins_mm + across
    return replace(volume, affine=affine, pixels=np.flip(volume.pixels, array_axis), origins_mm=origins)


def _reversed(volume: Volume) -> Volume:
    """With the slices the other way round."""
    affine = volume.affine.copy()
    affine[:3, 3] = volume.origin_mm(len(volume.slices) - 1)
    affine[:3, 2] = -affine[:3, 2]
    origins = None if volume.origins_mm is None else volume.origins_mm[::-1]
    slices = volume.slices[::-1]
    return replace(volume, affine=affine, pixels=volume.pixels[::-1], slices=slices, origins_mm=origins)


def middle_slices(volume: Volume, step_mm: float = STEP_MM) -> list[int]:
    """The slices around the middle of the stack, about ``step_mm`` apart or as far as the stack's own step."""
    heights = volume.heights_mm
    middle = float(heights[0] + heights[-1]) / 2
    reach = max(HALF_WIDTH_MM, volume.spacing_mm[2])
    return _spread(heights, middle, reach, step_mm)


def near_slices(volume: Volume, index: float, reach_mm: float) -> list[int]:
    """The slices within reach of a slice position, about ``NEAR_STEP_MM`` apart or as far as the stack's own step."""
    return _slices_between(volume, index, index, reach_mm)


def _slices_between(volume: Volume, low: float, high: float, reach_mm: float) -> list[int]:
    heights = volume.heights_mm
    first, last = np.interp([low, high], np.arange(len(heights)), heights)
    reach = (last - first) / 2 + max(reach_mm, volume.spacing_mm[2])
    return _spread(heights, float(first + last) / 2, float(reach), NEAR_STEP_MM)


def _spread(heights: F64, centre: float, reach: float, step: float) -> list[int]:
    """Indices within reach of a height, outward from the nearest one, each about a step from the one before."""
    start = int(np.abs(heights - centre).argmin())
    chosen = [start]
    for side in (np.arange(start + 1, len(heights)), np.arange(start - 1, -1, -1)):
        last, rest = start, side
        while len(rest):
            next_one = int(np.abs(np.abs(heights[rest] - heights[last]) - step).argmin())
            last, rest = int(rest[next_one]), rest[next_one + 1 :]
            if abs(heights[last] - centre) <= reach:
                chosen.append(last)
    return sorted(chosen)


def midline(volume: Volume, localiser: Localiser, chosen: Sequence[int] | None = None) -> Midline | None:
    """The fused midline of an upright volume, or None where no canal long enough to be a spine's was seen.

    Unless slices are chosen, a coarse look over the stack finds the canal and a second one the slices beside it.
    """
    known = _segmented(volume, localiser, chosen or middle_slices(volume, COARSE_MM))
    if not chosen:
        course = _canal_course(known, localiser.classes.index("canal"))
        if course is None:
            return None
        more = [i for i in _slices_between(volume, *course, NEAR_MM) if i not in known]
        known |= _segmented(volume, localiser, more) if more else {}
    return _fused(volume, localiser.classes, dict(sorted(known.items())))


def _segmented(volume: Volume, localiser: Localiser, indices: Sequence[int]) -> dict[int, F32]:
    row_mm, col_mm, _ = volume.spacing_mm
    probabilities = localiser.segment(np.ascontiguousarray(volume.pixels[list(indices)]), (row_mm, col_mm))
    return dict(zip(indices, probabilities, strict=True))


def _canal_course(known: Mapping[int, F32], canal: int) -> tuple[float, float] | None:
    """The slice positions between which the canal's centre runs; long runs count, blobs beside the spine do not.

    Which slices of a coarse look happened to be taken must not decide which are looked at closely.
    """
    found = {i: p[canal] > 0.5 for i, p in known.items()}
    weight = np.stack([mask.sum(axis=1) * float(mask.any(axis=1).sum()) for mask in found.values()])  # (N, H)
    mass = weight.sum(axis=0)
    rows = np.flatnonzero(mass > 0)
    if not len(rows):
        return None
    centres = (weight[:, rows] * np.array(list(found))[:, None]).sum(axis=0) / mass[rows]
    low, high = np.quantile(centres, COURSE_QUANTILES)
    return float(low), float(high)


def _fused(volume: Volume, classes: tuple[str, ...], known: Mapping[int, F32]) -> Midline | None:
    indices = list(known)
    probabilities = np.stack(list(known.values()))  # (N, C, H, W)
    row_mm, col_mm, _ = volume.spacing_mm
    heights = volume.heights_mm[indices]
    canal = _continuous(probabilities[:, classes.index("canal")], heights, (row_mm, col_mm))
    if canal is None:
        return None
    weight = canal.sum(axis=2)  # (N, H)
    rows = np.flatnonzero(weight.sum(axis=0) * col_mm > 2.0)
    if len(rows) < 2 or (rows[-1] - rows[0]) * row_mm < MIN_CANAL_MM:
        return None
    raw = _centroid(heights, weight[:, rows])
    centre = course(rows, raw, weight[:, rows].sum(axis=0), probabilities.shape[2], row_mm)
    near = np.exp(-0.5 * ((heights[:, None] - centre[None, :]) / FUSION_MM) ** 2)  # (N, H)
    near /= np.maximum(near.sum(axis=0), 1e-9)
    maps = np.einsum("nh,nchw->chw", near.astype(np.float32), probabilities)
    tube = np.einsum("nh,nhw->hw", near.astype(np.float32), canal)
    mass = tube.sum(axis=1)
    rows = np.flatnonzero(mass * col_mm > 2.0)
    if len(rows) < 2:
        return None
    columns = (tube[rows] * np.arange(tube.shape[1])).sum(axis=1) / mass[rows]
    columns = ndimage.gaussian_filter1d(np.interp(np.arange(rows[0], rows[-1] + 1), rows, columns), 3.0 / row_mm)
    columns, first, last = _extended(columns, int(rows[0]), len(mass), row_mm)
    return Midline(
        volume=volume,
        classes=classes,
        maps=maps,
        columns=columns,
        slices=np.interp(centre, volume.heights_mm, np.arange(len(volume.slices))),
        first=first,
        last=last,
        canal=canal,
        heights_mm=heights,
    )


def _centroid(heights: F64, weight: F64) -> F64:
    """The mean height (R,) of weights (N, R) that go on straight lines from slice to slice and end a step outside.

    Between slices far apart, beside a lost one, there is canal, too.
    """
    steps = np.diff(heights)
    first, last = (float(steps[0]), float(steps[-1])) if len(steps) else (1.0, 1.0)
    at = np.r_[heights[0] - first, heights, heights[-1] + last]
    edge = np.zeros((1, weight.shape[1]))
    known = np.concatenate([edge, weight, edge])
    low, high, width = at[:-1, None], at[1:, None], np.diff(at)[:, None]
    area = width * (known[:-1] + known[1:]) / 2
    moment = width * (known[:-1] * (2 * low + high) + known[1:] * (low + 2 * high)) / 6
    return np.asarray(moment.sum(axis=0) / area.sum(axis=0), dtype=np.float64)


def _extended(columns: F64, first: int, height: int, row_mm: float) -> tuple[F64, int, int]:
    """The centreline (H,) carried on along its end tangents, and the rows it now covers."""
    ends = min(len(columns), max(2, int(20 / row_mm)))
    reach = int(EXTEND_MM / row_mm)
    head = (columns[ends - 1] - columns[0]) / (ends - 1)
    foot = (columns[-1] - columns[-ends]) / (ends - 1)
    rows = np.arange(height) - first
    line = np.interp(rows, np.arange(len(columns)), columns)
    line = line + np.minimum(rows, 0) * head + np.maximum(rows - len(columns) + 1, 0) * foot
    last = first + len(columns) - 1
    return line, max(0, first - reach), min(height - 1, last + reach)


def _continuous(canal: F32, heights: F64, spacing_mm: tuple[float, float]) -> F32 | None:
    """The canal's probability (N, H, W) where it hangs together in 3D, and in pieces that go on from there.

    A severe stenosis or a slip cuts the canal in two. What lies beside it, foramina for instance, is removed.
    """
    labels, count = ndimage.label(canal > 0.5, structure=np.ones((3, 3, 3)))
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    order = [int(i) for i in np.argsort(-sizes, kind="stable")[:MAX_PIECES]]
    pieces = [_piece(labels == i + 1, heights, spacing_mm) for i in order]
    kept, ends = [order[0]], [pieces[0]]
    waiting = list(zip(order[1:], pieces[1:], strict=True))
    while (found := next((one for one in waiting if _goes_on(ends, one[1])), None)) is not None:
        waiting.remove(found)
        kept.append(found[0])
        ends.append(found[1])
    return np.where(np.isin(labels, [i + 1 for i in kept]), canal, np.float32(0)).astype(np.float32)


def _piece(mask: NDArray[np.bool_], heights: F64, spacing_mm: tuple[float, float]) -> F64:
    """The two ends (2, 3) of a piece of canal, upper first: down, backward and to the side, in millimetres."""
    index, row, col = np.nonzero(mask)
    points = np.stack([row * spacing_mm[0], col * spacing_mm[1], heights[index]], axis=1)
    down = points[:, 0]
    ends = [points[down <= down.min() + END_MM].mean(axis=0), points[down >= down.max() - END_MM].mean(axis=0)]
    ends[0][0], ends[1][0] = down.min(), down.max()
    return np.stack(ends)


def _goes_on(kept: Sequence[F64], piece: F64) -> bool:
    """Whether a piece of canal begins where the highest or lowest of the kept ones ends."""
    if piece[1, 0] - piece[0, 0] < MIN_PIECE_MM:
        return False
    upper, lower = min(kept, key=lambda one: one[0, 0])[0], max(kept, key=lambda one: one[1, 0])[1]
    for end, start in ((lower, piece[0]), (piece[1], upper)):
        down, back, aside = start - end
        gap = max(float(down), 0.0)  # no curve is steeper than 45 degrees
        if -OVERLAP_MM <= down <= EXTEND_MM and abs(back) <= STEP_BACK_MM + gap and abs(aside) <= ASIDE_MM + gap:
            return True
    return False
