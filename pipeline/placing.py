"""Axial images judged by picture: their contrast, their position along the spine, their scale.

An acquisition is judged as a whole, and then again at each level by the slices round it: most of a study may lie right
and one block wrong. Headers are believed nowhere here. A Frame of Reference UID that both share only decides what is
done where the picture cannot tell: then it is enough, and without it the position is not verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cauda.core.domain import Reason, Volume
from cauda.pipeline.agreement import SCALES, Agreement, agreement, fitted, information_here, lines
from cauda.pipeline.axial import AxialSlice, through_canal
from cauda.pipeline.canal import brightness, fluid_map
from cauda.pipeline.frames import text
from cauda.pipeline.levels import Levels
from cauda.pipeline.series import Acquisition

# The limits below, and the values beside them, were found on phantoms and SPIDER. `make picture-rates` measures what
# they catch and withhold; docs/picture-checks.md has the result.
DISPLACED_MM = 5.0  # along the spine; the next slice is 4 mm away
BESIDE_MM = 8.0  # to the side and in depth: the crop reaches farther, and breathing moves that much
SURE = 0.7  # ambiguity up to which a place is the only one
BETTER = 1.15  # how many times the information another place or scale must share to be believed,
LEAST = 0.03  # and by how many nats more
BETTER_OF_FEW = 1.6  # the same of a whole acquisition where few lines cross
FEW_LINES = 100
SCALE_LEAST = 0.05
ROUND_MM = 14.0  # slices this near to a level's own are judged with it: three at least, of another level's none
INVERTED = -0.6  # ``alike``; T1 reaches -0.5 where nothing but the canal has a grey of its own
HARDLY_BRIGHT, BRIGHT = 0.05, 0.2  # ``brightness``: T1 ends at 0.03, of one block at 0.11; T2 begins at 0.45
ALIKE = 0.5  # T1 ends at 0.4
TRUE_SIZE = 1.5  # how many times the information at another size, to say that the size is not true,
TOGETHER = 0.1  # and by how many nats it is above chance
_EVEN = tuple((one, one) for one in np.exp(np.arange(-0.60, 0.61, 0.04)).tolist())  # a step moves the canal by 4 mm
_UNEVEN = tuple(pair for one in SCALES for pair in ((one, 1 / one), (one, 1.0), (1.0, one)))
_FEW = 8  # slices are enough to try another size of pixels
_FEW_TRIED = 30  # lines


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """An axial acquisition with its volumes; ``reason`` says why it cannot be used, ``assumed`` that positions were."""

    series: Acquisition
    volumes: tuple[Volume, ...]
    assumed: bool
    reason: Reason | None = None


def place(one: Acquisition, volumes: Sequence[Volume], sagittal: Acquisition, levels: Levels) -> Placed:
    """Check one axial acquisition against the sagittal pictures that named the levels."""
    frame_of_reference = text(one.header, "FrameOfReferenceUID")
    shared = bool(frame_of_reference) and frame_of_reference == text(sagittal.header, "FrameOfReferenceUID")
    reason = against(volumes, levels, shared=shared)
    return Placed(series=one, volumes=tuple(volumes), assumed=not shared, reason=reason)


def at_level(slices: Sequence[AxialSlice], levels: Levels) -> Reason | None:
    """What speaks against the slices round one level, of an acquisition that fits as a whole."""
    return _against_some(_round(slices, levels), levels)


def in_block(volume: Volume, levels: Levels) -> Reason | None:
    """What speaks against one angled block, of an acquisition that fits as a whole."""
    return _against_some(through_canal([volume], levels.canal_mm), levels)


def _against_some(slices: Sequence[AxialSlice], levels: Levels) -> Reason | None:
    """The same from a few slices: whether they clearly fit better elsewhere, at another scale, or inverted.

    That no other place comes near is asked of the whole acquisition only: by itself one disc's block is like another's.
    """
    met = lines(slices, levels)
    found = None if met is None else fitted(met)
    if found is None:
        return None
    if other_scale(found):
        return Reason.PIXEL_SIZE_DOUBTFUL
    if displaced(found, better=BETTER):
        return Reason.POSITION_NOT_SHARED
    return Reason.GREY_VALUES_INVERTED if found.alike < INVERTED else None


def _round(slices: Sequence[AxialSlice], levels: Levels) -> list[AxialSlice]:
    """The slices of a level's block that lie near the one that shows the level best."""
    volume, heights = slices[0].volume, slices[0].volume.heights_mm
    return [
        one
        for one in through_canal([volume], levels.canal_mm)
        if abs(heights[one.index] - heights[slices[0].index]) <= ROUND_MM
    ]


