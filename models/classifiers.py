"""Fitted classifiers as plain arrays: what a bundle stores and what grades. Loading one runs no code.

Each takes features (N, D) float32 and gives probabilities (N, C) of its ``classes``. Array shapes are checked when a
classifier is made, so that a file that does not fit is refused and not computed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cauda.core.domain import F32, F64

Array = NDArray[Any]
_LEAF = -1  # of a tree node: no child


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Logistic:
    """Multinomial logistic regression on standardised features, in the precision in which it was fitted."""

    mean: Array  # (D,)
    scale: Array  # (D,)
    coefficients: Array  # (C, D)
    intercepts: Array  # (C,)
    classes: Array

    def __post_init__(self) -> None:
        """ValueError for arrays that do not belong together."""
        count, size = _shape(self.coefficients, 2)
        _check(self, mean=(size,), scale=(size,), intercepts=(count,), classes=(count,))

    def predict_proba(self, features: F32) -> Array:
        """The same steps in the same precision as scikit-learn's, so that not one bit differs."""
        x = (features - self.mean.astype(features.dtype)) / self.scale.astype(features.dtype)
        return _softmax(x @ self.coefficients.T + self.intercepts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Svm:
    """Support vector machine with an RBF kernel; probabilities by Platt's sigmoids, coupled over pairs of classes."""

    mean: Array  # (D,)
    scale: Array  # (D,)
    vectors: Array  # (S, D) support vectors, sorted by class
    counts: Array  # (C,) how many of them each class has
    dual: Array  # (C - 1, S)
    offsets: Array  # (C * (C - 1) / 2,) of the pairs (0, 1), (0, 2), ... (1, 2), ...
    slopes: Array  # the same shape: Platt's A
    shifts: Array  # the same shape: Platt's B
    gamma: Array  # (1,)
    classes: Array

    def __post_init__(self) -> None:
        """ValueError for arrays that do not belong together."""
        total, size = _shape(self.vectors, 2)
        (count,) = _shape(self.classes, 1)
        pairs = (count * (count - 1) // 2,)
        _check(self, mean=(size,), scale=(size,), counts=(count,), dual=(count - 1, total), gamma=(1,))
        _check(self, offsets=pairs, slopes=pairs, shifts=pairs)
        if count < 3 or (self.counts < 0).any() or int(self.counts.sum()) != total:
            raise ValueError("support vectors do not belong to their classes")

    def predict_proba(self, features: F32) -> F64:
        """As libsvm does it (Wu, Lin, Weng 2004, second approach)."""
        x = ((features - self.mean.astype(features.dtype)) / self.scale.astype(features.dtype)).astype(np.float64)
        squares = (x**2).sum(axis=1)[:, None] + (self.vectors**2).sum(axis=1)[None] - 2 * x @ self.vectors.T
        kernel = np.exp(-float(self.gamma[0]) * np.maximum(squares, 0))  # (N, S)
        ends = np.cumsum(self.counts)
        of = [slice(int(end - size), int(end)) for size, end in zip(self.counts, ends, strict=True)]
        count = len(self.classes)
        one_over_other = np.full((len(x), count, count), 0.5)
        for pair, (i, j) in enumerate(combinations(range(count), 2)):
            value = kernel[:, of[i]] @ self.dual[j - 1, of[i]] + kernel[:, of[j]] @ self.dual[i, of[j]]
            value = (value + self.offsets[pair]) * self.slopes[pair] + self.shifts[pair]
            p = np.clip(1 / (1 + np.exp(np.clip(value, -700, 700))), 1e-7, 1 - 1e-7)
            one_over_other[:, i, j], one_over_other[:, j, i] = p, 1 - p
        return np.stack([_coupled(r) for r in one_over_other]) if len(x) else np.zeros((0, count))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """Gradient-boosted trees: all nodes in one table, a child always behind its parent."""

    feature: Array  # (M,) which feature a node asks for; 0 in a leaf
    threshold: Array  # (M,) at most this goes left
    left: Array  # (M,) index of the child, -1 in a leaf
    right: Array  # (M,)
    value: Array  # (M,) what a leaf adds
    roots: Array  # (T,) class by class, round by round
    classes: Array

    def __post_init__(self) -> None:
        """ValueError for arrays that do not belong together, or for a tree that does not end."""
        (count,) = _shape(self.feature, 1)
        _check(self, threshold=(count,), left=(count,), right=(count,), value=(count,))
        here, inner = np.arange(count), self.left != _LEAF
        behind = [child[inner] > here[inner] for child in (self.left, self.right)]
        inside = [child[inner] < count for child in (self.left, self.right)]
        rooted = (self.roots >= 0) & (self.roots < count)
        if not all(map(np.all, (*behind, *inside, rooted, self.feature >= 0))) or len(self.classes) < 2:
            raise ValueError("trees do not hang together")

    def predict_proba(self, features: F32) -> F64:
        """The leaves' values summed by class, and their softmax."""
        scores = np.zeros((len(features), len(self.classes)))
        rows = np.arange(len(features))
        for number, root in enumerate(self.roots):
            at = np.full(len(features), root)
            while (inner := self.left[at] != _LEAF).any():
                goes_left = features[rows, self.feature[at]] <= self.threshold[at]
                at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)
            scores[:, number % len(self.classes)] += self.value[at]
        return _softmax(scores)


Classifier = Logistic | Svm | Trees
KINDS: dict[str, type[Classifier]] = {"logistic": Logistic, "svm": Svm, "lightgbm": Trees}


def arrays(one: Classifier) -> dict[str, Array]:
    """A classifier's arrays by name."""
    return {field.name: np.ascontiguousarray(getattr(one, field.name)) for field in fields(one)}


def classifier(kind: str, stored: Mapping[str, Array]) -> Classifier:
    """The classifier with these arrays; ValueError for an unknown kind or arrays that are not its own."""
    made = KINDS.get(kind)
    if made is None:
        raise ValueError(f"grader {kind!r} is unknown; allowed: {', '.join(KINDS)}")
    if set(stored) != {field.name for field in fields(made)}:
        raise ValueError(f"grader {kind!r} has other arrays: {', '.join(sorted(stored))}")
    return made(**stored)


def plain(kind: str, fitted: Any) -> Classifier:
    """A classifier fitted by scikit-learn or LightGBM (see ``graders.REGISTRY``) as its arrays."""
    if kind == "lightgbm":
        return _trees(fitted.booster_.dump_model(), fitted.classes_)
    scaler, last = (step for _, step in fitted.steps)
    standard = {"mean": scaler.mean_, "scale": scaler.scale_, "classes": last.classes_.astype(np.int64)}
    if kind == "logistic":
        return Logistic(coefficients=last.coef_, intercepts=last.intercept_, **standard)
    if len(last.classes_) < 3:
        raise ValueError("an SVM of two classes keeps its signs otherwise")
    return Svm(
        vectors=last.support_vectors_, counts=last.n_support_, dual=last.dual_coef_, offsets=last.intercept_,
        slopes=last._probA, shifts=last._probB, gamma=np.array([last._gamma]), **standard,  # noqa: SLF001  no public name that stays
    )  # fmt: skip


def _trees(dumped: Mapping[str, Any], classes: Array) -> Trees:
    """LightGBM's own description of a model (``Booster.dump_model``) as one table."""
    nodes: list[tuple[int, float, int, int, float]] = []

    def add(node: Mapping[str, Any]) -> int:
        here = len(nodes)
        if "leaf_value" in node:
            nodes.append((0, 0.0, _LEAF, _LEAF, float(node["leaf_value"])))
            return here
        if node["decision_type"] != "<=" or node.get("missing_type", "None") != "None":
            raise ValueError("trees on categories or missing values are not for embeddings")
        nodes.append((0, 0.0, _LEAF, _LEAF, 0.0))
        left, right = add(node["left_child"]), add(node["right_child"])
        nodes[here] = (int(node["split_feature"]), float(node["threshold"]), left, right, 0.0)
        return here

    roots = [add(tree["tree_structure"]) for tree in dumped["tree_info"]]
    feature, threshold, left, right, value = (np.array(column) for column in zip(*nodes, strict=True))
    return Trees(
        feature=feature, threshold=threshold, left=left, right=right, value=value, roots=np.array(roots),
        classes=np.asarray(classes, dtype=np.int64),
    )  # fmt: skip


def _shape(array: Array, dimensions: int) -> tuple[int, ...]:
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"an array of {dimensions} dimensions is needed, not of shape {array.shape}")
    return array.shape


def _check(one: Any, **shapes: tuple[int, ...]) -> None:
    for name, shape in shapes.items():
        if (array := getattr(one, name)).shape != shape:
            raise ValueError(f"{name} has the shape {array.shape}, not {shape}")


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _coupled(r: F64) -> F64:
    """One row of class probabilities (C,) from pairwise ones (C, C): libsvm's ``multiclass_probability``."""
    count = len(r)
    q = -r.T * r
    np.fill_diagonal(q, (r.T**2).sum(axis=1) - np.diagonal(r) ** 2)
    p = np.full(count, 1.0 / count)
    for _ in range(max(100, count)):
        qp = q @ p
        total = float(p @ qp)
        if float(np.abs(qp - total).max()) < 0.005 / count:
            break
        for t in range(count):
            change = (total - qp[t]) / q[t, t]
            p[t] += change
            total = (total + change * (change * q[t, t] + 2 * qp[t])) / (1 + change) ** 2
            qp = (qp + change * q[t]) / (1 + change)
            p /= 1 + change
    return p
