"""Results taken back: the unsent stay here, the sent are rejected, what stays visible is warned of (CLINICAL.md 31)."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from graded import NAME, graded_house, images, work
from pydicom import Dataset, dcmread
from scripted_archive import KO, Archive, archive
from worker_house import House

from cauda.core import intake, retractions, revisions
from cauda.core.domain import Reason
from cauda.core.retractions import STILL_VISIBLE, Why
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

SC = "1.2.840.10008.5.1.4.1.1.7"


def study_uid() -> str:
    return str(images()[0].StudyInstanceUID)


def retract(at: House, why: Why = Why.WRONG_GRADE) -> retractions.Retracted | None:
    done: retractions.Retracted | None = at.write(retractions.retract, study_uid(), why)
    return done


def delivered(data: Path, peer: Archive, **options: Any) -> House:
    """SR and SC are in the archive."""
    at = graded_house(data, peer.dimse, **options)
    peer.knows(images()[0])
    work(at)
    return at


def note_of(at: House) -> Dataset:
    (row,) = at.rows("result", kind="ko")
    return dcmread(at.data / row["path"])


def test_what_is_unsent_is_never_sent(tmp_path: Path) -> None:
    with archive() as peer:
        at = graded_house(tmp_path, peer.dimse)
        peer.knows(images()[0])
        assert retract(at) == retractions.Retracted(cancelled=2, noted=())
        assert work(at) == 0
        assert not grade_next(at.post())
        assert at.states("delivery") == ["cancelled", "cancelled"]
        assert at.states("revision") == ["retracted"]
        assert retract(at) is None, "there is nothing any more"


@pytest.mark.parametrize(
    ("why", "title"),
    [(Why.WRONG_LEVEL, "113037"), (Why.WRONG_GRADE, "113037"), (Why.WRONG_PATIENT, "113038"),
     (Why.POOR_IMAGES, "113001")],
)  # fmt: skip
def test_an_archive_that_hides_what_is_rejected_gets_the_note_and_no_page(tmp_path: Path, why: Why, title: str) -> None:
    with archive() as peer:
        peer.hides_rejected = True
        at = delivered(tmp_path, peer)
        sent = set(peer.order)
        assert retract(at, why) == retractions.Retracted(cancelled=0, noted=(NAME,))
        assert grade_next(at.post())
        work(at)
        note = note_of(at)
        assert note.SOPClassUID == KO
        assert note.ConceptNameCodeSequence[0].CodeValue == title
        (study,) = note.CurrentRequestedProcedureEvidenceSequence
        assert study.StudyInstanceUID == study_uid()
        assert {
            o.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for o in s.ReferencedSOPSequence
        } == sent
        assert (note.PatientID, note.AccessionNumber) == (images()[0].PatientID, images()[0].AccessionNumber)
        at.clock[0] += 60
        work(at)
        assert [row["state"] for row in at.rows("delivery")][2:] == ["committed", "cancelled"]
        assert len(peer.order) == 3
        assert at.states("revision") == ["retracted", "retracted"]


def test_what_stays_visible_is_said_and_warned_of_on_a_page(tmp_path: Path) -> None:
    with archive() as peer:
        at = delivered(tmp_path, peer)
        retract(at)
        assert grade_next(at.post())
        work(at)
        assert len(peer.order) == 3, "no page before the archive was read"
        at.clock[0] += 60
        work(at)
        note, page = at.rows("delivery")[2:]
        assert note["reason_text"] == f"{STILL_VISIBLE}: 2 objects"
        assert page["state"] == "accepted"
        sent = dcmread(BytesIO(_file(at, peer.order[-1])))
        assert (sent.SOPClassUID, sent.StudyInstanceUID) == (SC, study_uid())
        assert [event["kind"] for event in at.rows("event") if "retraction" in event["kind"]] == [
            "retraction_still_visible"
        ]


def _file(at: House, sop_uid: str) -> bytes:
    (row,) = at.rows("result", sop_uid=sop_uid)
    return (at.data / row["path"]).read_bytes()


def test_an_archive_without_rejection_notes_gets_the_page_at_once(tmp_path: Path) -> None:
    with archive(classes=("1.2.840.10008.5.1.4.1.1.88.34", SC)) as peer:
        at = delivered(tmp_path, peer)
        retract(at)
        assert grade_next(at.post())
        work(at)
        note, page = at.rows("delivery")[2:]
        assert (note["state"], page["state"]) == ("refused", "accepted")
        assert STILL_VISIBLE in note["reason_text"]


def test_a_hold_and_a_day_gone_by_do_not_stop_a_retraction(tmp_path: Path) -> None:
    """The wrong patient is often why a study is held."""
    with archive() as peer:
        at = delivered(tmp_path, peer)
        at.write(intake.hold, study_uid(), Reason.OPERATOR, "wait")
        retract(at, Why.WRONG_PATIENT)
        assert grade_next(at.post())
        at.clock[0] += 3 * 86_400
        work(at)
        assert peer.order[2] == note_of(at).SOPInstanceUID


def test_an_object_under_way_when_it_is_taken_back_is_rejected_too(tmp_path: Path) -> None:
    with archive() as peer:
        at = graded_house(tmp_path, peer.dimse)
        peer.knows(images()[0])
        peer.on_find = lambda: None if at.rows("revision", state="retracted") else retract(at)
        deliver_next(at.post())
        assert peer.order == [], "the last look before it leaves"
        assert grade_next(at.post())
        rejected = note_of(at).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        assert len(rejected) == 1, "it may have left"


def test_a_study_of_another_patient_there_now_gets_no_note(tmp_path: Path) -> None:
    """Never a second patient, not even for a retraction; the operator is told to delete by hand."""
    with archive() as peer:
        at = delivered(tmp_path, peer)
        peer.knows(images()[0], PatientID="SOMEBODY")
        retract(at)
        assert grade_next(at.post())
        work(at)
        assert len(peer.order) == 2
        assert STILL_VISIBLE in at.rows("delivery")[2]["reason_text"]
        assert at.rows("study")[0]["hold"] is None


def test_a_study_that_was_taken_back_can_be_graded_again(tmp_path: Path) -> None:
    with archive() as peer:
        peer.hides_rejected = True
        at = delivered(tmp_path, peer)
        retract(at)
        key = at.write(revisions.requeue, study_uid(), fingerprint=at.post().fingerprint)
        assert key is not None
        while grade_next(at.post()):
            pass
        work(at)
        assert at.states("revision") == ["retracted", "retracted"], "the note goes before all"
        key = at.write(revisions.requeue, study_uid(), fingerprint=at.post().fingerprint)
        assert grade_next(at.post())
        assert at.states("revision")[-1] == "reported"
        work(at)
        assert [row["kind"] for row in at.rows("result")] == ["sr", "sc", "ko", "warning", "sr", "sc"]


def test_late_images_do_not_supersede_a_retraction(tmp_path: Path) -> None:
    with archive() as peer:
        at = delivered(tmp_path, peer)
        retract(at)
        at.freeze(study_uid(), reason="late images")
        assert grade_next(at.post())
        assert note_of(at).SOPClassUID == KO
        assert at.states("revision") == ["retracted", "retracted", "due"]
