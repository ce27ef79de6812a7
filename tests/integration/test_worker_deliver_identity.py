"""Nothing is sent to an archive that has another patient under the study, or that a hold forbids (CLINICAL.md 25)."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import builders
import pytest
from graded import grade, sending, work
from pydicom import dcmread
from scripted_archive import Archive, archive
from worker_house import House, house

from cauda.core import intake, retractions
from cauda.core.domain import Reason
from cauda.core.retractions import Why
from cauda.core.schema import RevisionKind
from cauda.worker.grade import grade_next

DAY_S = 86_400.0


def test_an_archive_without_the_study_is_waited_for(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = grade(at)
        work(at)
        assert (at.states("delivery"), peer.attempts) == (["due", "due"], 0)
        assert at.rows("delivery")[0]["reason"] == Reason.STUDY_ABSENT
        peer.knows(images[0])
        at.clock[0] += 15
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]


@pytest.mark.parametrize(
    "other", [{"PatientID": "SOMEBODY"}, {"AccessionNumber": "ELSE"}], ids=lambda other: next(iter(other))
)
def test_another_patient_or_order_in_the_archive_holds_the_study(tmp_path: Path, other: dict[str, str]) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0], **other)
        work(at)
        assert peer.attempts == 0
        (study,) = at.rows("study")
        assert study["hold"] == Reason.IDENTITY_MISMATCH
        assert next(iter(other)) in study["hold_text"]
        assert not any(value in str(at.rows("event")) + str(dict(study)) for value in ("SOMEBODY", "ELSE", "PID1"))


def test_the_study_under_another_uid_is_found_by_an_image(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = grade(at)
        first = min(images, key=lambda image: str(image.SOPInstanceUID))
        peer.knows(first, StudyInstanceUID="1.2.3.4")
        work(at)
        assert peer.attempts == 0
        assert at.rows("study")[0]["hold"] == Reason.IDENTITY_MISMATCH


@pytest.mark.parametrize("unsaid", [{"AccessionNumber": ""}, {"PatientID": ""}, {"PatientID": "  PID1 "}])
def test_what_the_archive_does_not_say_is_unknown_and_not_other(tmp_path: Path, unsaid: dict[str, str]) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0], **unsaid)
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]


@pytest.mark.parametrize(("second", "stated"), [("TRA", "ACC1"), ("TRA", "ACC2"), ("SAG", "ACC2"), ("SAG", None)])
def test_each_accession_number_of_the_study_is_right(tmp_path: Path, stated: str | None, second: str) -> None:
    """Two procedures in one exam: one of its series has another number."""
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = builders.mr_study(1, AccessionNumber="ACC1")
        for image in images:
            if second in image.SeriesDescription:
                image.AccessionNumber = "ACC2"
        assert {image.AccessionNumber for image in images} == {"ACC1", "ACC2"}
        at.complete(images)
        assert grade_next(at.post())
        peer.knows(images[0], AccessionNumber=stated)
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert at.rows("study")[0]["hold"] is None


def test_a_retraction_goes_where_the_study_has_its_other_number(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = builders.mr_study(1, AccessionNumber="ACC1")
        for image in images[: len(images) // 2]:
            image.AccessionNumber = "ACC2"
        at.complete(images)
        assert grade_next(at.post())
        sent = dcmread(tmp_path / at.rows("result", kind="sr")[0]["path"]).AccessionNumber
        peer.knows(images[0], AccessionNumber="ACC1" if sent == "ACC2" else "ACC2")
        work(at)
        assert at.write(retractions.retract, str(images[0].StudyInstanceUID), Why.WRONG_GRADE)
        assert grade_next(at.post())
        work(at)
        assert at.states("delivery")[:3] == ["accepted", "accepted", "accepted"]


def test_a_third_accession_number_holds_the_study(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = builders.mr_study(1, AccessionNumber="ACC1")
        images[0].AccessionNumber = "ACC2"
        at.complete(images)
        assert grade_next(at.post())
        peer.knows(images[0], AccessionNumber="ACC3")
        work(at)
        assert (at.rows("study")[0]["hold"], peer.attempts) == (Reason.IDENTITY_MISMATCH, 0)


def test_an_archive_that_cannot_be_asked_gets_results_that_say_so(tmp_path: Path) -> None:
    with archive(can_find=False) as peer:
        at = sending(tmp_path, peer.dimse)
        grade(at)
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert len(at.rows("event", kind="identity_not_checked")) == 2
        sr = (tmp_path / at.rows("result", kind="sr")[0]["path"]).read_bytes()
        assert b"Identity not checked against the archive" in sr


def test_demographics_from_the_archive_make_a_new_revision_and_go_out(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, f"{peer.dimse}?demographics=archive")
        images = grade(at)
        peer.knows(images[0], PatientID="MERGED7", PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100")
        work(at)
        assert peer.attempts == 0
        assert grade_next(at.post())
        work(at)
        assert at.states("revision") == ["reported", "reported"]
        assert at.states("delivery") == ["cancelled", "cancelled", "accepted", "accepted"]
        sent = [dcmread(BytesIO(_file(raw[0])), force=True) for raw in peer.received.values()]
        assert {(one.PatientID, str(one.PatientName)) for one in sent} == {("MERGED7", "Müller^Änne")}
        assert all(one.StudyInstanceUID == images[0].StudyInstanceUID for one in sent)
        uids = [row["sop_uid"] for row in at.rows("result")]
        assert len(set(uids)) == 4
        at.clock[0] += DAY_S
        assert work(at) == 0


def test_an_archive_that_is_at_odds_with_itself_is_left_to_a_person(tmp_path: Path) -> None:
    """It has the study twice: nothing is reissued, since neither answer is better than the other."""
    with archive() as peer:
        at = sending(tmp_path, f"{peer.dimse}?demographics=archive")
        images = grade(at)
        peer.knows(images[0], PatientID="SECOND")
        peer.also = peer.studies[images[0].StudyInstanceUID]
        peer.knows(images[0], PatientID="FIRST")
        for _ in range(5):
            work(at)
            grade_next(at.post())
            at.clock[0] += 900
        assert at.states("revision") == ["reported"]
        assert at.rows("study")[0]["hold"] == Reason.IDENTITY_MISMATCH
        assert peer.attempts == 0


def test_an_archive_that_says_something_else_each_time_is_left_to_a_person(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, f"{peer.dimse}?demographics=archive")
        images = grade(at)
        for number in range(12):
            peer.knows(images[0], PatientID=f"PID{number:02}X")
            work(at)
            grade_next(at.post())
            at.clock[0] += 900
        (study,) = at.rows("study")
        assert (study["hold"], peer.attempts) == (Reason.IDENTITY_MISMATCH, 0)
        assert "after 5 other answers" in study["hold_text"]
        assert len(at.rows("revision")) == 1 + 5
        at.write(intake.release, study["uid"])
        _many_rounds(at)
        assert _patients(peer) == {"PID11X"}


@pytest.mark.parametrize("as_received", [False, True])
def test_two_archives_that_name_the_patient_differently_are_left_to_a_person(
    tmp_path: Path, *, as_received: bool
) -> None:
    """Results made as one has it are wrong for the other: that ends, and neither gets the other's."""
    with archive() as one, archive() as two:
        at = _sending_to_both(tmp_path, one, two)
        images = grade(at)
        names = ("PID1" if as_received else "FIRST", "SECOND")
        for peer, name in zip((one, two), names, strict=True):
            peer.knows(images[0], PatientID=name)
        _many_rounds(at)
        (study,) = at.rows("study")
        assert study["hold"] == Reason.IDENTITY_MISMATCH
        assert "another PatientID, and earlier results had just that: the archives disagree" in study["hold_text"]
        assert len(at.rows("revision")) <= 3
        for peer, name in zip((one, two), names, strict=True):
            assert _patients(peer) <= {name}
        assert one.attempts >= 2, "whoever was asked first has its results"
        before = [at.rows(table) for table in ("revision", "result", "delivery", "event")]
        asked = len(one.asked), len(two.asked)
        _many_rounds(at)
        assert [at.rows(table) for table in ("revision", "result", "delivery", "event")] == before
        assert (len(one.asked), len(two.asked)) == asked
        one.knows(images[0], PatientID="SECOND")  # somebody corrects it, and lets the study go on
        at.write(intake.release, study["uid"])
        _many_rounds(at)
        assert "SECOND" in _patients(one) & _patients(two)
        assert at.rows("study")[0]["hold"] is None


