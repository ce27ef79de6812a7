"""A bundle's grades on the second generator, beside those of the bright fraction.

    python -m tests.second_spine.score --bundle models/starter

Accuracy, order and calibration are over all crops, as if the bundle had to answer; coverage is the share that it does
answer, by its own limits of distance and certainty, and "answered" the accuracy over those. Intervals are 95 %, with
specimens drawn anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from cauda.core.domain import GradeScale, Level
from cauda.core.errors import Misconfigured
from cauda.models.bundle import load_bundle
from cauda.pipeline.parts import Parts

from .measure import (
    Answers,
    Flags,
    Pairs,
    bright_fraction,
    calibration_error,
    in_order,
    interval,
    only,
    per_specimen,
    rival,
)
from .picture import CROP_MM
from .spine import Specimen, make

FIRST_SEED = 10_000  # none below was kept back while the generator was made
SPECIMENS = 120
GRADES = GradeScale.RSNA_3.grades


def seeds(count: int, first: int = FIRST_SEED) -> range:
    """The seeds of the specimens that are scored."""
    return range(first, first + count)


def answers(parts: Parts, specimens: Iterable[Specimen]) -> tuple[Answers, Answers]:
    """What a bundle says of specimens, and what the bright fraction says."""
    if parts.info.scale is not GradeScale.RSNA_3:
        raise Misconfigured(f"the score is on the scale {GradeScale.RSNA_3.value}, not on {parts.info.scale.value}")
    found = [(specimen.seed, one.level, one.truth.rsna, one.crop) for specimen in specimens for one in specimen.slices]
    specimen = np.array([seed for seed, *_ in found])
    levels = [level for _, level, *_ in found]
    truth = np.array([grade for *_, grade, _ in found])
    crops = np.stack([crop for *_, crop in found])
    features = parts.embedder.embed(crops)
    p = parts.grader.predict_proba(features, levels)
    made = parts.preprocessing
    answered = (p.max(axis=1) >= made.uncertain_below) & (parts.grader.distance(features) <= made.max_distance)
    at = np.array([list(Level).index(level) for level in levels])
    bright = bright_fraction(crops, CROP_MM)
    return (
        Answers(specimen=specimen, level=at, truth=truth, score=p @ np.arange(3), probabilities=p, answered=answered),
        Answers(specimen=specimen, level=at, truth=truth, score=-bright, probabilities=rival(bright, specimen, truth),
                answered=np.ones(len(truth), dtype=bool)),
    )  # fmt: skip


def table(name: str, found: Answers) -> Iterator[str]:
    """Lines of a Markdown table: all levels, then each."""
    columns = ("crops", "coverage", "accuracy", "answered", *GRADES, "pairs in order", "calibration error")
    yield f"| {name} | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for level in (None, *range(len(Level))):
        rows = np.ones(len(found.truth), dtype=bool) if level is None else found.level == level
        some, pairs = only(found, rows), in_order(found, level)
        right = some.probabilities.argmax(axis=1) == some.truth
        low, high = interval(*per_specimen(right, some.specimen))
        best, worst = interval(pairs.right, pairs.count)
        by_grade = [_share(right[some.truth == grade]) for grade in range(len(GRADES))]
        cells = (
            str(len(right)), f"{some.answered.mean():.2f}", f"{right.mean():.3f} ({low:.3f}-{high:.3f})",
            _share(right[some.answered]), *by_grade,
            f"{pairs.share:.3f} ({best:.3f}-{worst:.3f}) of {pairs.count.sum():.0f}",
            f"{calibration_error(some.probabilities, some.truth):.3f}",
        )  # fmt: skip
        yield f"| {'all' if level is None else list(Level)[level].value} | " + " | ".join(cells) + " |"


def confusion(found: Answers) -> Iterator[str]:
    """Lines of a Markdown table: what was said of each grade."""
    yield "| is, and is called | " + " | ".join(GRADES) + " |"
    yield "|---" * (len(GRADES) + 1) + "|"
    said = found.probabilities.argmax(axis=1)
    for i, name in enumerate(GRADES):
        yield f"| {name} | " + " | ".join(str(int((said[found.truth == i] == j).sum())) for j in range(3)) + " |"


def ahead(ours: Pairs, trivial: Pairs) -> str:
    """How much more of the pairs the bundle orders than the bright fraction does, on the same specimens."""
    low, high = interval(ours.right - trivial.right, ours.count)
    return f"pairs in order, bundle less bright fraction: {ours.share - trivial.share:+.3f} ({low:+.3f} to {high:+.3f})"


def _share(right: Flags) -> str:
    return f"{right.mean():.2f} of {len(right)}" if len(right) else "none"


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--specimens", type=int, default=SPECIMENS)
    given = options.parse_args()
    torch.set_num_threads(1)
    parts = load_bundle(given.bundle)
    ours, trivial = answers(parts, (make(seed) for seed in seeds(given.specimens)))
    print(f"{parts.info.name} {parts.info.version}, digest {parts.info.digest[:12]}, {given.specimens} specimens\n")
    print("\n".join(table("bundle", ours)), "\n")
    print("\n".join(table("bright fraction", trivial)), "\n")
    print("\n".join(confusion(ours)), "\n")
    print(ahead(in_order(ours), in_order(trivial)))


if __name__ == "__main__":
    main()
