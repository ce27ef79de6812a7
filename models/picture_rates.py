"""What the checks of axial images by picture catch, and what they withhold: `make picture-rates`.

Every study is judged as it is, and again with each fault: in all its axial images, or in one block of them. A level
counts in a row if images that were changed are what shows it. Phantoms are whole studies. SPIDER has sagittal slices
only: every second one is taken as the sagittal series, and strips across the others as axial images of each disc.

Results are kept a study at a time; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.stats import binomtest

from cauda.core.domain import F64, SliceRef, Volume
from cauda.models.bundle import load_bundle
from cauda.models.phantom.kinds import Kind
from cauda.models.phantom.protocol import QUICK, Protocol
from cauda.models.phantom.study import make_study
from cauda.models.phantom.vendors import VENDORS
from cauda.models.train_localiser import SPIDER_MM, spider
from cauda.pipeline.axial import slices_at
from cauda.pipeline.levels import Levels, locate
from cauda.pipeline.parts import Localiser
from cauda.pipeline.placing import against, at_level
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import volumes as volumes_of

_SEED = 5200  # no seed that limits were chosen on
_BLOCK, _GAP_MM, _PIXEL_MM, _THICK_MM = 6, 4.0, 0.6, 4.0  # of axial images made from SPIDER
_PADDED_MM = 15.0  # beside them: the canal has to lie inside the image
_FEWEST = 7  # slices of a SPIDER patient
_HEAD = ("| fault | in | levels | not used | 95 % interval | reasons |", "|---|---|---|---|---|---|")
Change = Callable[[Volume], Volume]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exam:
    """Levels of one sagittal series, and axial volumes; ``t1`` at the same places, where there are such."""

    levels: Levels
    axial: tuple[Volume, ...]
    t1: tuple[Volume, ...] = ()


def moved(*by_mm: float) -> Change:
    """Images said to lie so far to the left, back and head of where they do."""

    def change(volume: Volume) -> Volume:
        affine = volume.affine.copy()
        affine[:3, 3] += by_mm
        origins = None if volume.origins_mm is None else volume.origins_mm + np.array(by_mm)
        return replace(volume, affine=affine, origins_mm=origins)

    return change


def spaced(across: float, down: float) -> Change:
    """Pixels said to be so many times their size, round the image's middle."""

    def change(volume: Volume) -> Volume:
        affine = volume.affine @ np.diag([across, down, 1.0, 1.0])
        _, height, width = volume.pixels.shape
        off = (volume.affine - affine)[:3, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
        affine[:3, 3] += off
        origins = None if volume.origins_mm is None else volume.origins_mm + off
        return replace(volume, affine=affine, origins_mm=origins)

    return change


def inverted(volume: Volume) -> Volume:
    """Bright for dark."""
    return replace(volume, pixels=volume.pixels.max() - volume.pixels)


CASES: dict[str, Change] = {
    "as it is": lambda volume: volume,
    **{f"{mm:+d} mm along the spine": moved(0, 0, mm) for mm in (-33, -16, -8, 8, 16, 33)},
    "15 mm to the left": moved(15, 0, 0),
    "12 mm to the front": moved(0, -12, 0),
    **{f"pixels {scale} times their size": spaced(scale, scale) for scale in (0.6, 0.78, 1.28, 1.67)},
    "pixels 1.28 times as wide, 0.78 as high": spaced(1.28, 0.78),
    "grey values inverted": inverted,
}


def outcomes(exam: Exam, place: int) -> Iterator[tuple[str, str, str]]:
    """Scope, case and outcome (``used`` or the reason) of each level that changed images show.

    ``place`` says which block it is where one is changed.
    """
    for name, change in CASES.items():
        yield from (("all", name, one) for one in _judged(exam, tuple(map(change, exam.axial)), range(99)))
    if exam.t1:
        yield from (("all", "T1 called T2", one) for one in _judged(exam, exam.t1, range(99)))
    if len(exam.axial) > 1:
        changed = place % len(exam.axial)
        for name, change in list(CASES.items())[1:]:
            some = tuple(change(one) if i == changed else one for i, one in enumerate(exam.axial))
            yield from (("one block", name, one) for one in _judged(exam, some, [changed]))


def _judged(exam: Exam, axial: Sequence[Volume], changed: Sequence[int]) -> Iterator[str]:
    whole = against(axial, exam.levels, shared=False)
    for disc in exam.levels.discs.values():
        here = slices_at(axial, disc.point_mm, exam.levels.canal_mm)
        if here and any(axial[i] is here[0].volume for i in changed if i < len(axial)):
            yield (whole or at_level(here, exam.levels) or "used")


def phantom(number: int, localiser: Localiser, sagittal: Kind) -> Exam | None:
    """A drawn study; None where no spine was seen."""
    protocol = Protocol(
        kinds=(*QUICK, Kind.SAGITTAL_STIR, Kind.AXIAL_T1), axial="stack" if number % 3 == 2 else "blocks",
        axial_spacing_mm=5.0 if number % 3 == 2 else 4.0, vendor=list(VENDORS)[number % len(VENDORS)],
        syntax="1.2.840.10008.1.2.1", balanced=True,
    )  # fmt: skip
    study = make_study(_SEED, number, protocol, threads=1)

    def of(kind: Kind) -> tuple[Volume, ...]:
        images = [one for one in study.images if study.kinds[one.SeriesInstanceUID] is kind]
        return tuple(volumes_of([SourceImage(header=one, read=lambda one=one: one) for one in images]))  # type: ignore[misc]  # a loop variable as default

    levels = locate(of(sagittal)[0], localiser)
    return None if levels is None else Exam(levels=levels, axial=of(Kind.AXIAL_T2), t1=of(Kind.AXIAL_T1))


def spider_exams(folder: Path, localiser: Localiser) -> Iterator[tuple[int, Exam | None]]:
    """SPIDER's patients, with axial strips of six slices at each disc."""
    names = [path.stem for path in sorted((folder / "t2_space" / "images").glob("*.jpg"))]
    numbers = [float(name.partition("slice")[2]) for name in names]
    masked = spider(folder)
    for patient in sorted({one.patient for one in masked}):
        mine = [(x, one.picture) for x, one in zip(numbers, masked, strict=True) if one.patient == patient]
        mine.sort(key=lambda one: one[0])
        if len(mine) >= _FEWEST:
            yield patient, _spider_exam(np.array([x for x, _ in mine]), np.stack([p for _, p in mine]), localiser)


def _spider_exam(x_mm: F64, pictures: F64, localiser: Localiser) -> Exam | None:
    shown, between = slice(0, None, 2), slice(1, None, 2)
    affine = np.array([[0, 0, x_mm[2] - x_mm[0], x_mm[0]], [SPIDER_MM, 0, 0, 0], [0, -SPIDER_MM, 0, 0], [0, 0, 0, 1]])
    origins = np.stack([x_mm[shown], 0 * x_mm[shown], 0 * x_mm[shown]], axis=1)
    levels = locate(_volume(pictures[shown], affine, origins), localiser)
    if levels is None:
        return None
    axial = [_strip(x_mm[between], pictures[between], disc.point_mm[2]) for disc in levels.discs.values()]
    return Exam(levels=levels, axial=tuple(one for one in axial if one is not None))


def _strip(x_mm: F64, pictures: F64, middle_mm: float) -> Volume | None:
    """Axial slices across sagittal ones, darker shades lifted and noise added: another acquisition's picture."""
    across = np.arange(x_mm[0] - _PADDED_MM, x_mm[-1] + _PADDED_MM, _PIXEL_MM)
    half = round(_THICK_MM / 2 / SPIDER_MM)
    heights = middle_mm + (np.arange(_BLOCK) - (_BLOCK - 1) / 2) * _GAP_MM
    made = []
    for number, height in enumerate(heights):
        row = round(-height / SPIDER_MM)
        if row - half < 0 or row + half >= pictures.shape[1]:
            return None
        lines = pictures[:, row - half : row + half + 1].mean(axis=1)
        slice_ = np.stack([np.interp(across, x_mm, lines[:, column]) for column in range(lines.shape[1])])
        noise = np.random.default_rng(number).normal(0, 0.02, slice_.shape)
        made.append(np.clip(ndimage.gaussian_filter1d(slice_, 0.8, axis=0), 0, 1) ** 0.7 + noise)
    affine = np.array([[_PIXEL_MM, 0, 0, across[0]], [0, SPIDER_MM, 0, 0], [0, 0, _GAP_MM, heights[0]], [0, 0, 0, 1]])
    return _volume(np.stack(made), affine, None)


def _volume(pixels: F64, affine: F64, origins: F64 | None) -> Volume:
    refs = tuple(
        SliceRef(sop_instance_uid=f"1.{i}", sop_class_uid="1", frame=1, instance_number=i) for i in range(len(pixels))
    )
    return Volume(
        series_instance_uid="1", series_number=1, description="", pixels=pixels.astype(np.float32), affine=affine,
        slices=refs, origins_mm=origins,
    )  # fmt: skip


def main() -> None:
    """Judge what is left to be judged, and print a table a source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=24, help="how many phantoms are drawn")
    parser.add_argument(
        "--work", type=Path, default=Path("out") / "picture-rates.jsonl", help="results, kept over runs"
    )
    arguments = parser.parse_args()
    localiser = load_bundle(Path(__file__).resolve().parent / "starter").localiser
    arguments.work.parent.mkdir(parents=True, exist_ok=True)
    for source, kind in (("phantom", Kind.SAGITTAL_T2), ("phantom, STIR", Kind.SAGITTAL_STIR)):
        for number in range(arguments.studies):
            if (source, number) not in _kept(arguments.work):
                _keep(arguments.work, source, number, phantom(number, localiser, kind))
    if data := os.environ.get("CAUDA_REALDATA"):
        for patient, exam in spider_exams(Path(data) / "spider", localiser):
            if ("SPIDER", patient) not in _kept(arguments.work):
                _keep(arguments.work, "SPIDER", patient, exam)
    for source in ("phantom", "phantom, STIR", "SPIDER"):
        _print(source, [rows for (of, _), rows in _kept(arguments.work).items() if of == source])


def _kept(work: Path) -> dict[tuple[str, int], list[list[str]]]:
    lines = work.read_text(encoding="utf-8").splitlines() if work.exists() else []
    return {(row["source"], row["number"]): row["outcomes"] for row in map(json.loads, lines)}


def _keep(work: Path, source: str, number: int, exam: Exam | None) -> None:
    rows = [] if exam is None else [list(one) for one in outcomes(exam, number)]
    with work.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"source": source, "number": number, "outcomes": rows}) + "\n")


def _print(source: str, studies: Sequence[list[list[str]]]) -> None:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for scope, name, outcome in (row for rows in studies for row in rows):
        counts.setdefault((name, scope), Counter())[outcome] += 1
    rows = [f"\n{source}: {len(studies)} studies, {sum(not rows for rows in studies)} without levels\n", *_HEAD]
    for (name, scope), found in counts.items():
        total, withheld = found.total(), found.total() - found["used"]
        interval = binomtest(withheld, total).proportion_ci(method="wilson")
        reasons = ", ".join(f"{reason} {count}" for reason, count in found.most_common() if reason != "used")
        shares = f"{withheld / total:.1%} | {interval.low:.1%} to {interval.high:.1%}"
        rows.append(f"| {name} | {scope} | {total} | {shares} | {reasons} |")
    print("\n".join(rows))  # noqa: T201  the command's output


if __name__ == "__main__":
    main()
