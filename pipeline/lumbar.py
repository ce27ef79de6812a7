"""Whether a sagittal series shows a lumbar spine, by millimetres and by picture: tags are not believed."""

from __future__ import annotations

import numpy as np

from cauda.core.domain import Level, Reason
from cauda.pipeline.levels import Levels
from cauda.pipeline.parts import LumbarCheck
from cauda.pipeline.sagittal import middle_slices

# From disc to disc along the canal, and discs from front to back. Adult cervical segments measure about 16-20 mm and
# 14-20 mm, upper thoracic ones 18-23 mm and 18-25 mm; lumbar ones 28-38 mm and 28-45 mm, less along the canal's inner
# curve and where discs collapsed: 24.9 mm is the least in SPIDER's 33 masked patients.
SPACING_MM = (22.5, 48.0)
DEPTH_MM = (24.0, 58.0)
MIN_DISCS = 3
MIN_DISCS_ALONE = 4  # without a sacrum below them; folds of a synthetic brain were taken for three
STRAIGHT_DEG = -3.0  # lumbar discs incline more forward the lower they lie, thoracic ones do not
MIN_PROBABILITY = 0.5


def why_not_lumbar(levels: Levels | None, check: LumbarCheck | None) -> str | None:  # noqa: PLR0911  # one a reason
    """What speaks against a lumbar spine, in words; None when nothing does."""
    if levels is None:
        return "no disc found"
    found = [levels.discs[level] for level in Level if level in levels.discs]
    alone = levels.doubt is Reason.SACRUM_NOT_SHOWN
    if len(found) < (MIN_DISCS_ALONE if alone else MIN_DISCS):
        count = "1 disc" if len(found) == 1 else f"{len(found)} discs"
        return f"{count} found" + (", and no sacrum" if alone else "")
    spacing = float(np.median(np.diff([disc.along_mm for disc in found])))
    if not SPACING_MM[0] <= spacing <= SPACING_MM[1]:
        return f"discs lie {spacing:.0f} mm apart, lumbar ones {SPACING_MM[0]:.0f} to {SPACING_MM[1]:.0f}"
    depth = float(np.median([disc.depth_mm for disc in found]))
    if not DEPTH_MM[0] <= depth <= DEPTH_MM[1]:
        return f"discs are {depth:.0f} mm deep, lumbar ones {DEPTH_MM[0]:.0f} to {DEPTH_MM[1]:.0f}"
    if alone and found[-1].tilt_deg - found[0].tilt_deg > STRAIGHT_DEG:
        return "no sacrum is shown and the discs are not inclined as lumbar ones are"
    if check is not None:
        volume = levels.volume
        row_mm, col_mm, _ = volume.spacing_mm
        slices = np.ascontiguousarray(volume.pixels[middle_slices(volume)])
        if check.lumbar_probability(slices, (row_mm, col_mm)) < MIN_PROBABILITY:
            return "the picture is unlike a lumbar spine"
    return None
