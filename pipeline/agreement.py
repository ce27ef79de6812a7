"""Whether axial and sagittal pictures show the same body at the same place, in the same size.

Where an axial slice crosses a sagittal one, both show the same line of the patient. The grey values along all such
lines are compared by mutual information, which asks nothing of the contrast: T1, T2 and STIR of one place belong
together however bright each tissue is. The comparison is repeated with the axial picture moved along the spine, to
the back, to the side, and scaled: truth is where it is best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F32, F64, Volume
from cauda.pipeline.axial import AxialSlice, through_canal
from cauda.pipeline.crop import viewing_axes
from cauda.pipeline.levels import Levels

STEP_MM = 2.0  # along a line, and of every shift
FRONT_MM, BACK_MM = -50.0, 46.0  # of a line, from the canal's centre
ASIDE_MM = 20.0  # lines are looked at this far to either side of the canal
LINES_MM = 4.0  # and no closer than this
ALONG_MM = 40.0  # the largest shift along the spine that is tried
DEPTH_MM = 12.0  # to front and back
SIDE_MM = 18.0
MAX_SLICES = 24  # more tell nothing new
NEAR_MM = 4.0  # a peak this near to no shift is at no shift
APART_MM = 7.0  # and one farther away is somewhere else
SCALES = (0.60, 0.70, 0.78, 0.86, 0.93, 1.075, 1.16, 1.28, 1.43, 1.67)
SAME_SIZE = 0.1  # sizes that differ less are not told apart: fat lies a pixel off where contrasts differ
CANAL_MM = (6.0, 14.0)  # to the side and in depth, where contrast is looked at
_BINS = 16
_FLAT = 25  # samples: brightness that changes slower than this is the coil's
_FOV_MM = 90.0  # what is cut from an axial slice, to either side of the canal
_MIN_SAMPLES = 400
_MIN_CANAL = 30

Classes = NDArray[np.int16]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How axial slices fit a sagittal series. Millimetres say where the axial picture would have to move to fit best.

    Informations are in nats. ``scale`` is by how much the stated size of axial pixels (across, down) is too large.
    """

    lines: int
    along_mm: float  # to the head
    depth_mm: float  # to the back
    side_mm: float  # to the patient's left
    most: float  # information there
    here: float  # at no shift or next to it along the spine
    elsewhere: float  # the most at any other place along the spine
    chance: float  # what pictures of other places share
    scale: tuple[float, float]
    scaled: float  # information at that scale, the best of those that differ from what is stated
    unscaled: float  # and as stated
    alike: float  # correlation of the grey values in and round the canal

    @property
    def ambiguity(self) -> float:
        """How near another place comes to this one: 0 not at all, 1 as good, more: better."""
        return max(self.elsewhere - self.chance, 0.0) / max(self.here - self.chance, 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lines:
    """Where axial slices cross sagittal ones: L lines of T samples, in millimetres on the axial slice."""

    across: F64  # (L, T) from the canal's centre, to the patient's left
    down: F64  # (L, T) to the back
    frames: F64  # (L, 6) row and column of the centre, rows and columns a millimetre across, the same down
    parts: Index  # (L, 3) where the line's axial picture starts in ``pixels``, its height and width
    pixels: F32  # the axial pictures one after the other, as shares of what counts as bright in each
    sagittal: Classes  # (L, D, T + 2 room) grey classes at every shift along the spine, with room for those in depth
    grey: F32  # (L, T) of the sagittal picture, at no shift

    @property
    def room(self) -> int:
        """Samples beyond either end."""
        return int(self.sagittal.shape[2] - self.across.shape[1]) // 2

    @property
    def middle(self) -> int:
        """The place of no shift among all."""
        return int(self.sagittal.shape[1]) // 2


def agreement(volumes: Sequence[Volume], levels: Levels) -> Agreement | None:
    """How axial volumes fit the sagittal one that named the levels; None where they do not meet."""
    met = lines(through_canal(volumes, levels.canal_mm), levels)
    return None if met is None else fitted(met)


def fitted(met: Lines) -> Agreement | None:
    """The same from lines; None where too little of them lies on the axial pictures."""
    axial, inside = sampled(met)
    if inside.sum() < _MIN_SAMPLES:
        return None
    classes = _classes(axial, inside)
    depths = range(-met.room, met.room + 1, 2)
    found = np.array([[_information(met, classes, inside, d, a) for a in depths] for d in range(met.sagittal.shape[1])])
    along = (np.arange(len(found)) - met.middle) * STEP_MM
    best = found.max(axis=1)
    where = int(best.argmax())
    most, side, depth = _beside(met, where, depths[int(found[where].argmax())])
    scales = _scaled(_fewer(met))
    scale = max((one for one in scales if abs(one[0] - 1) > SAME_SIZE), key=lambda one: scales[one])
    return Agreement(
        lines=len(met.across),
        along_mm=float(along[where]),
        depth_mm=depth * STEP_MM,
        side_mm=side,
        most=most,
        here=float(best[np.abs(along) <= NEAR_MM].max()),
        elsewhere=float(best[np.abs(along) >= APART_MM].max()),
        chance=float(np.median(best)),
        scale=scale,
        scaled=scales[scale],
        unscaled=scales[1.0, 1.0],
        alike=_alike(met, axial, inside),
    )


def _alike(met: Lines, axial: F32, inside: NDArray[np.bool_]) -> float:
    """The correlation of both pictures' greys in and round the canal, at no shift; 0 where it cannot be said."""
    near = inside & (np.abs(met.across) <= CANAL_MM[0]) & (np.abs(met.down) <= CANAL_MM[1])
    a, s = axial[near], _flat(met.grey)[near]
    if len(a) < _MIN_CANAL or s.std() == 0 or a.std() == 0:
        return 0.0
    return float(np.corrcoef(a, s)[0, 1])


def _fewer(met: Lines) -> Lines:
    """Every second line: scales are many."""
    some = slice(None, None, 2)
    return replace(
        met, across=met.across[some], down=met.down[some], frames=met.frames[some], parts=met.parts[some],
        sagittal=met.sagittal[some], grey=met.grey[some],
    )  # fmt: skip


def _beside(met: Lines, along: int, depth: int) -> tuple[float, float, int]:
    """The most information at one shift along the spine, at which shift to the side (mm) and in depth (samples)."""
    best = (-np.inf, 0.0, depth)
    for side in np.arange(-SIDE_MM, SIDE_MM + 1, 3.0):
        axial, inside = sampled(met, side_mm=float(side))
        if inside.sum() < _MIN_SAMPLES:
            continue
        classes = _classes(axial, inside)
        for one in range(max(depth - 2, -met.room), min(depth + 2, met.room) + 1):
            best = max(best, (_information(met, classes, inside, along, one), float(side), one))
    return best


def _scaled(met: Lines) -> dict[tuple[float, float], float]:
    """The information by scale (across, down), next to no shift."""
    pairs = [(1.0, 1.0)] + [pair for one in SCALES for pair in ((one, one), (one, 1 / one))]
    return {pair: information_here(met, pair) for pair in pairs}


def information_here(met: Lines, scale: tuple[float, float] = (1.0, 1.0)) -> float:
    """What both pictures share next to no shift; 0 where too little of them meets."""
    axial, inside = sampled(met, scale)
    if inside.sum() < _MIN_SAMPLES:
        return 0.0
    classes = _classes(axial, inside)
    return max(
        _information(met, classes, inside, met.middle + along, depth) for along in (-1, 0, 1) for depth in (-2, 0, 2)
    )


def _classes(axial: F32, inside: NDArray[np.bool_]) -> Classes:
    """Grey classes (L, T) of equal size, times the number of classes."""
    edges = np.quantile(axial[inside], np.arange(1, _BINS) / _BINS)
    return (np.searchsorted(edges, axial.ravel()) * _BINS).reshape(axial.shape).astype(np.int16)


def _information(met: Lines, classes: Classes, inside: NDArray[np.bool_], along: int, depth: int) -> float:
    """Mutual information in nats of axial and sagittal classes, less what chance gives so many samples."""
    start = met.room + depth
    pairs = (classes + met.sagittal[:, along, start : start + classes.shape[1]])[inside]
    joint = np.bincount(pairs, minlength=_BINS * _BINS).reshape(_BINS, _BINS) / len(pairs)
    alone = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    some = joint > 0
    shared = float((joint[some] * np.log(joint[some] / alone[some])).sum())
    return shared - (_BINS - 1) ** 2 / (2 * len(pairs))


def sampled(met: Lines, scale: tuple[float, float] = (1.0, 1.0), side_mm: float = 0.0) -> tuple[F32, NDArray[np.bool_]]:
    """The axial picture (L, T) along the lines, flattened, and which samples lie on it; see ``grey_along``."""
    grey, inside = grey_along(met, scale, side_mm)
    return _flat(grey), inside


def grey_along(
    met: Lines, scale: tuple[float, float] = (1.0, 1.0), side_mm: float = 0.0
) -> tuple[F32, NDArray[np.bool_]]:
    """Axial grey values (L, T) along the lines, and which samples lie on the picture.

    As if its pixels were ``scale`` (across, down) times smaller than stated, and the picture moved to the left.
    """
    across, down = met.across * scale[0] - side_mm, met.down * scale[1]
    frames = met.frames[:, :, None]
    rows = np.rint(frames[:, 0] + across * frames[:, 2] + down * frames[:, 4]).astype(np.intp)
    cols = np.rint(frames[:, 1] + across * frames[:, 3] + down * frames[:, 5]).astype(np.intp)
    start, height, width = (met.parts[:, i, None] for i in range(3))
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    at = start + np.clip(rows, 0, height - 1) * width + np.clip(cols, 0, width - 1)
    return met.pixels[at], inside


def _flat(grey: F32) -> F32:
    """Without what changes slowly along the last axis: the coil's doing."""
    bright = np.log1p(20.0 * np.maximum(grey, 0.0))
    return np.asarray(bright - ndimage.uniform_filter1d(bright, _FLAT, axis=-1, mode="nearest"), dtype=np.float32)


def lines(slices: Sequence[AxialSlice], levels: Levels) -> Lines | None:
    """The lines in which axial slices cross the sagittal ones near the canal; None where there is none."""
    if len(slices) > MAX_SLICES:
        slices = [slices[i] for i in np.linspace(0, len(slices) - 1, MAX_SLICES).round().astype(int)]
    volume = levels.volume
    row_mm, col_mm, gap = volume.spacing_mm
    right, down = volume.affine[:3, 0] / col_mm, volume.affine[:3, 1] / row_mm
    reach = max(ASIDE_MM / gap, 0.5)
    stride = max(1, round(LINES_MM / gap))
    room = round(DEPTH_MM / STEP_MM)
    along = np.arange(FRONT_MM, BACK_MM + STEP_MM / 2, STEP_MM)
    wide = np.arange(-room, len(along) + room) * STEP_MM + FRONT_MM
    pictures: list[F32] = []
    frames, parts, at, indices, rows, cols = [], [], [], [], [], []
    start = 0
    for one in slices:
        axes = viewing_axes(one.volume)
        normal = np.cross(*axes)
        picture, frame = _cut(one, axes)
        center_col, _, center = volume.voxel(one.center_mm)
        for index in range(0, len(volume.pixels), stride):
            if abs(index - center) > reach:
                continue
            origin = volume.origin_mm(index) - one.center_mm
            col = center_col * col_mm + wide
            row = -(normal @ origin + col * (normal @ right)) / (normal @ down)
            points = origin[:, None] + right[:, None] * col + down[:, None] * row
            at.append([axis @ points[:, room : room + len(along)] for axis in axes])
            frames.append(frame)
            parts.append((start, *picture.shape))
            indices.append(index)
            rows.append(row / row_mm)
            cols.append(col / col_mm)
        pictures.append(picture.ravel())
        start += picture.size
    if not at:
        return None
    across, back = np.array(at).transpose(1, 0, 2)
    classes, grey = _sagittal(volume, np.array(indices), np.array(rows), np.array(cols))
    return Lines(
        across=across,
        down=back,
        frames=np.array(frames),
        parts=np.array(parts),
        pixels=np.concatenate(pictures),
        sagittal=classes,
        grey=grey[:, room : room + len(along)],
    )


def _cut(one: AxialSlice, axes: tuple[F64, F64]) -> tuple[F32, tuple[float, ...]]:
    """The part of a slice round the canal, smoothed to the lines' resolution, and its row of ``Lines.frames``."""
    volume = one.volume
    inverse = np.linalg.inv(volume.affine[:3, :3])
    across, down = (inverse @ axis for axis in axes)  # columns, rows a millimetre
    col, row, _ = volume.voxel(one.center_mm)
    row_mm, col_mm, _ = volume.spacing_mm
    high, wide = int(_FOV_MM / row_mm), int(_FOV_MM / col_mm)
    top, left = max(0, round(row) - high), max(0, round(col) - wide)
    pixels = volume.pixels[one.index, top : round(row) + high, left : round(col) + wide]
    size = (max(1, round(STEP_MM / row_mm)), max(1, round(STEP_MM / col_mm)))
    smooth = ndimage.uniform_filter(pixels, size, mode="nearest")
    bright = max(float(np.percentile(smooth[::3, ::3], 95)), 1e-6)
    return smooth / np.float32(bright), (row - top, col - left, across[1], across[0], down[1], down[0])


def _sagittal(volume: Volume, indices: Index, rows: F64, cols: F64) -> tuple[Classes, F32]:
    """Grey classes (L, D, T) of the sagittal slices along lines at every shift, and greys (L, T) at none."""
    fine = STEP_MM / 2
    row_mm, col_mm, _ = volume.spacing_mm
    row = np.rint((rows + 0.5) * row_mm / fine - 0.5).astype(np.intp)
    col = np.rint((cols + 0.5) * col_mm / fine - 0.5).astype(np.intp)
    left, end = int(col.min()) - _FLAT, int(col.max()) + _FLAT + 1
    known, place = np.unique(indices, return_inverse=True)
    pictures = np.stack([_resampled(volume, int(index), fine, left, end) for index in known])
    pictures /= max(float(np.percentile(pictures[:, ::5, ::5], 95)), 1e-6)
    flat = _flat(pictures[:, :, ::2]).repeat(2, axis=2)[:, :, : pictures.shape[2]]  # samples are two pixels apart
    high = pictures.shape[1]
    here = flat[place[:, None], row.clip(0, high - 1), col - left]
    edges = np.quantile(here, np.arange(1, _BINS) / _BINS)
    level = np.linspace(-4, 4, 256)
    shades = ((flat + 4) * (255 / 8)).clip(0, 255).astype(np.uint8)
    classes = np.searchsorted(edges, level).astype(np.int16)[shades]
    shifts = np.arange(-round(ALONG_MM / STEP_MM), round(ALONG_MM / STEP_MM) + 1) * round(STEP_MM / fine)
    moved = (row[:, None, :] - shifts[:, None]).clip(0, high - 1)  # rows run to the feet
    grey = pictures[place[:, None], row.clip(0, high - 1), col - left]
    return classes[place[:, None, None], moved, (col - left)[:, None, :]], grey


def _resampled(volume: Volume, index: int, pixel_mm: float, left: int, end: int) -> F32:
    """Columns of a sagittal slice in square pixels, smoothed to an axial slice's thickness along the spine."""
    row_mm, col_mm, _ = volume.spacing_mm
    size = (max(1, round(2 * STEP_MM / row_mm)), max(1, round(STEP_MM / col_mm)))
    picture = ndimage.uniform_filter(volume.pixels[index], size, mode="nearest")
    high, wide = picture.shape
    row = ((np.arange(max(1, int(high * row_mm / pixel_mm))) + 0.5) * pixel_mm / row_mm - 0.5).clip(0, high - 1.001)
    col = ((np.arange(left, end) + 0.5) * pixel_mm / col_mm - 0.5).clip(0, wide - 1.001)
    top, first = row.astype(np.intp), col.astype(np.intp)
    down, right = (row - top).astype(np.float32)[:, None], (col - first).astype(np.float32)
    rows = picture[top] * (1 - down) + picture[top + 1] * down
    return np.asarray(rows[:, first] * (1 - right) + rows[:, first + 1] * right, dtype=np.float32)
