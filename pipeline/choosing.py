"""Which axial images show which level: the best kind first, others only for levels that those do not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from cauda.core.domain import F64, Level, Point, Reason, StackUse, Volume
from cauda.core.errors import Rejected
from cauda.pipeline.axial import MOST_OBLIQUE, AxialSlice, crossing, reach_mm, slices_at, squareness
from cauda.pipeline.frames import Frame
from cauda.pipeline.levels import Levels
from cauda.pipeline.placing import Placed, at_level, in_block, place
from cauda.pipeline.repeats import unlike
from cauda.pipeline.series import Acquisition, Series, as_read, planned_as_one, preference, unreadable, wanted
from cauda.pipeline.volume import read_volumes

_WHERE_UNKNOWN = {  # which levels such images show, their headers do not say
    Reason.POSITION_NOT_SHARED,
    Reason.PIXEL_SIZE_DOUBTFUL,
    Reason.SAGITTAL_PIXEL_SIZE_DOUBTFUL,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadAxial:
    """An axial acquisition with its volumes."""

    acquisition: Acquisition
    volumes: tuple[Volume, ...]


class AxialImages:
    """The axial images that headers do not forbid, decoded kind by kind, most wanted first, as far as needed."""

    def __init__(self, found: Sequence[Series], uses: dict[Acquisition, StackUse]) -> None:
        usable = wanted(found, "axial")
        self.found = found
        self.uses = uses
        self.uses |= {one: one.use(Reason.NOT_BEST) for one in usable}
        self.read: list[ReadAxial] = []
        self.left_out: dict[Frame, Reason] = {}
        self._kinds = [list(alike) for _, alike in groupby(usable, key=preference)]

    def read_more(self) -> list[ReadAxial]:
        """The next kind; empty where there is no other, or where none of it can be decoded."""
        if not self._kinds:
            return []
        new = [read for one in planned_as_one(self._kinds.pop(0)) if (read := self._read(one)) is not None]
        self.read += new
        return new

    def read_until_one_is_readable(self) -> None:
        """Less wanted kinds are not decoded."""
        while self._kinds and not self.read_more():
            pass

    @property
    def exhausted(self) -> bool:
        """Whether every kind has been read."""
        return not self._kinds

    def _read(self, one: Acquisition) -> ReadAxial | None:
        volumes: list[Volume] = []
        for member in one.each:
            try:
                read = read_volumes(member.frames)
            except Rejected as problem:
                self.uses[member] = unreadable(member, problem)
                continue
            self.left_out |= read.left_out
            self.uses[member] = as_read(member, read)
            volumes += () if read.mixed else read.volumes
        return ReadAxial(acquisition=one, volumes=tuple(volumes)) if volumes else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The slices of every level, where they come from, and why levels have none."""

    placed: tuple[Placed, ...]
    used: tuple[Placed, ...]
    slices: dict[Level, list[AxialSlice]]
    reasons: dict[Level, Reason]
    uses: dict[Acquisition, StackUse] = field(default_factory=dict)


def choose(axial: AxialImages, levels: Levels, sagittal: Acquisition) -> Choice:
    """The slices of each level that is named; less wanted kinds are decoded only while a level has none."""
    placed: list[Placed] = []
    slices: dict[Level, list[AxialSlice]] = {}
    against: dict[Level, Reason] = {}
    refused: dict[Placed, Reason] = {}
    used: list[Placed] = []
    new: Sequence[ReadAxial] = axial.read
    while True:
        checked = [place(one.acquisition, one.volumes, sagittal, levels) for one in new]
        mixed = unlike([one for one in checked if one.reason is None], levels.canal_mm)
        checked = [replace(one, reason=Reason.CONTRASTS_NOT_TOLD_APART) if one in mixed else one for one in checked]
        placed += checked
        usable = [one for one in checked if one.reason is None]
        for level in (level for level in levels.discs if level not in slices):
            for one in usable:
                here, why = _checked(one.volumes, levels.discs[level].point_mm, levels)
                if why is not None:
                    against.setdefault(level, why)
                    refused.setdefault(one, why)
                if here:
                    slices[level] = here
                    used.append(one)
                    break
        if axial.exhausted or all(level in slices for level in levels.discs):
            break
        new = axial.read_more()
    missing = [level for level in levels.discs if level not in slices]
    return Choice(
        placed=tuple(placed),
        used=tuple(dict.fromkeys(used)),
        slices=slices,
        reasons={
            level: why
            for level in missing
            if (why := against.get(level) or _why_missing(level, levels, axial, placed, refused)) is not None
        },
        uses={
            member: _use(one, member, axial.uses[member], slices, refused.get(one))
            for one in placed
            for member in one.series.each
        },
    )


