"""Graders: classifiers by name, one per level, calibrated on spines they were not fitted to.

scikit-learn or LightGBM fits them; what is kept are their arrays (`cauda.models.classifiers`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cauda.core.domain import F32, F64, Level
from cauda.core.errors import Misconfigured
from cauda.models.classifiers import Classifier, plain

Labels = NDArray[np.int64]


def _logistic() -> Any:
    # The network was trained on the same crops: a weaker penalty believes its features too much.
    # This one was chosen on the held-out phantoms, whose scores are therefore a little too good.
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=2000))


def _svm() -> Any:
    return make_pipeline(StandardScaler(), SVC(C=1.0, kernel="rbf", probability=True, random_state=0))


def _lightgbm() -> Any:
    try:
        from lightgbm import LGBMClassifier  # noqa: PLC0415  an extra
    except ImportError as error:
        raise Misconfigured("grader 'lightgbm' needs: pip install 'cauda[lightgbm]'") from error
    return LGBMClassifier(n_estimators=150, num_leaves=15, random_state=0, verbose=-1)


REGISTRY: dict[str, Callable[[], Any]] = {"logistic": _logistic, "svm": _svm, "lightgbm": _lightgbm}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelGraders:
    """`cauda.pipeline.parts.Grader`: a classifier and a temperature per level, and how far is unfamiliar."""

    classifiers: Mapping[Level, Classifier]
    temperatures: Mapping[Level, float]
    grades: int
    centre: F64  # (D,) of the training embeddings
    spread: F64  # (D,)
    held_out: Mapping[Level, int] = field(default_factory=dict)  # cases behind each temperature, where that is kept

    def calibration(self) -> str:
        """How the probabilities are calibrated, for who reads a result; it names no level (CLINICAL.md 9)."""
        numbers = [self.held_out.get(level, 0) for level in self.temperatures]
        least, most = min(numbers), max(numbers)
        cases = f"{least} a level" if least == most else f"{least} to {most} a level"
        known = cases if least else "their number is not recorded"
        return f"temperature per level, on cases kept out of the fit ({known})"

    def predict_proba(self, features: F32, levels: Sequence[Level]) -> F64:
        """Probabilities (N, G), mildest first, for features (N, D)."""
        out = np.zeros((len(features), self.grades))
        for level in set(levels):
            rows = [i for i, one in enumerate(levels) if one == level]
            raw = _probabilities(self.classifiers[level], features[rows], self.grades)
            out[rows] = tempered(raw, self.temperatures[level])
        return out

    def distance(self, features: F32) -> F64:
        """Root mean square of the standardised features (N,): 1 is usual."""
        z = (features - self.centre) / self.spread
        return np.asarray(np.sqrt((z**2).mean(axis=1)), dtype=np.float64)


def fit(
    name: str, features: F32, grades: Labels, levels: Sequence[Level], calibration: NDArray[np.bool_], *, scale: int
) -> LevelGraders:
    """Fit one classifier a level on the rows outside ``calibration``, and its temperature on the rows inside.

    ``scale`` is the number of grades. Raises Misconfigured for an unknown name or a level without each grade.
    """
    if name not in REGISTRY:
        raise Misconfigured(f"grader {name!r} is unknown; allowed: {', '.join(REGISTRY)}")
    classifiers, temperatures, held_out = {}, {}, {}
    for level in Level:
        here = np.array([one == level for one in levels])
        train, held = here & ~calibration, here & calibration
        if len(set(grades[train].tolist())) < scale or not held.any():
            raise Misconfigured(f"training data have not every grade at {level}")
        classifiers[level] = plain(name, REGISTRY[name]().fit(features[train], grades[train]))
        raw = _probabilities(classifiers[level], features[held], scale)
        temperatures[level] = temperature(raw, grades[held])
        held_out[level] = int(held.sum())
    usual = features[~calibration]
    return LevelGraders(
        classifiers=classifiers,
        temperatures=temperatures,
        grades=scale,
        centre=usual.mean(axis=0).astype(np.float64),
        spread=usual.std(axis=0).astype(np.float64) + 1e-6,
        held_out=held_out,
    )


def _probabilities(classifier: Classifier, features: F32, scale: int) -> F64:
    out = np.zeros((len(features), scale))
    out[:, classifier.classes] = classifier.predict_proba(features)
    return out


def tempered(p: F64, temperature_: float) -> F64:
    """Probabilities sharpened (below 1) or softened (above 1)."""
    logits = np.log(np.clip(p, 1e-9, 1)) / temperature_
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def temperature(p: F64, grades: Labels) -> float:
    """The temperature that makes held-out grades most likely (Guo et al. 2017), by a grid: one number, no surprise."""
    grid = np.exp(np.linspace(np.log(0.3), np.log(5.0), 80))
    losses = [-np.log(np.clip(tempered(p, t)[np.arange(len(grades)), grades], 1e-9, 1)).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])
