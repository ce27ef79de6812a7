"""A revision from its claim to results in the outbox, whatever the images, the world or our own bugs do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders
import pytest
from pydicom import dcmread
from worker_house import House, house

from cauda.core import claims
from cauda.core.domain import (
    AxialEvidence,
    BundleInfo,
    Finding,
    GradeScale,
    Level,
    Reason,
    Report,
    SagittalEvidence,
    Status,
)
from cauda.core.schema import RevisionKind
from cauda.pipeline.analyse import Analysis
from cauda.worker import revision
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next


@pytest.fixture
def at(tmp_path: Path) -> House:
    return house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])


def grade(at: House, **settings: Any) -> dict[str, Any]:
    """Grade what is due; returns the last revision."""
    assert grade_next(at.post(**settings))
    return dict(at.rows("revision")[-1])


def published(at: House) -> None:
    """Everything due has reached its destination."""
    while deliver_next(at.post()):
        pass


def test_without_a_bundle_every_level_is_not_graded_and_sr_and_sc_are_made(at: House) -> None:
    images = builders.mr_study(1)
    study_uid = at.complete(images)
    row = grade(at)
    assert (row["state"], row["reason"]) == ("reported", None)
    assert {finding["abstained"] for finding in row["report"]["findings"]} == {"no_bundle"}
    sr, sc = (dcmread(at.data / made["path"]) for made in at.rows("result"))
    assert [str(one.SOPClassUID) for one in (sr, sc)] == [
        "1.2.840.10008.5.1.4.1.1.88.34",
        "1.2.840.10008.5.1.4.1.1.7",
    ]
    for one in (sr, sc):
        assert (one.StudyInstanceUID, one.PatientID, one.PatientName) == (study_uid, "PID1", "Test^Study")
        assert one.SeriesDescription == "RESEARCH CAUDA AI canal unverified"
    assert [sr.SeriesNumber, sc.SeriesNumber] == [9901, 9902]
    assert [row["kind"] for row in at.rows("result")] == ["sr", "sc"]


def test_the_same_claim_makes_the_same_bytes(at: House) -> None:
    """What a crash left in the outbox is what the next attempt would have made."""
    at.complete(builders.mr_study(1))
    assert claims.claim(at.ledger, worker="dies", lease_s=60, max_deaths=3)
    again = claims.claim(at.ledger, worker="none", lease_s=60, max_deaths=3)
    assert again is None
    at.clock[0] += 61
    first = grade(at)
    before = {path: path.read_bytes() for path in at.outbox()}
    for path in before:
        path.unlink()
    with at.ledger.write() as conn:
        conn.exec_driver_sql("DELETE FROM delivery")
        conn.exec_driver_sql("DELETE FROM result")
        conn.exec_driver_sql("UPDATE revision SET state = 'due'")
    second = grade(at)
    assert {path: path.read_bytes() for path in at.outbox()} == before
    assert (first["attempt"], second["attempt"]) == (2, 3)


def test_a_bug_is_failed_with_its_stack_and_without_patient_data(at: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_study: str, images: Any, *_: Any) -> Analysis:
        raise KeyError(f"no such patient {images[0].header.PatientName}")

    monkeypatch.setattr(revision, "analyse_study", broken)
    at.complete(builders.mr_study(1))
    row = grade(at)
    assert (row["state"], row["reason"]) == ("failed", "bug")
    assert "broken" in row["reason_text"]
    assert row["reason_text"].endswith("KeyError")
    assert "Test^Study" not in row["reason_text"]
    assert at.outbox() == []


def test_images_that_cannot_be_graded_are_rejected_and_a_lumbar_exam_gets_one_page(at: House) -> None:
    at.complete(builders.mr_study(1, axial=0))
    row = grade(at)
    assert (row["state"], row["reason"]) == ("rejected", "no_axial_t2")
    assert row["report"]["status"] == "REJECTED"
    (page,) = at.rows("result")
    assert page["kind"] == "sc"
    assert at.states("delivery") == ["due"]


def test_another_exam_or_a_site_that_does_not_want_it_gets_no_page(at: House) -> None:
    at.complete(builders.mr_study(1, axial=0, StudyDescription="MR BRAIN"))
    assert grade(at)["state"] == "rejected"
    at.complete(builders.mr_study(2, axial=0))
    grading = at.settings.grading.model_copy(update={"not_analysed_page": False})
    assert grade(at, grading=grading)["state"] == "rejected"
    assert at.rows("result") == []


def test_the_pages_modality_is_a_setting(at: House) -> None:
    """Some viewers treat a modality in a way of their own."""
    at.complete(builders.mr_study(1))
    grading = at.settings.grading.model_copy(update={"page_modality": "XC"})
    assert grade(at, grading=grading)["state"] == "reported"
    assert [dcmread(path).Modality for path in at.outbox()] == ["SR", "XC"]


def test_a_missing_file_is_waited_for(at: House) -> None:
    """A mount that is away is not the images' fault."""
    study_uid = at.complete(builders.mr_study(1))
    folder = at.spool.studies / study_uid
    folder.rename(folder.with_name("away"))
    row = grade(at)
    assert (row["state"], row["reason"], row["deaths"]) == ("due", "file_missing", 0)
    assert not grade_next(at.post())
    folder.with_name("away").rename(folder)
    at.clock[0] += 900
    assert grade(at)["state"] == "reported"


