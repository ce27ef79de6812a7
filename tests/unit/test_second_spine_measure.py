"""What is printed of a bundle on the second generator is counted right."""

from __future__ import annotations

import numpy as np
import pytest
from second_spine.measure import (
    Answers,
    bright_fraction,
    calibration_error,
    in_order,
    interval,
    per_specimen,
    rival,
)


def said(truth: list[int], score: list[float], specimen: list[int], level: list[int]) -> Answers:
    count = len(truth)
    return Answers(
        specimen=np.array(specimen), level=np.array(level), truth=np.array(truth), score=np.array(score),
        probabilities=np.full((count, 3), 1 / 3), answered=np.ones(count, dtype=bool),
    )  # fmt: skip


def test_only_pairs_of_one_specimen_with_different_grades_are_counted_and_ties_are_half_right() -> None:
    found = said([0, 0, 2, 1, 2], [0.1, 0.9, 0.9, 5.0, 1.0], [7, 7, 7, 8, 8], [0, 1, 2, 0, 1])
    pairs = in_order(found)
    assert pairs.count.tolist() == [2, 1]
    assert pairs.right.tolist() == [1.5, 0]
    assert pairs.share == pytest.approx(0.5)
    assert in_order(found, 1).count.tolist() == [1, 1]


def test_the_bright_fraction_looks_within_eight_millimetres_of_the_middle_only() -> None:
    axis = np.arange(128) * 0.5 + 0.25 - 32
    away = np.hypot(axis[:, None], axis[None, :])
    crops = np.stack([away <= 8, away > 8.5, (away <= 8) & (axis[None, :] > 0)]).astype(np.float32)
    assert bright_fraction(crops, 64.0).tolist() == [1.0, 0.0, 0.5]


def test_the_rival_learns_from_the_other_half_only() -> None:
    draw = np.random.default_rng(0)
    bright, specimen, truth = draw.random(60), np.repeat(np.arange(20), 3), draw.integers(0, 3, 60)
    changed = np.where(specimen % 2 == 0, 2 - truth, truth)
    before, after = rival(bright, specimen, truth), rival(bright, specimen, changed)
    assert np.allclose(before[specimen % 2 == 0], after[specimen % 2 == 0])
    assert not np.allclose(before[specimen % 2 == 1], after[specimen % 2 == 1])
    assert np.allclose(before.sum(axis=1), 1)


def test_calibration_error_is_the_gap_between_what_is_said_and_what_is_right() -> None:
    p = np.tile([0.8, 0.1, 0.1], (10, 1))
    assert calibration_error(p, np.array([0] * 8 + [1] * 2)) == pytest.approx(0.0)
    assert calibration_error(p, np.array([0] * 3 + [1] * 7)) == pytest.approx(0.5)


def test_an_interval_draws_specimens_not_crops() -> None:
    flags, specimen = np.repeat([True, False], 50), np.repeat([0, 1], 50)
    assert interval(*per_specimen(flags, specimen)) == (0.0, 1.0)