def against(volumes: Sequence[Volume], levels: Levels, *, shared: bool) -> Reason | None:
    """What speaks against these images, taken as a whole."""
    found = agreement(volumes, levels)
    if found is None:
        return None if shared else Reason.POSITION_NOT_SHARED
    if other_scale(found):
        return Reason.PIXEL_SIZE_DOUBTFUL
    dark = _fluid_dark(volumes, levels, found)
    if (dark or not verified(found)) and (untrue := _spacing_not_true(volumes, levels, found)):
        return untrue
    if displaced(found) or not (shared or verified(found)):
        return Reason.POSITION_NOT_SHARED
    return dark


def elsewhere(found: Agreement) -> bool:
    """Whether the pictures fit best at another place than stated."""
    beside = max(abs(found.side_mm), abs(found.depth_mm)) > BESIDE_MM
    return beside or abs(found.along_mm) > DISPLACED_MM


def verified(found: Agreement) -> bool:
    """Whether the pictures lie on each other, and no other place along the spine comes near."""
    return not elsewhere(found) and found.ambiguity <= SURE


def displaced(found: Agreement, better: float | None = None) -> bool:
    """Whether the pictures clearly fit better at another place: so many times, by default as many lines allow."""
    if better is None:
        better = BETTER if found.lines >= FEW_LINES else BETTER_OF_FEW
    return elsewhere(found) and found.most > better * found.unscaled + LEAST


def other_scale(found: Agreement) -> bool:
    """Whether the pictures clearly fit better when one is taken for larger or smaller than stated."""
    return found.scaled > BETTER * max(found.unscaled, found.most) + SCALE_LEAST


def _fluid_dark(volumes: Sequence[Volume], levels: Levels, found: Agreement) -> Reason | None:
    """Why the canal's fluid, bright in the sagittal picture, is dark here; None where it is bright.

    Severe stenosis at all levels shown hides the fluid; then the pictures are alike all the same.
    """
    if found.alike < INVERTED:
        return Reason.GREY_VALUES_INVERTED
    bright = brightness(fluid_map(through_canal(volumes, levels.canal_mm)))
    return Reason.NOT_T2 if bright <= (BRIGHT if found.alike < ALIKE else HARDLY_BRIGHT) else None


def _spacing_not_true(volumes: Sequence[Volume], levels: Levels, stated: Agreement) -> Reason | None:
    """Which pixels are of another size than stated: the one that puts the pictures together.

    A size may have been replaced with the image's corner kept where it was, or its middle.
    """
    axial = [(scale, middle) for scale in _EVEN for middle in (False, True)] + [(scale, False) for scale in _UNEVEN]
    tried = ([_respaced(one, *size) for one in volumes] for size in axial)
    found = agreement(max(tried, key=lambda one: _shared(one, levels)), levels)
    if found is not None and _together(found, stated):
        return Reason.PIXEL_SIZE_DOUBTFUL
    resized = (_resized(levels, scale) for scale in _EVEN)
    found = agreement(volumes, max(resized, key=lambda one: _shared(volumes, one)))
    return Reason.SAGITTAL_PIXEL_SIZE_DOUBTFUL if found is not None and _together(found, stated) else None


def _together(found: Agreement, stated: Agreement) -> bool:
    """Whether pictures that did not lie on each other as stated do so now."""
    more = stated.lines < FEW_LINES or found.most > TRUE_SIZE * stated.most
    return more and verified(found) and found.here - found.chance > TOGETHER


def _shared(volumes: Sequence[Volume], levels: Levels) -> float:
    """The information that pictures share as they lie, from a few slices."""
    slices = through_canal(volumes, levels.canal_mm)
    met = lines(slices[:: max(1, len(slices) // _FEW)], levels)
    return 0.0 if met is None or len(met.across) < _FEW_TRIED else information_here(met)


def _respaced(volume: Volume, scale: tuple[float, float], middle: bool = False) -> Volume:
    """With pixels so many times smaller (across columns, down rows); the first one stays, or the middle."""
    affine = volume.affine @ np.diag([1 / scale[0], 1 / scale[1], 1.0, 1.0])
    moved = np.zeros(3)
    if middle:
        _, height, width = volume.pixels.shape
        moved = (volume.affine - affine)[:3, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
        affine[:3, 3] += moved
    origins = None if volume.origins_mm is None else volume.origins_mm + moved
    return replace(volume, affine=affine, origins_mm=origins)


def _resized(levels: Levels, scale: tuple[float, float]) -> Levels:
    volume = _respaced(levels.volume, scale)
    return replace(levels, volume=volume, line=replace(levels.line, volume=volume))
