"""Frames of one contrast into stacks: parallel, sorted along the normal. An angled block is a stack of its own.

Lost slices, rounded positions and steps of two sizes do not cut a stack: each slice carries its own position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cauda.core.domain import F64
from cauda.pipeline.frames import Frame

PARALLEL = 0.01  # largest difference of a direction cosine within a stack, about half a degree
SAME_PLACE_MM = 0.05
SAME_PLACE_SHARE = 0.25  # of the stated distance between slices: nearer ones show the same place
SAME_PLACE_MOST_MM = 1.0
STATION_MM = 60.0
USUAL_GAP_MM = 4.0  # for a slice on its own whose header says nothing
EVEN_MM = 0.05  # positions this near to an even grid are on it
LOST_SLICES = 2  # a gap of up to this many slices does not cut an axial stack
STEP_SHARE = 0.1  # by which steps of one axial stack differ
STEP_MM = 0.2
JITTER = 1.5  # times the usual deviation of steps, where most of them deviate
JITTER_QUANTILE = 0.6  # cuts between blocks are fewer than this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """Parallel frames of one contrast and their affine (column, row, slice, 1) -> mm LPS."""

    frames: tuple[Frame, ...]
    affine: F64
    origins_mm: F64 | None = None  # (S, 3), where the frames are not evenly spaced; then the affine has the usual step

    @property
    def normal(self) -> F64:
        """The slice normal."""
        return self.frames[0].normal

    @property
    def plane(self) -> str:
        """``sagittal``, ``coronal`` or ``axial``."""
        return self.frames[0].plane


def stacks(frames: Sequence[Frame], same_picture: Callable[[Frame, Frame], bool] | None = None) -> list[Stack]:
    """All stacks, in no particular order; instance numbers play no part.

    Of frames at one place that show the same picture one is kept; of frames that differ there none is, since nothing
    tells which is wanted. Without ``same_picture`` they count as the same.
    """
    found = []
    for group in geometric_groups(frames):
        twice = {id(frame) for place in crowded(group) for frame in _left_out(place, same_picture)}
        kept = _sorted([frame for frame in group if id(frame) not in twice])
        found += [_stack(run) for run in _runs(kept)]
    return found


def geometric_groups(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Parallel frames of one size and one station of the table."""
    return [station for parallel in _parallel(frames) for station in _stations(parallel)]


def crowded(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of a geometric group that share a place, at least two at each."""
    places: list[list[Frame]] = []
    for frame in _sorted(frames):
        if places and _same_place(places[-1][0], frame):
            places[-1].append(frame)
        else:
            places.append([frame])
    return [place for place in places if len(place) > 1]


def _left_out(place: Sequence[Frame], same_picture: Callable[[Frame, Frame], bool] | None) -> Sequence[Frame]:
    if same_picture is None or all(same_picture(place[0], other) for other in place[1:]):
        return place[1:]
    return place


def _parallel(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if _fits(group[0], frame):
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _fits(a: Frame, b: Frame) -> bool:
    return (
        a.shape == b.shape
        and np.allclose(a.spacing, b.spacing, rtol=1e-3)
        and np.abs(a.right - b.right).max() < PARALLEL
        and np.abs(a.down - b.down).max() < PARALLEL
    )


def _stations(frames: list[Frame]) -> list[list[Frame]]:
    """A whole spine in one series: the same planes again, further down the table."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if float(np.abs(_in_plane(frame) - _in_plane(group[0])).max()) < STATION_MM:
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups if crowded(frames) or frames[0].plane == "sagittal" else [frames]


def _in_plane(frame: Frame) -> F64:
    return np.array([frame.right @ frame.position, frame.down @ frame.position])


def _sorted(frames: Sequence[Frame]) -> list[Frame]:
    if not frames:
        return []
    normal = frames[0].normal
    return sorted(frames, key=lambda frame: (float(normal @ frame.position), frame.ref.sop_instance_uid))


def _same_place(a: Frame, b: Frame) -> bool:
    """In one plane, as far as positions are known; two pictures of one plane cannot both be slices of a stack."""
    gap = min(a.gap_mm or 0.0, b.gap_mm or 0.0)
    reach = min(max(SAME_PLACE_MM, SAME_PLACE_SHARE * gap), SAME_PLACE_MOST_MM)
    return abs(float(a.normal @ (a.position - b.position))) < reach


def _runs(frames: list[Frame]) -> list[list[Frame]]:
    """Sagittal frames stay together. Axial ones are cut where the next block begins: by a step unlike the others.

    One or two lost slices make a step of twice or three times the usual one, in the same direction.
    """
    if len(frames) < 3 or frames[0].plane == "sagittal":
        return [frames] if frames else []
    positions = np.array([frame.position for frame in frames])
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    usual = steps[int(np.argsort(lengths)[(len(lengths) - 1) // 3])]  # lost slices make steps longer, never shorter
    length = float(np.linalg.norm(usual))
    deviations = np.min([np.linalg.norm(steps - (lost + 1) * usual, axis=1) for lost in range(LOST_SLICES + 1)], axis=0)
    jitter = max(JITTER * float(np.quantile(deviations, JITTER_QUANTILE)), 2 * _rounding_mm(positions))
    tolerance = max(STEP_MM, STEP_SHARE * length, min(jitter, 0.45 * length))
    cuts = [index + 1 for index, deviation in enumerate(deviations) if deviation > tolerance]
    edges = [0, *cuts, len(frames)]
    return [frames[a:b] for a, b in pairwise(edges)]


def _rounding_mm(positions: F64) -> float:
    """How far positions (S, 3) that were written in whole millimetres, or in tenths, may lie from the true ones."""
    for unit in (1.0, 0.1):
        if np.abs(positions / unit - np.rint(positions / unit)).max() < 1e-6:
            return float(unit / 2 * np.sqrt(3))
    return 0.0


def _stack(frames: Sequence[Frame]) -> Stack:
    first, positions = frames[0], np.array([frame.position for frame in frames])
    affine = np.eye(4)
    affine[:3, 0] = first.right * first.spacing[1]
    affine[:3, 1] = first.down * first.spacing[0]
    affine[:3, 2] = first.normal * (first.gap_mm or USUAL_GAP_MM)
    affine[:3, 3] = first.position
    if len(frames) == 1:
        return Stack(frames=tuple(frames), affine=affine)
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(frames) - 1)
    even = positions[0] + np.arange(len(frames))[:, None] * affine[:3, 2]
    if np.abs(positions - even).max() <= EVEN_MM:
        return Stack(frames=tuple(frames), affine=affine)
    affine[:3, 2] = np.median(np.diff(positions, axis=0), axis=0)
    return Stack(frames=tuple(frames), affine=affine, origins_mm=positions)
