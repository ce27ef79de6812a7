"""What a grader and a localiser reach on what they were not trained on, with intervals and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from torch import Tensor

from cauda.core.domain import F64, GradeScale
from cauda.models.bundle import Card
from cauda.models.localiser import CLASSES, UNetLocaliser
from cauda.models.manifest import ABSTENTION
from cauda.models.phantom.crops import Crops
from cauda.models.train_localiser import SACRUM, SPIDER_MM, UNKNOWN, Masked
from cauda.pipeline.parts import Preprocessing

_RESAMPLES = 500


def overlap(weights: dict[str, Tensor], slices: Sequence[Masked]) -> dict[str, float]:
    """Dice of every class over masked slices; what may be sacrum or not is left out of the sacrum's."""
    localiser = UNetLocaliser(weights)
    both, total = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
    for one in slices:
        found = localiser.segment(one.picture[None], (SPIDER_MM, SPIDER_MM))[0].argmax(axis=0)
        for i in range(len(CLASSES)):
            a, b = found == i, one.classes == i
            if i == SACRUM:
                a = a & (one.classes != UNKNOWN)
            both[i] += 2 * (a & b).sum()
            total[i] += a.sum() + b.sum()
    return {name: float(both[i] / max(total[i], 1)) for i, name in enumerate(CLASSES) if i}


def grades(p: F64, held: Crops, draw: np.random.Generator) -> dict[str, float]:
    """Accuracy with its 95 % interval (spines resampled), accuracy by true grade, log loss, ordering, coverage."""
    right = p.argmax(axis=1) == held.rsna
    spines = np.unique(held.spine)
    groups = [right[held.spine == s] for s in spines]
    means = [
        np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))]).mean()
        for _ in range(_RESAMPLES)
    ]
    names = [_name(grade) for grade in GradeScale.RSNA_3.grades]
    out = {
        "crops": float(len(right)),
        "accuracy": float(right.mean()),
        "accuracy_low": float(np.quantile(means, 0.025)),
        "accuracy_high": float(np.quantile(means, 0.975)),
        "log_loss": float(-np.log(np.clip(p[np.arange(len(right)), held.rsna], 1e-9, 1)).mean()),
        "ranked_right": ranked_right(p @ np.arange(p.shape[1]), held),
    }
    return out | {f"accuracy_{name}": float(right[held.rsna == i].mean()) for i, name in enumerate(names)}


def abstention(p: F64, distances: F64, held: Crops, made: Preprocessing) -> dict[str, float]:
    """Share of crops withheld, by true grade (CLINICAL.md 12): quality checks must not discard disease."""
    withheld = (p.max(axis=1) < made.uncertain_below) | (distances > made.max_distance)
    return {
        f"{ABSTENTION}{_name(grade)}": float(withheld[held.rsna == i].mean())
        for i, grade in enumerate(GradeScale.RSNA_3.grades)
    }


def _name(grade: str) -> str:
    return grade.lower().replace("/", "_")


def ranked_right(score: F64, held: Crops) -> float:
    """Share of pairs of one spine's levels with different grades that the score puts in order."""
    good, count = 0, 0
    for spine in np.unique(held.spine):
        rows = np.flatnonzero(held.spine == spine)
        for i in rows:
            for j in rows:
                if held.rsna[i] > held.rsna[j]:
                    count += 1
                    good += int(score[i] > score[j])
    return good / max(count, 1)


def card(about: Card, scores: dict[str, float], digest: str) -> str:
    """The bundle's card, for people."""
    facts = asdict(about)
    lines = [
        f"# {about.name} {about.version}",
        "",
        f"Digest `{digest}`. Scale: {about.scale.value}. Clinical: {str(about.clinical).lower()}.",
        "",
        f"**Intended use.** {facts['intended_use']}",
        "",
        f"**Exclusions.** {facts['exclusions']}",
        "",
        f"**Training data.** {'; '.join(about.training_data)}. The SPIDER images and masks are not part of this",
        "repository. Networks are trained from scratch; no pretrained weights.",
        "",
        f"**On every result.** {about.footer}",
        "",
        "Not a medical device: no CE mark, no FDA clearance. Evaluation and research only; not for diagnosis, triage",
        "or treatment. A hospital that puts it into service may become its manufacturer under local law. Logs,",
        "versions, human oversight and retraction are provided; conformity is not claimed.",
        "",
        "## Evaluation",
        "",
        "On held-out phantoms (grader) and held-out SPIDER patients (localiser), as printed by `make models`. Numbers",
        "on synthetic images say nothing about patients.",
        "",
        "| measure | value |",
        "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in scores.items()),
        "",
    ]
    return "\n".join(lines)
