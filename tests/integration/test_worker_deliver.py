"""Results on their way to archives that take, refuse, break off, hang, or have another patient under the study."""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import builders
import pytest
from peers import until
from pydicom import dcmread
from scripted_archive import Archive, archive
from worker_house import House, house

from cauda.core import deliveries, intake
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.worker import folder
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

DAY_S = 86_400.0


def settled(data: Path, peer: Archive, *, options: str = "", **settings: Any) -> House:
    """A house that sends to the archive, and reads nothing back; time stands still unless the test moves it."""
    delivery = {"confirm_after_s": 1000 * DAY_S} | settings.pop("delivery", {})
    return house(data, simulated=True, destinations=[peer.dimse + options], delivery=delivery, **settings)


def graded(at: House, seed: int = 1, **attributes: Any) -> list[Any]:
    images = builders.mr_study(seed, **attributes)
    at.complete(images)
    assert grade_next(at.post())
    return images


def deliver_all(at: House, **settings: Any) -> int:
    """Work until nothing is due; returns the number of tries."""
    tries = 0
    while deliver_next(at.post(**settings)):
        tries += 1
        assert tries < 200
    return tries


def test_sr_and_sc_go_one_after_the_other_and_are_what_lies_in_the_outbox(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        images = graded(at)
        peer.knows(images[0])
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        results = at.rows("result")
        assert [row["kind"] for row in results] == ["sr", "sc"]
        assert peer.order == [row["sop_uid"] for row in results]
        for row in results:
            (sent,) = peer.received[row["sop_uid"]]
            assert builders.dataset_bytes((tmp_path / row["path"]).read_bytes()) == sent


def test_an_archive_that_knows_only_implicit_vr_gets_it(tmp_path: Path) -> None:
    with archive(implicit=True) as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert set(peer.syntaxes) == {"1.2.840.10008.1.2"}


def test_warnings_are_kept_in_the_archives_words(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        peer.script, peer.comment = [0xB000], "coerced"
        deliver_all(at)
        assert at.rows("delivery")[0]["reason_text"] == "status B000: coerced"
        assert at.states("delivery")[0] == "accepted"


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0124])
def test_refusals_end_the_delivery_and_do_not_stop_the_next(tmp_path: Path, status: int) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        peer.script, peer.comment = [status], "not like this"
        deliver_all(at)
        assert at.states("delivery") == ["refused", "accepted"]
        assert at.rows("delivery")[0]["reason_text"] == f"status {status:04X}: not like this"
        at.clock[0] += 30 * DAY_S
        assert deliver_all(at) == 0


@pytest.mark.parametrize("answer", [0xA700, 0x0110, "abort"])
def test_a_passing_failure_is_tried_again_later_and_never_at_once(tmp_path: Path, answer: int | str) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        peer.script = [answer]
        deliver_all(at)
        assert peer.attempts == 1
        assert at.states("delivery") == ["due", "due"]
        at.clock[0] += 900
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]


def test_an_archive_that_hangs_costs_one_try_and_not_the_others(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer, delivery={"network_timeout_s": 0.5})
        for seed in (1, 2, 3):
            peer.knows(graded(at, seed)[0])
        peer.script = ["hang"]
        assert deliver_all(at) == 1
        peer.let_go.set()
        at.clock[0] += 60
        deliver_all(at)
        assert at.states("delivery").count("accepted") >= 4
        at.clock[0] += 900
        deliver_all(at)
        assert set(at.states("delivery")) == {"accepted"}


