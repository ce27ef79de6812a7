"""How often a level is withheld, by fault, strength and true grade: `make quality` (CLINICAL.md 12).

Every study is drawn once as it is, and at one of its levels once more with each fault. Slices are found by the
phantom's own points, so that nothing but quality is measured. The last line: SPIDER's real sagittal T2.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset

from cauda.core.domain import F64, GradeScale, Level, Point, Reason
from cauda.models.bundle import load_bundle
from cauda.models.phantom.faults import Fault, What
from cauda.models.phantom.kinds import Kind
from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.study import Study, make_study
from cauda.models.phantom.vendors import VENDORS
from cauda.pipeline import grade
from cauda.pipeline.artefacts import RESTLESS_MAX, restless
from cauda.pipeline.axial import slices_at
from cauda.pipeline.parts import Parts
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import volumes

_SEED = 4100  # no seed that limits were chosen on
Case = tuple[str, float]  # fault and strength
_AS_IS: Case = ("as it is", 0.0)
_CASES: tuple[Case, ...] = tuple(
    (str(what), strength)
    for what, strength in (
        (What.MOTION, 1.0), (What.MOTION, 0.5), (What.MOTION, 0.25), (What.METAL, 1.0), (What.METAL, 0.5),
        (What.WRAP, 1.0), (What.LOW_SNR, 1.0), (What.SPIKE, 1.0),
    )
)  # fmt: skip
_ALONG_MM = np.arange(-40.0, 41.0)  # the canal is taken for straight near a disc


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=36, help="how many are drawn, of each maker as many")
    count = parser.parse_args().studies
    parts = load_bundle(Path(__file__).resolve().parent / "starter")
    levels: Counter[tuple[Case, int]] = Counter()
    reasons: Counter[tuple[Case, int, Reason | None]] = Counter()
    vendors: Counter[tuple[str, bool]] = Counter()
    for number in range(count):
        vendor = list(VENDORS)[number % len(VENDORS)]
        for case, true, reason in _outcomes(number, vendor, parts):
            levels[case, true] += 1
            reasons[case, true, reason] += 1
            if case == _AS_IS:
                vendors[vendor, reason is not None] += 1
    for line in (*_table(levels, reasons), "", *_by_vendor(vendors), "", *_real()):
        print(line)  # noqa: T201  the command's output


def _outcomes(number: int, vendor: str, parts: Parts) -> Iterator[tuple[Case, int, Reason | None]]:
    """Fault and strength, true grade, and why it was withheld if it was, of every level that was drawn."""
    for true, reason in _levels(_study(number, vendor), tuple(Level), parts):
        yield _AS_IS, true, reason
    here = list(Level)[number // len(VENDORS) % len(Level)]
    others = tuple(level for level in Level if level is not here)
    for case in _CASES:
        one = Fault(what=What(case[0]), levels=(here,), strength=case[1])
        alone = _study(number, vendor, Fault(what=What.MISSING, levels=others), one)
        for true, reason in _levels(alone, (here,), parts):
            yield case, true, reason


def _study(number: int, vendor: str, *faults: Fault) -> Study:
    return make_study(
        _SEED, number, Protocol(kinds=(Kind.AXIAL_T2,), axial_slices=3, vendor=vendor, balanced=True, faults=faults)
    )


def _levels(study: Study, wanted: Iterable[Level], parts: Parts) -> Iterator[tuple[int, Reason | None]]:
    found = volumes([_source(image) for image in study.images])
    for level in wanted:
        slices = slices_at(found, study.points_mm[level], _canal(study.points_mm[level]))
        looks = grade.looks(level, slices, parts)
        withheld = not any(look.quality.passed for look in looks)
        yield study.truth[level].rsna, (looks[0].quality.reason or Reason.LOW_QUALITY) if withheld else None


def _source(image: Dataset) -> SourceImage:
    return SourceImage(header=image, read=lambda: image)


def _canal(point: Point) -> F64:
    straight: F64 = np.asarray(point) + _ALONG_MM[:, None] * np.array([0.0, 0.0, 1.0])
    return straight


def _table(levels: Counter[tuple[Case, int]], reasons: Counter[tuple[Case, int, Reason | None]]) -> Iterator[str]:
    """Withheld levels of all, by grade, and for which reasons."""
    grades = GradeScale.RSNA_3.grades
    yield f"| fault | strength | {' | '.join(grades)} | all | reasons |"
    yield "|---|---|" + "---|" * (len(grades) + 2)
    for case in (_AS_IS, *_CASES):
        of = [levels[case, true] for true in range(len(grades))]
        why: Counter[str] = Counter()
        for (one, _, reason), count in reasons.items():
            if one == case and reason is not None:
                why[reason] += count
        withheld = [count - reasons[case, true, None] for true, count in enumerate(of)]
        said = (f"{one}/{count}" for one, count in (*zip(withheld, of, strict=True), (sum(withheld), sum(of))))
        because = ", ".join(f"{reason} {count}" for reason, count in why.most_common())
        yield f"| {case[0]} | {case[1] or ''} | {' | '.join(said)} | {because} |"


def _by_vendor(vendors: Counter[tuple[str, bool]]) -> Iterator[str]:
    said = (f"{one} {vendors[one, True]}/{vendors[one, True] + vendors[one, False]}" for one in VENDORS)
    yield f"Withheld as they are, by maker: {', '.join(said)}."


def _real() -> Iterator[str]:
    root = Path(os.environ.get("CAUDA_REALDATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    pictures = sorted((root / "spider" / "stills").rglob("*_t2.*"))
    if not pictures:
        yield f"SPIDER is not at {root}: set CAUDA_REALDATA."
        return
    measured = [restless(np.asarray(Image.open(path).convert("L"), np.float32)) for path in pictures]
    known = [one for one in measured if one is not None]
    moved = sum(one > RESTLESS_MAX for one in known)
    yield f"SPIDER's sagittal T2 that look moved: {moved}/{len(known)}; the most restless measures {max(known):.2f}."


if __name__ == "__main__":
    main()
