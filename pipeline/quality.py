"""How good a crop is: structural similarity with its denoised self, its neighbours and the level's template.

Disease must not be taken for bad quality (CLINICAL.md 12): the template never withholds a grade, noise is judged by the
finest detail only, and a slice is called moved only when it fits its neighbours much worse than they fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity

from cauda.core.domain import F32, Quality, Reason
from cauda.pipeline.artefacts import UNSPOILED, Artefacts

CONTINUITY_MIN = 0.15  # between smoothed neighbours 3-5 mm apart; anatomy that moves on stays well above
CONTINUITY_SHARE = 0.5  # of what is usual in the block
_DENOISE_PX = 0.7
_SMOOTH_PX = 1.0  # continuity looks at shapes, not at grain


def noise_ssim(native: F32) -> float:
    """SSIM of a cutout in the image's own pixels, 0..1, with its smoothed self; interpolation would hide the noise.

    Measured on SPIDER: 0.86-0.98 as they are, at 0.5-0.9 mm per pixel; about 0.85 with noise of 5 % of the window, 0.77
    with 10 %, 0.66 with 20 %.
    """
    return _ssim(native, ndimage.gaussian_filter(native, _DENOISE_PX))


def continuity(crops: Sequence[F32]) -> list[float | None]:
    """For each crop of consecutive slices of one block: SSIM with the neighbour it fits better; None without one."""
    smooth = [ndimage.gaussian_filter(crop, _SMOOTH_PX) for crop in crops]
    steps = [_ssim(a, b) for a, b in pairwise(smooth)]
    return [max(steps[max(0, i - 1) : i + 1], default=None) for i in range(len(crops))]


def assess(
    crop: F32,
    native: F32,
    fits: float | None,
    usual: float | None,
    template: F32 | None,
    noise_min: float,
    spoiled: Artefacts = UNSPOILED,
) -> Quality:
    """The quality of one crop. ``fits`` is its continuity, ``usual`` the block's median."""
    noise = noise_ssim(native)
    moved = fits is not None and usual is not None and fits < min(CONTINUITY_MIN, CONTINUITY_SHARE * usual)
    reason = spoiled.reason or (Reason.MOTION if moved else None)
    if noise < noise_min and reason is not Reason.WRAP:
        reason = Reason.NOISE  # lines of noise look restless, too
    flat = float(crop.std()) < 0.02
    return Quality(
        passed=reason is None and not flat,
        noise_ssim=round(noise, 4),
        continuity_ssim=_rounded(fits),
        template_ssim=None if template is None else _rounded(_ssim(crop, template)),
        restless=_rounded(spoiled.restless),
        seam_step=_rounded(spoiled.seam_step),
        reason=Reason.LOW_QUALITY if flat else reason,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _ssim(a: F32, b: F32) -> float:
    return float(structural_similarity(a, b, data_range=1.0))  # type: ignore[no-untyped-call]  # scikit-image ships no types


def median(values: Sequence[float | None]) -> float | None:
    """The median of what could be measured."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