def test_a_slow_archive_keeps_its_delivery_though_the_lease_is_short(tmp_path: Path) -> None:
    with archive() as peer:
        at = house(tmp_path, destinations=[peer.dimse], delivery={"lease_s": 0.3})
        peer.knows(graded(at)[0])
        peer.script = ["slow"]
        sender = threading.Thread(target=deliver_next, args=(at.post(),))
        sender.start()
        until(lambda: peer.attempts == 1, what="the archive has begun to take it")
        leases: set[float] = set()

        def renewed() -> bool:
            leases.add(at.rows("delivery")[0]["lease_until"])
            return len(leases) > 6

        until(renewed, what="the lease is renewed again and again")
        assert deliveries.claim(at.ledger, worker="other", lease_s=60, known=(peer.dimse,)) is None
        peer.let_go.set()
        sender.join(20)
        assert [row["attempt"] for row in at.rows("delivery")] == [1, 0]
        assert at.states("delivery") == ["accepted", "due"]


def test_one_object_that_breaks_the_archive_does_not_starve_the_others(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        for seed in (1, 2, 3):
            at.clock[0] += 1
            peer.knows(graded(at, seed)[0])
        peer.breaks_on = at.rows("result")[4]["sop_uid"]  # the newest study's SR: first in line, whenever it is due
        for _ in range(60):
            deliver_all(at)
            at.clock[0] += 60
        assert at.states("delivery") == ["accepted"] * 4 + ["due", "due"]
        assert peer.attempts - 4 <= 20


def test_called_aet_unknown_is_told_apart_from_nobody_there(tmp_path: Path) -> None:
    with archive(aet="SOMEBODY", checks_aet=True) as peer:
        at = settled(tmp_path, peer)
        graded(at)
        deliver_all(at)
        (first, _) = at.rows("delivery")
        assert (first["state"], first["reason"]) == ("due", Reason.DESTINATION_REFUSED)
        assert "called" in first["reason_text"].lower()


def test_sop_class_not_taken_is_refused_in_words(tmp_path: Path) -> None:
    with archive(classes=("1.2.840.10008.5.1.4.1.1.7",)) as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        deliver_all(at)
        assert at.states("delivery") == ["refused", "accepted"]
        assert "SOP class not accepted: Comprehensive 3D SR" in at.rows("delivery")[0]["reason_text"]


@pytest.mark.parametrize("best", ["1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.22"])
def test_an_archive_of_older_sr_classes_gets_the_best_it_takes(tmp_path: Path, best: str) -> None:
    with archive(classes=(best, "1.2.840.10008.5.1.4.1.1.7")) as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert at.rows("result")[0]["sop_class_uid"] == best


def test_an_archive_without_the_study_is_waited_for(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        images = graded(at)
        deliver_all(at)
        assert (at.states("delivery"), peer.attempts) == (["due", "due"], 0)
        assert at.rows("delivery")[0]["reason"] == Reason.STUDY_ABSENT
        peer.knows(images[0])
        at.clock[0] += 15
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]


@pytest.mark.parametrize(
    "other", [{"PatientID": "SOMEBODY"}, {"AccessionNumber": "ELSE"}], ids=lambda other: next(iter(other))
)
def test_another_patient_or_order_in_the_archive_holds_the_study(tmp_path: Path, other: dict[str, str]) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0], **other)
        deliver_all(at)
        assert peer.attempts == 0
        (study,) = at.rows("study")
        assert study["hold"] == Reason.IDENTITY_MISMATCH
        assert next(iter(other)) in study["hold_text"]
        assert not any(value in str(at.rows("event")) + str(dict(study)) for value in ("SOMEBODY", "ELSE", "PID1"))


def test_the_study_under_another_uid_is_found_by_an_image(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        images = graded(at)
        first = min(images, key=lambda image: str(image.SOPInstanceUID))
        peer.knows(first, StudyInstanceUID="1.2.3.4")
        deliver_all(at)
        assert peer.attempts == 0
        assert at.rows("study")[0]["hold"] == Reason.IDENTITY_MISMATCH


@pytest.mark.parametrize("unsaid", [{"AccessionNumber": ""}, {"PatientID": ""}, {"PatientID": "  PID1 "}])
def test_what_the_archive_does_not_say_is_unknown_and_not_other(tmp_path: Path, unsaid: dict[str, str]) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0], **unsaid)
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]


