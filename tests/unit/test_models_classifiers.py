"""A classifier kept as arrays gives what the fitted one gave, and holds no arrays that do not fit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from cauda.models.classifiers import Logistic, Svm, Trees, arrays, classifier, plain
from cauda.models.graders import REGISTRY


def fitted(kind: str, grades: int) -> tuple[Any, np.ndarray]:
    """A classifier as the library fitted it to noise with a trend, and features that it never saw."""
    draw = np.random.default_rng(grades)
    labels = draw.permutation(np.arange(200) % grades)
    features = draw.normal(0, 1, (200, 12)).astype(np.float32)
    features[:, 0] += labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn names another way to get an SVM's probabilities
        made = REGISTRY[kind]().fit(features, labels)
    return made, draw.normal(0, 2, (300, 12)).astype(np.float32)


@pytest.mark.parametrize("grades", [3, 4, 7])
@pytest.mark.parametrize(("kind", "most"), [("logistic", 0.0), ("svm", 1e-9)])
def test_arrays_give_what_scikit_learn_gives(kind: str, most: float, grades: int) -> None:
    """For every number of grades that a scale has; after a round through their stored form."""
    original, features = fitted(kind, grades)
    made = classifier(kind, arrays(plain(kind, original)))
    assert np.array_equal(made.classes, original.classes_)
    assert np.abs(made.predict_proba(features) - original.predict_proba(features)).max() <= most
    assert made.predict_proba(features[:0]).shape == (0, grades)


STUMPS: dict[str, Any] = {  # as LightGBM's `Booster.dump_model` describes two rounds of three classes
    "tree_info": [
        {
            "tree_structure": {
                "split_feature": 1, "threshold": 0.5, "decision_type": "<=", "missing_type": "None",
                "left_child": {"leaf_index": 0, "leaf_value": 1.0},
                "right_child": {
                    "split_feature": 0, "threshold": -1.0, "decision_type": "<=", "missing_type": "None",
                    "left_child": {"leaf_index": 1, "leaf_value": 2.0},
                    "right_child": {"leaf_index": 2, "leaf_value": 3.0},
                },
            }
        },
        *({"tree_structure": {"leaf_value": value}} for value in (0.5, 0.0, 0.25, 0.0, 0.0)),
    ]
}  # fmt: skip


class _Booster:
    """A fitted LightGBM classifier, as far as it is asked."""

    classes_ = np.arange(3)
    booster_ = type("Booster", (), {"dump_model": staticmethod(lambda: STUMPS)})


def test_trees_are_walked_to_the_leaf_and_summed_by_class() -> None:
    made = plain("lightgbm", _Booster())
    features = np.array([[0, 0.5], [-1, 0.6], [-0.9, 0.6]], np.float32)
    scores = np.array([[1.25, 0.5, 0.0], [2.25, 0.5, 0.0], [3.25, 0.5, 0.0]])
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert np.allclose(made.predict_proba(features), expected, atol=1e-12)


def test_a_tree_that_would_never_end_is_refused() -> None:
    stored = arrays(plain("lightgbm", _Booster()))
    for name, bad in (("left", 0), ("left", 99), ("right", 2), ("feature", -1)):
        array = stored[name].copy()
        array[2] = bad
        with pytest.raises(ValueError, match="hang together"):
            Trees(**{**stored, name: array})


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, ns in (("logistic", ("mean", "intercepts", "coefficients")),
                                            ("svm", ("dual", "counts", "offsets", "gamma"))) for n in ns]
)  # fmt: skip
def test_an_array_of_another_shape_is_refused(kind: str, name: str) -> None:
    stored = arrays(plain(kind, fitted(kind, 3)[0]))
    short = {**stored, name: stored[name][:-1]}
    with pytest.raises(ValueError, match=r"shape|belong"):
        {"logistic": Logistic, "svm": Svm}[kind](**short)


def test_other_arrays_than_the_kind_has_are_refused() -> None:
    stored = arrays(plain("logistic", fitted("logistic", 3)[0]))
    with pytest.raises(ValueError, match="other arrays"):
        classifier("svm", stored)
    with pytest.raises(ValueError, match="oracle"):
        classifier("oracle", stored)