def test_a_file_that_is_not_what_was_filed_is_never_graded(at: House) -> None:
    study_uid = at.complete(builders.mr_study(1))
    victim = sorted((at.spool.studies / study_uid).iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:-4] + b"abcd")
    row = grade(at)
    assert (row["state"], row["reason"]) == ("due", "disk_failed")
    assert victim.name in row["reason_text"]


def test_late_images_that_change_nothing_are_not_sent_again(at: House) -> None:
    images = builders.mr_study(1, axial=6)
    at.complete(images[1:])
    grade(at)
    at.complete(images)
    row = grade(at)
    assert (row["number"], row["state"]) == (2, "reported")
    assert "Nothing changed since revision 1" in row["reason_text"]
    assert len(at.rows("result")) == 2


def test_a_correction_is_reissued_with_new_uids_and_what_it_replaces(at: House) -> None:
    study_uid = at.complete(builders.mr_study(1))
    grade(at)
    published(at)
    at.file(builders.mr_study(1, PatientID="PID2"))
    at.freeze(study_uid, RevisionKind.REISSUE, "demographics corrected")
    row = grade(at)
    assert (row["number"], row["state"]) == (2, "reported")
    first, second = at.rows("result", kind="sr")
    sr = dcmread(at.data / second["path"])
    assert sr.PatientID == "PID2"
    assert first["sop_uid"] != second["sop_uid"]
    replaced = sr.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert replaced.ReferencedSOPInstanceUID == first["sop_uid"]
    assert b"replaces revision 1: patient or study attributes corrected" in (at.data / second["path"]).read_bytes()
    assert at.states("delivery") == ["accepted", "accepted", "due", "due", "due"]  # a note last
    assert [row["detail"] for row in at.rows("event", kind="result_changed")] == [{"replaces": 1}]


def test_what_never_left_is_nobodys_predecessor(at: House) -> None:
    study_uid = at.complete(builders.mr_study(1))
    grade(at)
    at.file(builders.mr_study(1, PatientID="PID2"))
    at.freeze(study_uid, RevisionKind.REISSUE, "demographics corrected")
    grade(at)
    sr = dcmread(at.data / at.rows("result", kind="sr")[1]["path"])
    assert "PredecessorDocumentsSequence" not in sr
    assert at.states("delivery") == ["cancelled", "cancelled", "due", "due"]


def test_a_reissue_keeps_the_findings_of_the_revision_before(at: House, monkeypatch: pytest.MonkeyPatch) -> None:
    study_uid = at.complete(builders.mr_study(1))
    grade(at)
    findings = tuple(Finding(level=level, abstained=Reason.MOTION) for level in Level)
    other = Report(study_instance_uid=study_uid, status=Status.REPORTED, findings=findings)
    monkeypatch.setattr(revision, "analyse_study", lambda *_: Analysis(report=other))
    at.file(builders.mr_study(1, AccessionNumber="ACC2"))
    at.freeze(study_uid, RevisionKind.REISSUE)
    assert {finding["abstained"] for finding in grade(at)["report"]["findings"]} == {"no_bundle"}
    published(at)
    at.freeze(study_uid)
    row = grade(at)
    assert {finding["abstained"] for finding in row["report"]["findings"]} == {"motion"}
    text = (at.data / at.rows("result", kind="sr")[-1]["path"]).read_bytes()
    assert b"replaces revision 2: L1/L2 not graded (motion), was L1/L2 not graded (no bundle)" in text


