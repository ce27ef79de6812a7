"""The pages say what the SR and the SC say."""

from __future__ import annotations

import builders_results
import pytest

from cauda.core.domain import Finding, GradeScale, Level, Reason
from cauda.listener import phrases
from cauda.pipeline.report_json import to_json
from cauda.pipeline.results import words


@pytest.mark.parametrize("scale", list(GradeScale))
def test_a_finding_is_said_as_in_the_results(scale: GradeScale) -> None:
    """Two wordings of one grade would make a reader ask which is right."""
    mildest, _, *_, worst = scale.grades
    findings = [
        Finding(level=Level.L4_L5, grade=worst, possible=(scale.grades[1], worst)),
        Finding(level=Level.L4_L5, grade=mildest, possible=(mildest,)),
        Finding(level=Level.L4_L5, abstained=Reason.MOTION),
        Finding(level=Level.L4_L5, abstained=Reason.NOT_IMAGED),
    ]
    report = builders_results.report(*findings, bundle=builders_results.bundle(scale))
    for finding, said in zip(findings, to_json(report, 1)["findings"], strict=True):
        assert phrases.finding(said, scale.value) == words.finding_words(finding, scale)
        step = str(words.severity_step(scale, finding.grade)) if finding.grade else "none"
        assert phrases.step(said) == step


@pytest.mark.parametrize("doubt", [Reason.SACRUM_NOT_SHOWN, Reason.TRANSITIONAL, Reason.SIXTH_SEGMENT])
def test_a_doubted_numbering_is_said_as_in_the_results(doubt: Reason) -> None:
    """Page and SR must not disagree on where discs are counted from (CLINICAL.md 9)."""
    assert phrases.doubt(doubt.value) == words.doubt_words(doubt)


def test_a_disc_of_doubted_numbering_is_counted_in_words() -> None:
    """S-1 is what report.json says; readers take it for S1 (CLINICAL.md 9)."""
    assert [phrases.level(code) for code in ("S-5", "S-4", "S-3", "S-2", "S-1")] == [
        "5th from lowest", "4th from lowest", "3rd from lowest", "2nd from lowest", "lowest disc",
    ]  # fmt: skip
    assert phrases.level("L4/L5") == "L4/L5"


def test_a_failure_is_more_than_the_name_of_an_error() -> None:
    failed = {"state": "FAILED", "reason": "bug", "reason_text": "RuntimeError"}
    assert phrases.why(failed) == "bug: RuntimeError"
    held = {"state": "HELD", "reason": "operator", "reason_text": "asks the ward"}
    assert phrases.why(held) == "asks the ward"


def test_an_event_names_its_revision_and_its_delivery() -> None:
    study = {
        "revisions": [{"id": 7, "number": 2}],
        "deliveries": [{"id": 3, "kind": "sr", "destination": "pacs"}],
    }
    failed = {"event": "revision_failed", "revision_id": 7, "delivery_id": None, "reason": "worker_died"}
    assert phrases.event(failed, study) == "Revision 2 failed: worker died"
    refused = {"event": "delivery_refused", "revision_id": None, "delivery_id": 3}
    assert phrases.event(refused, study) == "SR to pacs: refused"


def test_an_event_of_another_version_is_said_as_it_is() -> None:
    unknown = {"event": "moon_rose", "revision_id": None, "delivery_id": None, "reason": "operator"}
    assert phrases.event(unknown, {"revisions": [], "deliveries": []}) == "Moon rose operator"
    empty = {"event": "study_opened", "revision_id": None, "delivery_id": None}
    assert phrases.event(empty, {"revisions": [], "deliveries": []}) == "First object, from"
