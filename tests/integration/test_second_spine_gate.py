"""The shipped bundle must order severity on anatomy that it was not trained on, at least as well as a trivial rule.

The limits were set, and committed, before any bundle was scored on the second generator (`docs/second-generator.md`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from second_spine.measure import Answers, in_order
from second_spine.score import answers, seeds
from second_spine.spine import make

import cauda.models.manifest
from cauda.models.bundle import load_bundle

SPECIMENS = 40
FIRST_SEED = 20_000  # not those that are scored and printed
LEAST = 0.85  # of the pairs of one person's levels with different grades
RESAMPLES = 1000


@pytest.fixture(scope="module")
def scored() -> tuple[Answers, Answers]:
    """What the bundle in the repository says, and what the bright fraction says."""
    parts = load_bundle(Path(cauda.models.manifest.__file__).parent / "starter")
    ours, trivial = answers(parts, (make(seed) for seed in seeds(SPECIMENS, FIRST_SEED)))
    print(f"coverage {ours.answered.mean():.2f}")
    return ours, trivial


def test_the_shipped_bundle_puts_most_pairs_in_order(scored: tuple[Answers, Answers]) -> None:
    ours, _ = scored
    share = in_order(ours).share
    print(f"pairs in order {share:.3f}, coverage {ours.answered.mean():.2f}")
    assert share >= LEAST


def test_the_shipped_bundle_orders_no_worse_than_the_bright_fraction(scored: tuple[Answers, Answers]) -> None:
    """Worse means: by more than chance, when specimens are drawn anew and both are judged on the same ones."""
    ours, trivial = (in_order(one) for one in scored)
    drawn = np.random.default_rng(0).integers(0, len(ours.count), (RESAMPLES, len(ours.count)))
    ahead = (ours.right - trivial.right)[drawn].sum(axis=1) / ours.count[drawn].sum(axis=1)
    print(f"pairs in order {ours.share:.3f}, bright fraction {trivial.share:.3f}")
    assert np.quantile(ahead, 0.975) >= 0, f"{ours.share:.3f} against {trivial.share:.3f}"
