"""A later revision goes out only when the reader would learn something new (CLINICAL.md 23)."""

from __future__ import annotations

from dataclasses import replace

import builders_results as made

from cauda.core.domain import Level, Reason, Status
from cauda.worker.changes import change_text, changes

GRADED = made.report(*made.all_graded())


def test_the_same_grades_on_other_slices_are_nothing_new() -> None:
    moved = tuple(replace(one, point_mm=(9.0, 9.0, 9.0), probabilities={"Severe": 1.0}) for one in GRADED.findings)
    assert changes(GRADED, replace(GRADED, findings=moved, timings_ms={"all": 3.0})) == []


def test_a_grade_and_an_abstention_are_named_with_what_they_were() -> None:
    first = made.graded(Level.L1_L2, "Severe")
    last = made.not_graded(Level.L5_S1, Reason.MOTION)
    new = replace(GRADED, findings=(first, *GRADED.findings[1:4], last))
    assert changes(GRADED, new) == [
        "L1/L2 Severe, was L1/L2 Normal/Mild",
        "L5/S1 not graded (motion), was L5/S1 Normal/Mild",
    ]


def test_another_reason_for_not_grading_is_new() -> None:
    old = replace(GRADED, findings=tuple(made.not_graded(level, Reason.NOT_IMAGED) for level in Level))
    new = replace(GRADED, findings=tuple(made.not_graded(level, Reason.MOTION) for level in Level))
    assert len(changes(old, new)) == 5


def test_doubt_about_the_numbering_changes_every_name() -> None:
    said = changes(GRADED, replace(GRADED, level_doubt=Reason.TRANSITIONAL))
    assert said[0] == "5th from lowest Normal/Mild, was L1/L2 Normal/Mild"
    assert len(said) == 5


def test_a_study_that_can_be_graded_after_all_is_new() -> None:
    rejected = made.report(status=Status.REJECTED, reason=Reason.NO_AXIAL_T2)
    assert changes(rejected, GRADED) == ["analysed, was not analysed: no axial T2 found"]


def test_the_header_stays_short() -> None:
    text = change_text(2, [f"change {i}" for i in range(5)], "quiet")
    assert text == "replaces revision 2: change 0; change 1; change 2; and 2 more (quiet)"