def test_an_archive_that_cannot_be_asked_gets_results_that_say_so(tmp_path: Path) -> None:
    with archive(can_find=False) as peer:
        at = settled(tmp_path, peer)
        graded(at)
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert len(at.rows("event", kind="identity_not_checked")) == 2
        sr = (tmp_path / at.rows("result", kind="sr")[0]["path"]).read_bytes()
        assert b"Identity not checked against the archive" in sr


def test_demographics_from_the_archive_make_a_new_revision_and_go_out(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer, options="?demographics=archive")
        images = graded(at)
        peer.knows(images[0], PatientID="MERGED7", PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100")
        deliver_all(at)
        assert peer.attempts == 0
        assert grade_next(at.post())
        deliver_all(at)
        assert at.states("revision") == ["reported", "reported"]
        assert at.states("delivery") == ["cancelled", "cancelled", "accepted", "accepted"]
        sent = [dcmread(BytesIO(_file(raw[0])), force=True) for raw in peer.received.values()]
        assert {(one.PatientID, str(one.PatientName)) for one in sent} == {("MERGED7", "Müller^Änne")}
        assert all(one.StudyInstanceUID == images[0].StudyInstanceUID for one in sent)
        uids = [row["sop_uid"] for row in at.rows("result")]
        assert len(set(uids)) == 4
        at.clock[0] += DAY_S
        assert deliver_all(at) == 0


def test_an_archive_that_is_at_odds_with_itself_is_left_to_a_person(tmp_path: Path) -> None:
    """It has the study twice: nothing is reissued, since neither answer is better than the other."""
    with archive() as peer:
        at = settled(tmp_path, peer, options="?demographics=archive")
        images = graded(at)
        peer.knows(images[0], PatientID="SECOND")
        peer.also = peer.studies[images[0].StudyInstanceUID]
        peer.knows(images[0], PatientID="FIRST")
        for _ in range(5):
            deliver_all(at)
            grade_next(at.post())
            at.clock[0] += 900
        assert at.states("revision") == ["reported"]
        assert at.rows("study")[0]["hold"] == Reason.IDENTITY_MISMATCH
        assert peer.attempts == 0


def _file(dataset: bytes) -> bytes:
    """A C-STORE data set in Explicit VR as a file."""
    meta = builders.part10(builders.mr_study(0)[0])
    return meta[: len(meta) - len(builders.dataset_bytes(meta))] + dataset


def test_a_hold_stops_what_was_already_claimed(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        images = graded(at)
        peer.knows(images[0])
        uid = str(images[0].StudyInstanceUID)
        peer.on_find = lambda: at.write(intake.hold, uid, Reason.OPERATOR, "wait")
        deliver_all(at)
        assert (at.states("delivery"), peer.attempts) == (["due", "due"], 0)
        peer.on_find = lambda: None
        at.write(intake.release, uid)
        at.clock[0] += 60
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]


def test_two_days_without_the_archive_cost_few_tries_and_lose_nothing(tmp_path: Path) -> None:
    """What has become too late meanwhile waits for an operator (CLINICAL.md 29); everything goes once, newest first."""
    with archive() as peer:
        at = settled(tmp_path, peer)
        port = peer.port
    for seed in range(3):
        at.clock[0] += 60
        graded(at, seed)
    tries = 0
    for _ in range(int(2 * DAY_S / 150)):
        at.clock[0] += 150
        tries += deliver_all(at)
    assert DAY_S / 1050 <= tries <= DAY_S / 450 + 10, tries  # none any more once they are late
    assert len(at.rows("event", kind="destination_away")) == 1
    graded(at, 3)
    with archive(port=port) as peer:
        for seed in range(4):
            peer.knows(builders.mr_study(seed)[0])
        at.clock[0] += 1000
        assert deliver_all(at) == 2
        late = [row for row in at.rows("delivery") if row["state"] == "parked"]
        assert [row["reason"] for row in late] == [Reason.TOO_LATE] * 6
        assert at.write(deliveries.release) == 6
        deliver_all(at)
        assert set(at.states("delivery")) == {"accepted"}
        assert all(len(times) == 1 for times in peer.received.values())
        by_sop = {row["sop_uid"]: row["study_uid"] for row in at.rows("result")}
        newest_first = list(dict.fromkeys(by_sop[uid] for uid in peer.order))
        assert newest_first == [str(builders.mr_study(seed)[0].StudyInstanceUID) for seed in (3, 2, 1, 0)]


def test_a_stale_attempt_changes_nothing(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        graded(at)
        known = (peer.dimse,)
        old = deliveries.claim(at.ledger, worker="first", lease_s=60, known=known)
        at.clock[0] += 61
        new = deliveries.claim(at.ledger, worker="second", lease_s=60, known=known)
        assert old
        assert new
        assert (old.id, old.attempt + 1) == (new.id, new.attempt)
        assert not deliveries.accepted(at.ledger, old)
        assert not deliveries.refused(at.ledger, old, Reason.DESTINATION_REFUSED, "late")
        assert at.states("delivery")[0] == "sent"


def test_after_a_crash_in_sent_the_same_bytes_go_again(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])

        class Died(BaseException):
            pass

        def dies(*_: Any, **__: Any) -> None:
            raise Died

        accepted = deliveries.accepted
        deliveries.accepted = dies  # type: ignore[assignment]
        try:
            with pytest.raises(Died):
                deliver_next(at.post())
        finally:
            deliveries.accepted = accepted
        assert at.states("delivery")[0] == "sent"
        at.clock[0] += 61
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        first, again = peer.received[at.rows("result")[0]["sop_uid"]]
        assert first == again


def test_an_answer_is_written_down_when_the_ledger_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the archive has accepted is not sent again because the ledger was away just then."""
    accepted, tries = deliveries.accepted, iter((Unavailable(Reason.LEDGER_DOWN, "ledger: away"), None))

    def away_once(*arguments: Any, **named: Any) -> bool:
        if (error := next(tries, None)) is not None:
            raise error
        return accepted(*arguments, **named)

    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        monkeypatch.setattr(deliveries, "accepted", away_once)
        deliver_all(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert peer.attempts == 2


def test_a_folder_keeps_what_is_there_and_refuses_other_bytes(tmp_path: Path) -> None:
    at = house(tmp_path / "data", simulated=True, destinations=[f"folder:{tmp_path}/out"])
    images = graded(at)
    sr, sc = at.rows("result")
    (tmp_path / "out" / images[0].StudyInstanceUID).mkdir(parents=True)
    target = tmp_path / "out" / images[0].StudyInstanceUID / f"{sr['sop_uid']}.dcm"
    target.write_bytes(b"somebody else's")
    deliver_all(at)
    assert at.states("delivery") == ["refused", "accepted"]
    assert target.read_bytes() == b"somebody else's"
    sent = target.with_name(f"{sc['sop_uid']}.dcm").read_bytes()
    assert sent == (at.data / sc["path"]).read_bytes()
    assert folder.store(tmp_path / "out", images[0].StudyInstanceUID, sc["sop_uid"], sent) == "was there already"
    assert {path.suffix for path in target.parent.iterdir()} == {".dcm"}


def test_a_folder_that_cannot_be_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    at = house(tmp_path / "data", simulated=True, destinations=[f"folder:{tmp_path}/out"])
    graded(at)
    assert deliver_all(at) == 1
    (tmp_path / "out").unlink()
    at.clock[0] += 60
    deliver_all(at)
    assert at.states("delivery") == ["accepted", "accepted"]


def test_an_outbox_that_lies_sends_nothing(tmp_path: Path) -> None:
    with archive() as peer:
        at = settled(tmp_path, peer)
        peer.knows(graded(at)[0])
        for path in at.outbox():
            path.write_bytes(path.read_bytes()[:-2] + b"XX")
        deliver_all(at)
        assert (at.states("delivery"), peer.attempts) == (["refused", "refused"], 0)