def test_an_archive_that_answers_nothing_beside_one_that_names_the_patient_otherwise(tmp_path: Path) -> None:
    """What one needs in the results, that nobody was asked, does not undo what the other needs, and the reverse."""
    with archive() as silent, archive() as other:
        silent.find_status = 0xC000
        at = _sending_to_both(tmp_path, silent, other)
        other.knows(grade(at)[0], PatientID="MERGED7")
        _many_rounds(at)
        assert len(at.rows("revision")) <= 3
        assert at.rows("study")[0]["hold"] is None
        last = at.rows("revision")[-1]["id"]
        sent = [row for row in at.rows("result", revision_id=last) if row["kind"] in {"sr", "sc"}]
        assert len(sent) == 2
        for row in sent:
            assert at.states("delivery", result_id=row["id"]) == ["accepted", "accepted"]
            result = dcmread(tmp_path / row["path"])
            assert result.PatientID == "MERGED7"
        assert b"Identity not checked against the archive" in (tmp_path / sent[0]["path"]).read_bytes()


def test_results_wait_where_the_archive_is_corrected_before_our_images_are(tmp_path: Path) -> None:
    """The correction is here and its results are not made yet: neither is the study held, nor does an old result go."""
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        grade(at)
        corrected = builders.mr_study(1, PatientID="PID2", AccessionNumber="ACC2")
        peer.knows(corrected[0])

        def correct() -> None:
            peer.on_find = lambda: None
            at.file(corrected)

        peer.on_find = correct
        work(at)
        assert peer.attempts == 0
        assert at.rows("study")[0]["hold"] is None
        assert (at.states("delivery"), at.rows("delivery")[0]["reason"]) == (["due", "due"], Reason.IDENTITY_MISMATCH)