def _checked(volumes: Sequence[Volume], point_mm: Point, levels: Levels) -> tuple[list[AxialSlice], Reason | None]:
    """The slices of a level whose pictures lie where it is said, and what speaks against the first that do not."""
    left, reason = list(volumes), None
    while here := slices_at(left, point_mm, levels.canal_mm):
        if (why := at_level(here, levels)) is None:
            return here, reason
        reason = reason or why
        left = [one for one in left if one is not here[0].volume]
    return [], reason


def _use(
    one: Placed, member: Acquisition, read: StackUse, slices: dict[Level, list[AxialSlice]], refused: Reason | None
) -> StackUse:
    if read.reason is not None:
        return read
    graded = {ref for here in slices.values() for ref in (s.volume.slices[s.index] for s in here)}
    used = any(frame.ref in graded for frame in member.frames)
    return replace(member.use(one.reason or (None if used else refused or Reason.NOT_BEST)), left_out=read.left_out)


def _why_missing(
    level: Level, levels: Levels, axial: AxialImages, placed: Sequence[Placed], refused: Mapping[Placed, Reason]
) -> Reason | None:
    """Why images that cut through the level are not used; None where no image does."""
    point = levels.discs[level].point_mm
    reasons = {member: one.reason for one in placed for member in one.series.each}
    for series in axial.found:
        for one in series.acquisitions:
            here = [] if one.plane == "sagittal" else [f for f in one.frames if covers(f, point, levels.canal_mm)]
            lost = next((axial.left_out[frame] for frame in here if frame in axial.left_out), None)
            if here and (reason := one.reason or reasons.get(one) or axial.uses[one].reason or lost):
                return reason
    doubted = (one.reason or refused.get(one) or _lies_elsewhere(one, levels) for one in placed)
    if unknown := next((reason for reason in doubted if reason in _WHERE_UNKNOWN), None):
        return unknown
    beside = (
        frame for series in axial.found for one in series.acquisitions if one.plane == "axial" for frame in one.frames
    )
    if any(cuts(frame, point, levels.canal_mm) for frame in beside):
        return Reason.CANAL_OUTSIDE_FIELD
    return Reason.MAYBE_LEFT_OUT if any(_unplaced(series) for series in axial.found) else None


def _lies_elsewhere(one: Placed, levels: Levels) -> Reason | None:
    """Why the place of a block is not known, though its acquisition's is."""
    return next((why for volume in one.volumes if (why := in_block(volume, levels)) in _WHERE_UNKNOWN), None)


def _unplaced(one: Series) -> bool:
    """Whether images of a series that may be axial have no known place."""
    axial = not one.acquisitions or any(each.plane == "axial" and each.reason is None for each in one.acquisitions)
    return axial and any(reason is not Reason.NOT_A_SLICE for reason in one.left_out)


def covers(frame: Frame, point_mm: Point, canal_mm: F64) -> bool:
    """Whether a frame cuts across the canal at a point, on its own image."""
    if not cuts(frame, point_mm, canal_mm):
        return False
    offset = np.asarray(point_mm) - frame.position
    rows, columns = frame.shape
    col, row = (
        float(axis @ offset) / mm for axis, mm in zip((frame.right, frame.down), frame.spacing[::-1], strict=True)
    )
    return 0 <= col < columns and 0 <= row < rows


def cuts(frame: Frame, point_mm: Point, canal_mm: F64) -> bool:
    """Whether a frame's plane cuts across the canal at a point, wherever the image ends."""
    if abs(float(frame.normal @ (np.asarray(point_mm) - frame.position))) > reach_mm(frame.gap_mm or 0.0):
        return False
    center = crossing(canal_mm, frame.position, frame.normal, point_mm)
    return center is not None and squareness(frame.normal, center, canal_mm) > MOST_OBLIQUE
