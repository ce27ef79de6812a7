"""Which sagittal images name the levels, and whether others agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cauda.core.domain import Reason, SeriesRole, StackUse, Volume
from cauda.core.errors import Rejected
from cauda.pipeline.levels import Levels, agreed, locate
from cauda.pipeline.lumbar import why_not_lumbar
from cauda.pipeline.parts import Parts
from cauda.pipeline.sagittal import near_slices, upright
from cauda.pipeline.series import MIN_SLICES, Acquisition, Series, as_read, unreadable, wanted
from cauda.pipeline.volume import read_volumes
from cauda.pipeline.weighting import Weighting

MAX_VOLUMES = 6  # a whole spine has three stations, perhaps twice
CHECK_MM = 6.0  # the second opinion looks at the slices this near to the canal
_CURABLE = {Reason.SACRUM_NOT_SHOWN, Reason.LEVELS_INCOMPLETE}  # another series may show more
FLUID_RATIO = 0.85  # canal to vertebra: SPIDER's 164 sagittal T2 begin at 0.83, its 153 T1 end there


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Count:
    """The levels, and from which images."""

    series: Acquisition | None = None
    levels: Levels | None = None
    doubt: Reason | None = None
    fluid_bright: bool = False  # as in T2 and STIR; T1 alone places no level's point


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    series: Acquisition
    volume: Volume
    levels: Levels


def count(found: Sequence[Series], parts: Parts, uses: dict[Acquisition, StackUse]) -> Count:
    """Name the levels. Without usable sagittal images there are none; Rejected when none show a lumbar spine.

    ``uses`` is filled with what became of every sagittal acquisition.
    """
    usable = wanted(found, "sagittal")
    uses |= {one: one.use(Reason.NOT_BEST) for one in usable}
    candidates: list[_Candidate] = []
    against: list[str] = []
    budget = MAX_VOLUMES
    for one in usable:
        if budget <= 0 or _settled(candidates):
            break
        for volume in _volumes(one, uses)[:budget]:
            budget -= 1
            levels = locate(volume, parts.localiser)
            if why := why_not_lumbar(levels, parts.lumbar_check):
                against.append(why)
                uses[one] = replace(uses[one], reason=Reason.NOT_LUMBAR, note=why)
            elif levels is not None:
                candidates.append(_Candidate(series=one, volume=volume, levels=levels))
    if not candidates:
        if against:
            raise Rejected(Reason.NOT_LUMBAR, f"lumbar spine not recognised: {against[0]}")
        return Count()
    best = min(candidates, key=lambda one: (one.levels.doubt in _CURABLE, not is_fluid_bright(one)))
    uses[best.series] = _used(best, uses[best.series])
    other, doubt = _second_opinion(best, candidates, usable, uses, parts)
    if other is not None:
        uses[other.series] = _used(other, uses[other.series])
    return Count(series=best.series, levels=best.levels, doubt=doubt, fluid_bright=is_fluid_bright(best))


def _volumes(one: Acquisition, uses: dict[Acquisition, StackUse]) -> list[Volume]:
    """The volumes that are worth looking at, largest first."""
    try:
        read = read_volumes(one.frames)
    except Rejected as problem:
        uses[one] = unreadable(one, problem)
        return []
    line = as_read(one, read)
    uses[one] = line if line.reason is not None else replace(line, reason=Reason.NOT_BEST)
    if line.reason is not None:
        return []
    return sorted((v for v in read.volumes if len(v.pixels) >= MIN_SLICES), key=lambda volume: -len(volume.pixels))


def _settled(candidates: Sequence[_Candidate]) -> bool:
    """Whether no further series need be tried: one sees the sacrum and five discs, and its fluid is bright."""
    return any(one.levels.doubt not in _CURABLE and is_fluid_bright(one) for one in candidates)


def is_fluid_bright(one: _Candidate) -> bool:
    """Whether the canal is brighter than the vertebrae, as in T2 and STIR. Headers alone never make it so."""
    if one.series.weighting in {Weighting.T1, Weighting.PD}:
        return False
    return fluid_ratio(one.levels) > FLUID_RATIO


def fluid_ratio(levels: Levels) -> float:
    """Median grey of the canal by median grey of the vertebrae on the midline."""
    line = levels.line
    kind = line.maps.argmax(axis=0)
    index = round(float(np.median(line.slices[line.first : line.last + 1])))
    plane = levels.volume.pixels[min(max(index, 0), len(levels.volume.pixels) - 1)]
    canal = plane[kind == line.classes.index("canal")]
    bone = plane[kind == line.classes.index("vertebra")]
    if not len(canal) or not len(bone):
        return 0.0
    return float(np.median(canal)) / max(float(np.median(bone)), 1e-6)


def _second_opinion(
    best: _Candidate,
    candidates: Sequence[_Candidate],
    usable: Sequence[Acquisition],
    uses: dict[Acquisition, StackUse],
    parts: Parts,
) -> tuple[_Candidate | None, Reason | None]:
    """Another series of the same place and what it says of the count; silence where there is none."""
    seen = {one.series: one for one in candidates if one.series is not best.series}
    for one in usable:
        if one is best.series or uses[one].reason not in {None, Reason.NOT_BEST}:
            continue
        other = seen.get(one)
        if other is None:
            volume = next(iter(_volumes(one, uses)), None)
            levels = None if volume is None else locate(volume, parts.localiser, _near(best.levels, volume))
            if volume is None or levels is None or why_not_lumbar(levels, None):
                continue
            other = _Candidate(series=one, volume=volume, levels=levels)
        return other, agreed(best.levels, other.levels)
    return None, best.levels.doubt


def _near(levels: Levels, volume: Volume) -> list[int] | None:
    """The slices of another volume around the canal; None when it lies elsewhere."""
    turned = upright(volume)
    canal = levels.canal_mm.mean(axis=0)
    _, _, index = turned.voxel((float(canal[0]), float(canal[1]), float(canal[2])))
    return near_slices(turned, index, CHECK_MM) or None


def _used(one: _Candidate, read: StackUse) -> StackUse:
    role = SeriesRole.SAGITTAL_T2 if is_fluid_bright(one) else SeriesRole.SAGITTAL_T1
    return replace(one.series.use(), role=role, left_out=read.left_out)