def test_what_was_replaced_while_the_archive_was_asked_neither_holds_the_study_nor_goes(tmp_path: Path) -> None:
    """The archive was corrected, and so were our images: the answer is about results that nobody wants any more."""
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = grade(at)
        corrected = builders.mr_study(1, AccessionNumber="ACC2")
        peer.knows(corrected[0])

        def correct() -> None:
            peer.on_find = lambda: None
            at.file(corrected)
            at.freeze(str(images[0].StudyInstanceUID), RevisionKind.REISSUE, "demographics corrected")
            assert grade_next(at.post())

        peer.on_find = correct
        for _ in range(3):
            work(at)
            at.clock[0] += 900
        assert at.rows("study")[0]["hold"] is None
        first, second = at.rows("revision")
        assert peer.order == [row["sop_uid"] for row in at.rows("result", revision_id=second["id"])]
        for row in at.rows("result", revision_id=first["id"]):
            assert at.states("delivery", result_id=row["id"]) == ["cancelled"]


def _sending_to_both(data: Path, one: Archive, two: Archive) -> House:
    urls = [f"{peer.dimse}?demographics=archive" for peer in (one, two)]
    return house(data, simulated=True, destinations=urls, delivery={"confirm_after_s": 1000 * DAY_S})


def _many_rounds(at: House) -> None:
    for _ in range(12):
        work(at)
        grade_next(at.post())
        at.clock[0] += 900


def _patients(peer: Archive) -> set[str]:
    return {str(dcmread(BytesIO(_file(raw[0])), force=True).PatientID) for raw in peer.received.values()}


def _file(dataset: bytes) -> bytes:
    """A C-STORE data set in Explicit VR as a file."""
    meta = builders.part10(builders.mr_study(0)[0])
    return meta[: len(meta) - len(builders.dataset_bytes(meta))] + dataset


def test_a_hold_stops_what_was_already_claimed(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = grade(at)
        peer.knows(images[0])
        uid = str(images[0].StudyInstanceUID)
        peer.on_find = lambda: at.write(intake.hold, uid, Reason.OPERATOR, "wait")
        work(at)
        assert (at.states("delivery"), peer.attempts) == (["due", "due"], 0)
        peer.on_find = lambda: None
        at.write(intake.release, uid)
        at.clock[0] += 60
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
