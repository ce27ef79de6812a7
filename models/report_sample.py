"""The one command that looks at the RSNA sample with the starter bundle: for reporting only, nothing follows from it.

Appends date, commit and result to SAMPLE_LOG.md: the pairs of one patient's levels with different labels that are put
in order by our grader, and by the bright fraction (PHANTOM.md), with how many levels were graded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from cauda.core import stored
from cauda.core.domain import Condition, Level
from cauda.models.bundle import load_bundle
from cauda.models.datasets import read_rsna
from cauda.models.phantom.crops import bright_fraction
from cauda.pipeline.analyse import Analysis, analyse_study
from cauda.pipeline.source import SourceImage

LOG = "SAMPLE_LOG.md"


def main() -> None:
    """Analyse the sample, print the result, append it to the log."""
    here = Path(__file__).resolve().parent
    data = Path(os.environ.get("CAUDA_REALDATA") or here.parents[1] / "shared" / "data") / "rsna-sample"
    if not data.is_dir():
        sys.exit(f"no RSNA sample at {data}: set CAUDA_REALDATA")
    parts = load_bundle(here / "starter")
    labels = {
        level: grade
        for study in read_rsna(data / "kaggle")
        for (level, condition), grade in study.grades.items()
        if condition is Condition.CANAL
    }
    found = analyse_study("sample", _images(data / "scanner"), parts)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    ).stdout.strip()
    line = _line(found, labels, commit, parts.info.digest)
    print(line)  # noqa: T201  the command's output
    with (here / LOG).open("a") as file:
        file.write(line + "\n")


def _images(folder: Path) -> list[SourceImage]:
    def image(path: Path) -> SourceImage:
        def read() -> Dataset:
            return dcmread(path)

        return SourceImage(header=stored.header(path), read=read)

    return [image(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def _line(found: Analysis, labels: dict[Level, int], commit: str, digest: str) -> str:
    grades = {one.level: one for one in found.report.findings}
    ours = {
        level: float(np.arange(len(p)) @ np.array(list(p.values())))
        for level, one in grades.items()
        if (p := one.probabilities)
    }
    bright = {
        level: -float(bright_fraction(tile.pixels[None], mm=tile.mm_per_px * tile.pixels.shape[0])[0])
        for level, tile in found.pictures.tiles.items()
    }
    graded = sum(one.grade is not None for one in grades.values())
    said = ", ".join(f"{level.value} {grades[level].grade or grades[level].abstained}" for level in grades)
    return (
        f"- {datetime.now(UTC).date()} commit {commit} bundle {digest[:12]}: {graded}/{len(Level)} levels graded; "
        f"pairs in order: grader {_ordered(ours, labels)}, bright_fraction {_ordered(bright, labels)}; {said}"
    )


def _ordered(score: dict[Level, float], labels: dict[Level, int]) -> str:
    pairs = [(a, b) for a, b in combinations(Level, 2) if labels.get(a) != labels.get(b) and a in score and b in score]
    right = sum((score[a] > score[b]) == (labels[a] > labels[b]) for a, b in pairs)
    return f"{right}/{len(pairs)}"


if __name__ == "__main__":
    main()
