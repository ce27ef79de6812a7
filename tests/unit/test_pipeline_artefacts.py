"""Folding is told from tissue by what only it does; the faults are made by `spoilers`, not by Cauda."""

from __future__ import annotations

import numpy as np
import pytest
import spoilers
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import Reason, SliceRef, Volume
from cauda.pipeline.artefacts import Artefacts, artefacts

Picture = NDArray[np.float64]
MM, SIDE = 0.6, 320
MIDDLE = ((SIDE // 2) * MM, (SIDE // 2) * MM, 0.0)


def volume(pixels: Picture) -> Volume:
    """One axial slice in LPS with its corner at the origin."""
    ref = SliceRef(sop_instance_uid="1.1", sop_class_uid="1", frame=1, instance_number=1)
    return Volume(
        series_instance_uid="1", series_number=1, description="", pixels=pixels[None].astype(np.float32),
        affine=np.diag([MM, MM, 4.0, 1.0]), slices=(ref,),
    )  # fmt: skip


def body(seed: int, sac_mm: float = 8.0) -> Picture:
    """A trunk of fat wider than any field, a vertebra, muscles, a sac; grain and noise as tissue has."""
    draw = np.random.default_rng(seed)
    y, x = (np.indices((SIDE, SIDE)) - SIDE // 2) * MM
    out = np.full((SIDE, SIDE), 0.55)
    for side in (-1, 1):
        out[((x - side * 45) / 25) ** 2 + ((y - 30) / 28) ** 2 < 1] = 0.2
    out[(x / 24) ** 2 + ((y + 26) / 17) ** 2 < 1] = 0.4
    out[np.hypot(x, y) < sac_mm] = 1.0
    grain = ndimage.gaussian_filter(draw.normal(size=out.shape), 1.5)
    out = ndimage.gaussian_filter(out * (1 + 0.1 * grain / grain.std()), 0.8)
    return np.abs(out + draw.normal(0, 0.02, out.shape))


@pytest.mark.parametrize("sac_mm", [0.0, 2.0, 4.0, 8.0])
def test_how_wide_the_sac_is_changes_nothing(sac_mm: float) -> None:
    """CLINICAL.md 12: what withholds must not see disease."""
    assert artefacts(volume(body(1, sac_mm)), 0, MIDDLE).reason is None


@pytest.mark.parametrize("seed", range(4))
def test_a_field_that_folds_over_the_canal_is_told_from_one_that_is_only_small(seed: int) -> None:
    whole, keep = body(seed), 180
    first = (SIDE - keep) // 2
    middle = (MIDDLE[0] - first * MM, *MIDDLE[1:])
    small = whole[:, first : first + keep]
    assert artefacts(volume(small), 0, middle).reason is not Reason.WRAP
    assert artefacts(volume(spoilers.folded(whole, keep)), 0, middle).reason is Reason.WRAP


def test_a_field_as_wide_as_usual_may_fold_at_its_edges() -> None:
    """Flanks that fold do not reach the canal."""
    wide = np.concatenate([body(1), body(2), body(3)], axis=1)
    assert artefacts(volume(spoilers.folded(wide, SIDE)), 0, MIDDLE).seam_step is None


def test_a_fold_is_named_before_motion() -> None:
    assert Artefacts().reason is None
    assert Artefacts(restless=1.2).reason is Reason.MOTION
    assert Artefacts(restless=1.2, seam_step=1.0).reason is Reason.WRAP
