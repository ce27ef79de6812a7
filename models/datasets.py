"""Graded studies as they lie on disk: the RSNA 2024 layout, or a folder a study with one CSV of grades.

In RSNA's, ``instance_number`` is the file's number in its series folder; points are pixels, column first.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cauda.core.domain import Condition, GradeScale, Level, Reason
from cauda.core.errors import Rejected

_LEVELS = {level.value.lower().replace("/", "_"): level for level in Level}
_CONDITIONS = {
    "spinal_canal_stenosis": Condition.CANAL,
    "left_subarticular_stenosis": Condition.SUBARTICULAR_LEFT,
    "right_subarticular_stenosis": Condition.SUBARTICULAR_RIGHT,
    "left_neural_foraminal_narrowing": Condition.FORAMINAL_LEFT,
    "right_neural_foraminal_narrowing": Condition.FORAMINAL_RIGHT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPoint:
    """Where a radiologist saw a condition."""

    series: str
    file: Path
    col: float
    row: float
    level: Level
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledStudy:
    """One study: grades as indices into its scale (blank ones are left out), points, series by description."""

    study: str
    grades: dict[tuple[Level, Condition], int]
    points: tuple[LabelledPoint, ...]
    series: dict[str, str]  # series folder -> "Axial T2", "Sagittal T2/STIR", "Sagittal T1"


def read_rsna(folder: Path) -> list[LabelledStudy]:
    """Every study of ``train.csv`` in ``folder``. Rejected when a file or a column is missing, naming it."""
    labels = _rows(folder / "train.csv")
    coordinates = _rows(folder / "train_label_coordinates.csv")
    descriptions = _rows(folder / "train_series_descriptions.csv")
    try:
        return [
            LabelledStudy(
                study=row["study_id"],
                grades=_grades(row),
                points=tuple(_point(folder, one) for one in coordinates if one["study_id"] == row["study_id"]),
                series={
                    one["series_id"]: one["series_description"]
                    for one in descriptions
                    if one["study_id"] == row["study_id"]
                },
            )
            for row in labels
        ]
    except KeyError as error:
        raise Rejected(Reason.UNDECODABLE, f"{folder}: a CSV file has no column {error}") from error


def read_labelled(folder: Path, scale: GradeScale) -> list[LabelledStudy]:
    """Every study of ``labels.csv`` in ``folder``, whose images lie in ``folder/<study>``; no points.

    Columns: study, level (``L4/L5``), grade (a word of ``scale``; blank is left out), and condition (``canal`` where
    the column is absent). Rejected when a column or folder is missing or a word is unknown, naming line and word.
    """
    grades: dict[str, dict[tuple[Level, Condition], int]] = {}
    for line, row in enumerate(_rows(folder / "labels.csv"), 2):
        try:
            study, level, grade = row["study"], Level(row["level"]), row["grade"]
            condition = Condition(row.get("condition") or Condition.CANAL)
        except KeyError as error:
            raise Rejected(Reason.UNDECODABLE, f"labels.csv has no column {error}") from error
        except ValueError as error:
            raise Rejected(Reason.UNDECODABLE, f"labels.csv, line {line}: {error}") from error
        if not (folder / study).resolve().is_relative_to(folder.resolve()) or not (folder / study).is_dir():
            raise Rejected(Reason.UNDECODABLE, f"labels.csv, line {line}: there is no folder {study!r}")
        if grade and grade not in scale.grades:
            allowed = ", ".join(scale.grades)
            raise Rejected(Reason.UNDECODABLE, f"labels.csv, line {line}: {grade!r} is none of {allowed}")
        known = grades.setdefault(study, {})
        if grade:
            known[level, condition] = scale.grades.index(grade)
    return [LabelledStudy(study=study, grades=known, points=(), series={}) for study, known in grades.items()]


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise Rejected(Reason.UNDECODABLE, f"{path} is missing")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _grades(row: dict[str, str]) -> dict[tuple[Level, Condition], int]:
    found = {}
    for name, condition in _CONDITIONS.items():
        for short, level in _LEVELS.items():
            if text := row[f"{name}_{short}"]:
                found[level, condition] = GradeScale.RSNA_3.grades.index(text)
    return found


def _point(folder: Path, row: dict[str, str]) -> LabelledPoint:
    path = folder / "train_images" / row["study_id"] / row["series_id"] / f"{row['instance_number']}.dcm"
    condition = row["condition"].lower().replace(" ", "_")
    return LabelledPoint(
        series=row["series_id"],
        file=path,
        col=float(row["x"]),
        row=float(row["y"]),
        level=_LEVELS[row["level"].lower().replace("/", "_")],
        condition=_CONDITIONS[condition],
    )


def split(patients: Sequence[str], shares: Sequence[float], seed: int) -> list[set[str]]:
    """Patients in disjoint sets of about the given shares; every image of a patient goes with the patient."""
    order = np.random.default_rng(seed).permutation(sorted(set(patients)))
    cuts = np.round(np.cumsum(shares) / sum(shares) * len(order)).astype(int)
    return [set(order[a:b].tolist()) for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
