"""A linear probe on frozen ImageNet features, which may tell one kind of picture from another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cauda.core.domain import F32, F64
from cauda.models.backbones import Backbone, TimmEmbedder, load_weights
from cauda.models.realism.pictures import SIDE_PX, Grey

_BACKBONE = Backbone(name="mobilenetv2_100", size_px=SIDE_PX, channels=3, options=(("pad_type", "same"),))
_PENALTY = 0.01  # C of the logistic regression; fixed, not searched
_RESAMPLES = 1000
_FOLDS = 5

Numbers = NDArray[np.int64]
Embed = Callable[[Sequence[Grey]], F32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Set:
    """Features (N, D) of pictures, and whose each is."""

    features: F32
    who: Numbers

    def only(self, chosen: NDArray[np.bool_]) -> Set:
        """Some of it."""
        return Set(features=self.features[chosen], who=self.who[chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Auc:
    """Area under the curve with its 95 % interval (patients resampled), and how many pictures it rests on."""

    value: float
    low: float
    high: float
    pictures: tuple[int, int]


def embedder(weights: Path) -> Embed:
    """Features of pictures; those of a picture and of its upside-down are averaged: some of SPIDER's stand so."""
    net = TimmEmbedder(_BACKBONE, load_weights(weights))

    def embed(pictures: Sequence[Grey]) -> F32:
        stacked = np.stack(pictures).astype(np.float32) / np.float32(255)
        return (net.embed(stacked) + net.embed(stacked[:, ::-1])) / np.float32(2)

    return embed


def apart(train: Set, test: Set) -> Set:
    """``test`` without the patients of ``train``."""
    return test.only(~np.isin(test.who, train.who))


def across(train: tuple[Set, Set], test: tuple[Set, Set], draw: np.random.Generator) -> Auc:
    """Taught to tell the first of ``train`` from the second, asked to tell the first of ``test`` from the second."""
    first, second = (
        apart(known, asked) if np.isin(asked.who, known.who).any() else asked
        for known, asked in zip(train, test, strict=True)
    )
    return _auc(*_scores(train, (first, second)), draw)


def between(first: Set, second: Set, draw: np.random.Generator) -> Auc:
    """Cross-validated: a patient is in one fold alone, with all pictures of both kinds."""
    scores = (np.zeros(len(first.who)), np.zeros(len(second.who)))
    for held in folds(np.concatenate([first.who, second.who]), draw):
        inside = [np.isin(one.who, held) for one in (first, second)]
        known = (first.only(~inside[0]), second.only(~inside[1]))
        asked = (first.only(inside[0]), second.only(inside[1]))
        found = _scores(known, asked)
        for score, here, new in zip(scores, inside, found, strict=True):
            score[here] = new
    return _auc(*scores, draw)


def folds(who: Numbers, draw: np.random.Generator, count: int = _FOLDS) -> list[Numbers]:
    """Patients dealt out into ``count`` hands, each patient once."""
    return [np.sort(hand) for hand in np.array_split(draw.permutation(np.unique(who)), count)]


def distance(first: Set, second: Set) -> float:
    """Kernel distance of two kinds of picture (KID: unbiased squared MMD, cubic kernel): 0 where they are the same.

    Unlike the probe's area under the curve it goes on changing where all pictures can be told apart.
    """

    def kernel(a: F32, b: F32) -> F64:
        found: F64 = (a.astype(float) @ b.T.astype(float) / a.shape[1] + 1.0) ** 3
        return found

    def within(a: F32) -> float:
        k = kernel(a, a)
        return float((k.sum() - np.trace(k)) / (len(a) * (len(a) - 1)))

    x, y = first.features, second.features
    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


def _scores(train: tuple[Set, Set], test: tuple[Set, Set]) -> tuple[F64, F64]:
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=2000, class_weight="balanced")
    )  # fmt: skip
    truth = np.repeat((0, 1), [len(one.who) for one in train])
    model.fit(np.concatenate([one.features for one in train]), truth)
    found = [model.decision_function(one.features) if len(one.who) else np.zeros(0) for one in test]
    return found[0], found[1]


def _auc(first: F64, second: F64, draw: np.random.Generator) -> Auc:
    again = [
        _area(draw.choice(first, len(first)), draw.choice(second, len(second))) for _ in range(_RESAMPLES)
    ]  # fmt: skip
    low, high = np.quantile(again, (0.025, 0.975))
    return Auc(value=_area(first, second), low=float(low), high=float(high), pictures=(len(first), len(second)))


def _area(first: F64, second: F64) -> float:
    """How often one of the second scores higher than one of the first."""
    above = second[:, None] - first
    return float((above > 0).mean() + (above == 0).mean() / 2)
