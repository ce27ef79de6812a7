"""Quality withholds noise and motion, never disease or an unusual shape."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cauda.core.domain import F32, Quality, Reason
from cauda.pipeline import quality
from cauda.pipeline.crop import windowed
from cauda.pipeline.grade import prediction_set


def _anatomy(seed: int, shape: tuple[int, int] = (64, 64)) -> F32:
    """Smooth blobs, as unlike another seed's as two places in a body."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4.0)
    return windowed(field.astype(np.float32), (float(field.min()), float(field.max())))


def _assessed(crops: list[F32]) -> list[Quality]:
    fits = quality.continuity(crops)
    usual = quality.median(fits)
    return [quality.assess(crop, crop, fit, usual, None, 0.80) for crop, fit in zip(crops, fits, strict=True)]


def test_the_one_slice_that_shows_something_else_has_moved() -> None:
    crops = [_anatomy(1) for _ in range(5)]
    crops[2] = _anatomy(2)
    assert [one.reason for one in _assessed(crops)] == [None, None, Reason.MOTION, None, None]


def test_anatomy_that_changes_from_slice_to_slice_is_no_motion() -> None:
    first, last = _anatomy(1), _anatomy(2)
    crops = [((1 - share) * first + share * last).astype(np.float32) for share in np.linspace(0, 1, 7)]
    assert all(one.passed for one in _assessed(crops))


def test_a_single_slice_has_no_neighbour_and_may_still_be_graded() -> None:
    (only,) = _assessed([_anatomy(1)])
    assert only.passed
    assert only.continuity_ssim is None


@pytest.mark.parametrize(("share", "passed"), [(0.0, True), (0.02, True), (0.2, False)])
def test_noise_withholds_only_when_it_is_strong(share: float, passed: bool) -> None:
    noise = np.random.default_rng(3).normal(0, share, (64, 64))
    crop = (_anatomy(1) + noise).clip(0, 1).astype(np.float32)
    (one,) = _assessed([crop])
    assert one.passed is passed
    assert one.reason is (None if passed else Reason.NOISE)


def test_an_empty_crop_is_not_graded() -> None:
    (one,) = _assessed([np.zeros((64, 64), dtype=np.float32)])
    assert not one.passed
    assert one.reason is Reason.LOW_QUALITY


def test_a_shape_unlike_the_template_withholds_nothing() -> None:
    crop = _anatomy(1)
    one = quality.assess(crop, crop, 0.9, 0.9, 1 - crop, 0.80)
    assert one.template_ssim is not None
    assert one.template_ssim < 0.2
    assert one.passed


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ((0.95, 0.04, 0.01), ("N",)),
        ((0.10, 0.50, 0.40), ("M", "S")),
        ((0.34, 0.33, 0.33), ("N", "M", "S")),
        ((0.05, 0.90, 0.05), ("M",)),
        ((0.45, 0.10, 0.45), ("N", "S")),
    ],
)
def test_the_prediction_set_is_the_smallest_that_reaches_its_coverage(
    probabilities: tuple[float, ...], expected: tuple[str, ...]
) -> None:
    assert prediction_set(np.array(probabilities), ("N", "M", "S"), 0.90) == expected