def test_a_reissue_shows_the_slices_that_gave_the_grades(at: House, monkeypatch: pytest.MonkeyPatch) -> None:
    images = builders.mr_study(1)
    axial, sagittal = str(images[2].SOPInstanceUID), str(images[7].SOPInstanceUID)
    bundle = BundleInfo(name="starter", version="1", digest="ab" * 32, scale=GradeScale.RSNA_3)
    findings = tuple(
        Finding(
            level=level,
            grade="Moderate",
            axial=AxialEvidence(sop_instance_uid=axial, frame=1, center_px=(16, 16), box_px=(8, 8, 24, 24)),
            sagittal=SagittalEvidence(sop_instance_uid=sagittal, frame=1, point_px=(16, 4.0 + 5 * i)),
            point_mm=(0.0, 0.0, 20.0 - 5 * i),
        )
        for i, level in enumerate(Level)
    )
    made = Report(
        study_instance_uid=images[0].StudyInstanceUID, status=Status.REPORTED, findings=findings, bundle=bundle
    )
    monkeypatch.setattr(revision, "analyse_study", lambda *_: Analysis(report=made))
    study_uid = at.complete(images)
    grade(at)
    published(at)
    monkeypatch.delattr(revision, "analyse_study")  # nothing is graded again
    at.file(builders.mr_study(1, PatientID="PID2"))
    at.freeze(study_uid, RevisionKind.REISSUE)
    assert grade(at)["state"] == "reported"
    without, page = (dcmread(at.data / row["path"]) for row in at.rows("result", kind="sc"))
    assert {one.ReferencedSOPInstanceUID for one in page.SourceImageSequence} == {axial, sagittal}
    # the first page was drawn without pictures: below its text these show the difference
    half = page.Rows // 2
    assert page.pixel_array[half:].std() > without.pixel_array[without.Rows // 2 :].std()


def test_a_worker_whose_claim_was_taken_stops_and_leaves_nothing(at: House, monkeypatch: pytest.MonkeyPatch) -> None:
    study_uid = at.complete(builders.mr_study(1))
    analyse: Callable[..., Analysis] = vars(revision)["analyse_study"]
    noticed = threading.Event()

    def superseded(*arguments: Any) -> Analysis:
        with at.ledger.write() as conn:
            conn.exec_driver_sql("UPDATE revision SET attempt = attempt + 1")
        noticed.wait(5)
        return analyse(*arguments)

    renew = claims.renew

    def renewed(*arguments: Any, **named: Any) -> bool:
        answer = renew(*arguments, **named)
        if not answer:
            noticed.set()
        return answer

    monkeypatch.setattr(revision, "analyse_study", superseded)
    monkeypatch.setattr(claims, "renew", renewed)
    grading = at.settings.grading.model_copy(update={"lease_s": 0.1})
    row = grade(at, grading=grading)
    assert noticed.is_set()
    assert row["state"] == "grading"
    assert at.outbox() == []
    assert at.rows("study", uid=study_uid)[0]["hold"] is None


def test_phantoms_and_research_results_are_only_made_for_a_live_archive(tmp_path: Path) -> None:
    destinations = [
        "dimse://PACS@192.0.2.1:104?shadow=1",
        "dimse://PACS@192.0.2.2:104",
        "dimse://PACS@192.0.2.3:104?research=1&shadow=1",
        f"folder:{tmp_path}/out",
    ]
    at = house(tmp_path / "data", destinations=destinations)
    at.complete(builders.mr_study(1))
    grade(at)
    first = at.rows("delivery")[:4]
    assert [row["reason"] for row in first] == ["shadow", "not_research", "shadow", None]
    assert [row["state"] for row in first] == ["parked", "parked", "parked", "due"]
    at.complete(builders.mr_study(2, PatientName="PHANTOM^CAUDA", PatientID="CAUDA-TEST-2"))
    grade(at)
    assert [row["reason"] for row in at.rows("delivery")[8:12]] == ["phantom_not_live"] * 3 + [None]
