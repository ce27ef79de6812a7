"""UIDs and series numbers of results: the same for the same content, never the same for other content."""

from __future__ import annotations

from dataclasses import replace

import builders_results as made
import pytest

from cauda.core.claims import Claim
from cauda.core.domain import Level, Reason, Report, Status
from cauda.core.schema import RevisionKind
from cauda.pipeline.pictures import Pictures
from cauda.worker.results import Origin, carried, make, ordered_as_lumbar, result_context

ORIGIN = Origin(
    code_version="0.1.0",
    site_timezone="Europe/Zurich",
    tracking_uids={level: f"2.25.{i}" for i, level in enumerate(Level, 1)},
    identity_checked=True,
)
CLAIM = Claim(
    id=1, attempt=1, study_uid=made.STUDY, number=1, kind=RevisionKind.GRADE, frozen_at=1.8e9,
    complete_reason="quiet", config_digest="c0", identity=None, identity_checked=None,
)  # fmt: skip


def uids(report: Report | None = None, claim: Claim = CLAIM, origin: Origin = ORIGIN, **changes: object) -> set[str]:
    context, _ = result_context(claim, report or made.report(), made.sources(**changes), origin)
    ids = (context.sr, context.sc)
    return {uid for one in ids for uid in (one.sop_instance_uid, one.series_instance_uid)}


def test_a_second_attempt_gives_the_same_uids_and_bytes() -> None:
    assert uids() == uids(claim=replace(CLAIM, attempt=2, id=9))
    first, second = (
        make(made.report(), Pictures(), made.sources(),
             result_context(CLAIM, made.report(), made.sources(), ORIGIN)[0], notice=False)
        for _ in range(2)
    )  # fmt: skip
    assert [one.encoded() for one in first] == [one.encoded() for one in second]


@pytest.mark.parametrize(
    "changed",
    [
        uids(claim=replace(CLAIM, number=2)),
        uids(claim=replace(CLAIM, study_uid="2.25.9")),
        uids(report=made.no_bundle()),
        uids(origin=replace(ORIGIN, identity_checked=False)),
        uids(PatientID="OTHER"),
        uids(PatientName="Other^Name"),
        uids(AccessionNumber="OTHER"),
        uids(StudyDescription="OTHER"),
        uids(claim=replace(CLAIM, identity={"PatientID": "ARCHIVE"})),
        uids(claim=replace(CLAIM, identity={"PatientName": "Gr\xf6\xdfe", "SpecificCharacterSet": "ISO_IR 100"})),
    ],
)
def test_other_content_never_shares_a_uid(changed: set[str]) -> None:
    assert len(changed) == 4
    assert not changed & uids()


def test_what_a_made_object_carries_is_what_was_announced() -> None:
    context, announced = result_context(CLAIM, made.report(), made.sources(), ORIGIN)
    for one in make(made.report(), Pictures(), made.sources(), context, notice=False):
        assert carried(one.dataset) == announced


def test_the_archives_values_are_written_in_its_character_set() -> None:
    claim = replace(CLAIM, identity={"PatientName": "Gr\xf6\xdfe^\xc4nne", "SpecificCharacterSet": "ISO_IR 100"})
    context, _ = result_context(claim, made.report(), made.sources(), ORIGIN)
    for one in make(made.report(), Pictures(), made.sources(), context, notice=False):
        assert "Größe^Änne".encode("iso-8859-1") in one.encoded()
        assert one.dataset.PatientID == made.PATIENT_ID


def test_series_numbers_are_the_next_free_ones() -> None:
    context, _ = result_context(CLAIM, made.report(), made.sources(SeriesNumber=9902), ORIGIN)
    assert (context.sr.series_number, context.sc.series_number) == (9901, 9903)


def test_without_a_clinical_bundle_everything_says_research() -> None:
    for report, research in ((made.no_bundle(), True), (made.report(), True), (_clinical(), False)):
        assert result_context(CLAIM, report, made.sources(), ORIGIN)[0].research is research


def _clinical() -> Report:
    return made.report(bundle=replace(made.bundle(), clinical=True))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"StudyDescription": "MR LWS nativ"}, True),
        ({"StudyDescription": "MR Becken"}, False),
        ({"StudyDescription": "MR HWS", "BodyPartExamined": "LSPINE"}, False),
        ({"StudyDescription": None, "BodyPartExamined": "LSPINE"}, True),
        ({"StudyDescription": None, "BodyPartExamined": "HEAD"}, False),
        ({"StudyDescription": None}, False),
    ],
)
def test_what_counts_as_ordered_as_lumbar(changes: dict[str, str], expected: bool) -> None:
    assert ordered_as_lumbar(made.sources(**changes)) is expected


def test_a_rejected_study_has_a_notice_or_nothing() -> None:
    rejected = replace(made.report(status=Status.REJECTED), reason=Reason.NO_AXIAL_T2, findings=())
    context, _ = result_context(CLAIM, rejected, made.sources(), ORIGIN)
    assert [one.kind for one in make(rejected, Pictures(), made.sources(), context, notice=True)] == ["sc"]
    assert make(rejected, Pictures(), made.sources(), context, notice=False) == []
