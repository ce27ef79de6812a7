"""How well probabilities agree with the truth: accuracy, order within a specimen, calibration; and a trivial rival."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cauda.core.domain import F32, F64

RESAMPLES = 1000
BRIGHT = 0.5  # of the crop's range
BRIGHT_MM = 8.0
BINS = 10

Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What was said of N crops, and what is so."""

    specimen: Ints
    level: Ints  # 0 is L1/L2
    truth: Ints  # grade, mildest 0
    score: F64  # the more the worse
    probabilities: F64  # (N, 3)
    answered: Flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of one specimen's levels with different grades, per specimen: how many are there, how many in order."""

    right: F64
    count: F64

    @property
    def share(self) -> float:
        """Of all pairs."""
        return float(self.right.sum() / self.count.sum()) if self.count.sum() else float("nan")


def bright_fraction(crops: F32, field_mm: float) -> F64:
    """The share (N,) of what lies within 8 mm of the middle of crops (N, P, P) that is bright."""
    axis = (np.arange(crops.shape[-1]) + 0.5) * field_mm / crops.shape[-1] - field_mm / 2
    disc = np.hypot(axis[:, None], axis[None, :]) <= BRIGHT_MM
    return np.asarray((crops[:, disc] > BRIGHT).mean(axis=1), dtype=np.float64)


def rival(bright: F64, specimen: Ints, truth: Ints) -> F64:
    """Probabilities (N, 3) from the bright fraction alone, for one half of the specimens as learnt on the other half.

    This favours the rival: it has seen the second generator's grades, which no bundle may.
    """
    out = np.zeros((len(bright), 3))
    for part in (0, 1):
        held = specimen % 2 == part
        model = make_pipeline(StandardScaler(), LogisticRegression(C=100.0))
        model.fit(bright[~held, None], truth[~held])
        out[np.ix_(held, model.classes_)] = model.predict_proba(bright[held, None])
    return out


def in_order(answers: Answers, level: int | None = None) -> Pairs:
    """Pairs put in order, ties half right; of one level, the pairs that it is part of."""
    specimens = np.unique(answers.specimen)
    right, count = np.zeros(len(specimens)), np.zeros(len(specimens))
    for k, one in enumerate(specimens):
        rows = np.flatnonzero(answers.specimen == one)
        for i, j in combinations(rows, 2):
            gap = np.sign(answers.truth[i] - answers.truth[j])
            if gap and (level is None or level in (answers.level[i], answers.level[j])):
                count[k] += 1
                right[k] += (1 + gap * np.sign(answers.score[i] - answers.score[j])) / 2
    return Pairs(right=right, count=count)


def interval(right: F64, count: F64, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a share when specimens are drawn anew; ``right`` and ``count`` are per specimen."""
    drawn = np.random.default_rng(seed).integers(0, len(right), (RESAMPLES, len(right)))
    total = count[drawn].sum(axis=1)
    shares = right[drawn].sum(axis=1)[total > 0] / total[total > 0]
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def per_specimen(flags: Flags, specimen: Ints) -> tuple[F64, F64]:
    """How many flags are set, and how many there are, per specimen."""
    _, at = np.unique(specimen, return_inverse=True)
    return np.bincount(at, weights=flags).astype(np.float64), np.bincount(at).astype(np.float64)


def calibration_error(probabilities: F64, truth: Ints) -> float:
    """Expected calibration error of the best grade's probability over ten equal bins."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return float(
        sum(abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    )


def only(answers: Answers, rows: Flags) -> Answers:
    """Some of the answers."""
    return Answers(
        specimen=answers.specimen[rows], level=answers.level[rows], truth=answers.truth[rows],
        score=answers.score[rows], probabilities=answers.probabilities[rows], answered=answers.answered[rows],
    )  # fmt: skip
