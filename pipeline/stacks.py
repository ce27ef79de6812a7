"""Frames into stacks: parallel, evenly spaced, sorted along the normal. An angled block is a stack of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cauda.core.domain import F64
from cauda.pipeline.frames import Frame

PARALLEL = 0.01  # largest difference of a direction cosine within a stack, about half a degree
SAME_PLACE_MM = 0.05
STATION_MM = 60.0
USUAL_GAP_MM = 4.0  # for a slice on its own whose header says nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """Evenly spaced parallel frames and their affine (column, row, slice, 1) -> mm LPS."""

    frames: tuple[Frame, ...]
    affine: F64
    duplicates: int = 0  # frames left out because another lies at the same place

    @property
    def normal(self) -> F64:
        """The slice normal."""
        return self.frames[0].normal

    @property
    def plane(self) -> str:
        """``sagittal``, ``coronal`` or ``axial``: the patient axis nearest to the normal."""
        return ("sagittal", "coronal", "axial")[int(np.abs(self.normal).argmax())]


def stacks(frames: Sequence[Frame]) -> list[Stack]:
    """All stacks of a series, in no particular order; instance numbers play no part."""
    found = []
    for parallel in _parallel(frames):
        for variant in (one for station in _stations(parallel) for one in _variants(station)):
            kept, left_out = _places(variant)
            runs = _even_runs(kept)
            found += [
                Stack(frames=tuple(run), affine=_affine(run), duplicates=left_out if i == 0 else 0)
                for i, run in enumerate(runs)
            ]
    return found


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
    return groups if _overlaid(frames) else [frames]


def _in_plane(frame: Frame) -> F64:
    return np.array([frame.right @ frame.position, frame.down @ frame.position])


def _variants(frames: list[Frame]) -> list[list[Frame]]:
    """Split by image type, then echo, then time point, as long as frames lie on top of each other."""
    groups = [frames]
    for index in range(len(frames[0].variant)):
        groups = [
            part
            for group in groups
            for part in (_split(group, lambda frame: frame.variant[index]) if _overlaid(group) else [group])  # noqa: B023  # used at once
        ]
    return groups


def _split(frames: Iterable[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    parts: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[key(frame)].append(frame)
    return list(parts.values())


def _sorted(frames: list[Frame]) -> list[Frame]:
    normal = frames[0].normal
    return sorted(frames, key=lambda frame: (float(normal @ frame.position), frame.ref.sop_instance_uid))


def _same_place(a: Frame, b: Frame) -> bool:
    """In one plane; two pictures of one plane cannot both be slices of a stack."""
    return abs(float(a.normal @ (a.position - b.position))) < SAME_PLACE_MM


def _overlaid(frames: list[Frame]) -> bool:
    ordered = _sorted(frames)
    return any(_same_place(a, b) for a, b in pairwise(ordered))


def _places(frames: list[Frame]) -> tuple[list[Frame], int]:
    """One frame a place, and how many were left out."""
    kept: list[Frame] = []
    for frame in _sorted(frames):
        if not kept or not _same_place(kept[-1], frame):
            kept.append(frame)
    return kept, len(frames) - len(kept)


def _even_runs(frames: list[Frame]) -> list[list[Frame]]:
    """Cut where the step from slice to slice differs from the usual one: a gap, or the next block."""
    if len(frames) < 3:
        return [frames]
    positions = np.array([frame.position for frame in frames])
    steps = np.diff(positions, axis=0)
    usual = np.median(steps, axis=0)
    tolerance = max(0.2, 0.1 * float(np.linalg.norm(usual)))
    cuts = [i + 1 for i, step in enumerate(steps) if np.linalg.norm(step - usual) > tolerance]
    edges = [0, *cuts, len(frames)]
    return [frames[a:b] for a, b in pairwise(edges)]


def _affine(frames: Sequence[Frame]) -> F64:
    first = frames[0]
    affine = np.eye(4)
    affine[:3, 0] = first.right * first.spacing[1]
    affine[:3, 1] = first.down * first.spacing[0]
    if len(frames) > 1:
        affine[:3, 2] = (frames[-1].position - first.position) / (len(frames) - 1)
    else:
        affine[:3, 2] = first.normal * (first.gap_mm or USUAL_GAP_MM)
    affine[:3, 3] = first.position
    return affine
