"""Level names, counted up from the sacrum, and every doubt there is about them (CLINICAL.md 9, LEVELS.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cauda.core.domain import F64, Level, Reason, Volume
from cauda.pipeline.discs import Disc, discs
from cauda.pipeline.parts import Localiser
from cauda.pipeline.sagittal import Midline, midline, upright

SACRUM_SHARE = 0.25  # of the band below the lowest disc
VERTEBRA_SHARE = 0.35
DISAGREE_MM = 15.0  # half a segment: two series that differ by more name different levels
MISSED_DISC = 1.6  # a step this many times the usual one hides a disc
RUDIMENTARY = 0.5  # of the disc above: one that reaches through the whole sacrum measures 0.5 to 0.7, a remnant less
FULL_DISC = 0.85
LORDOSIS_DEG = -20.0  # from L1/L2 to L5/S1; 92 of 92 upright SPIDER spines bend by 25 degrees or more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """The discs of one sagittal series, named; a level that was not seen has no entry."""

    source: Volume  # as it was read
    volume: Volume  # upright
    line: Midline
    discs: Mapping[Level, Disc]
    every: tuple[Disc, ...]  # head to feet, also those above L1/L2 and below the sacrum's upper end
    doubt: Reason | None

    @property
    def canal_mm(self) -> F64:
        """The canal's centreline (N, 3), head to feet."""
        return self.line.centreline_mm()


def locate(volume: Volume, localiser: Localiser, chosen: Sequence[int] | None = None) -> Levels | None:
    """The levels of a sagittal volume; None where no spine was seen."""
    turned = upright(volume)
    line = midline(turned, localiser, chosen)
    if line is None:
        return None
    found = discs(line)
    if not found:
        return None
    lowest, doubt = _lowest(found, has_sacrum="sacrum" in localiser.classes)
    named, gap = _named(found[: lowest + 1])
    if doubt is None and (gap or len(named) < len(Level)):
        doubt = Reason.LEVELS_INCOMPLETE
    if doubt is None and named[Level.L5_S1].tilt_deg - named[Level.L1_L2].tilt_deg > LORDOSIS_DEG:
        doubt = Reason.SACRUM_NOT_SHOWN  # cut off above the sacrum, or upside down whatever the tags say
    return Levels(source=volume, volume=turned, line=line, discs=named, every=tuple(found), doubt=doubt)


def _lowest(found: Sequence[Disc], *, has_sacrum: bool) -> tuple[int, Reason | None]:
    """Which disc is the last above the sacrum, and what makes that doubtful."""
    last = len(found) - 1
    if not has_sacrum:
        below = found[last].below
        inside = 1.0 - below["outside"]
        shown = inside > 0.5 and below["vertebra"] < VERTEBRA_SHARE * inside
        return last, None if shown else Reason.SACRUM_NOT_SHOWN
    candidates = [
        i
        for i, disc in enumerate(found)
        if disc.below["sacrum"] > max(SACRUM_SHARE, disc.below["vertebra"])
        and disc.above["vertebra"] >= disc.above["sacrum"]
    ]
    if not candidates:
        return last, Reason.SACRUM_NOT_SHOWN
    lowest = candidates[-1]
    remnant = max((disc.depth_mm for disc in found[lowest + 1 :]), default=0.0) / max(found[lowest].depth_mm, 1.0)
    if remnant >= FULL_DISC:
        return lowest, Reason.SIXTH_SEGMENT
    return lowest, Reason.TRANSITIONAL if remnant >= RUDIMENTARY else None


def _named(found: Sequence[Disc]) -> tuple[dict[Level, Disc], bool]:
    """Names from the lowest disc up; a step that is too long counts as two and leaves a level without a disc."""
    steps = np.diff([disc.along_mm for disc in found])
    usual = float(np.median(steps[-5:])) if len(steps) else 0.0
    names: dict[Level, Disc] = {}
    gap = False
    place = len(Level) - 1
    order = list(Level)
    for index in range(len(found) - 1, -1, -1):
        if place < 0:
            break
        names[order[place]] = found[index]
        if index:
            missed = steps[index - 1] > MISSED_DISC * usual
            gap = gap or (missed and place > 0)
            place -= 2 if missed else 1
    return {level: names[level] for level in Level if level in names}, gap


def agreed(main: Levels, other: Levels | None) -> Reason | None:
    """Doubt when another series, itself without doubt, names the same places otherwise."""
    if other is None or main.doubt or other.doubt:
        return main.doubt
    apart = [
        float(np.linalg.norm(np.subtract(main.discs[level].point_mm, other.discs[level].point_mm)))
        for level in main.discs
        if level in other.discs
    ]
    return Reason.SERIES_DISAGREE if apart and float(np.median(apart)) > DISAGREE_MM else None
