"""Results on their way to archives that take, refuse, break off or hang, and into folders."""

from __future__ import annotations

import os
import re
import threading
from functools import partial
from pathlib import Path

import builders
import httpx
import pytest
from graded import grade, sending, work
from listener_house import listener
from peers import HOST, until
from scripted_archive import archive
from worker_house import House, house

from cauda.core import deliveries, passwords, resending, retractions
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.settings import Destination
from cauda.worker import folder
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

DAY_S = 86_400.0
PASSWORD = "correct horse battery"


def page_of(at: House, study_uid: str) -> str:
    """The study's page in the browser of somebody who logged in."""
    users = [{"name": "it", "hash": passwords.hashed(PASSWORD)}]
    with listener(at.data, http={"port": 0, "users": users}) as door:
        url = f"http://{HOST}:{door.ports.http}"
        with httpx.Client(base_url=url, follow_redirects=True, timeout=30, trust_env=False) as browser:
            form = re.findall(r'name="token" value="([^"]+)"', browser.get("/login").text)[0]
            browser.post("/login", data={"token": form, "name": "it", "password": PASSWORD})
            return browser.get(f"/studies/{study_uid}").text


def test_sr_and_sc_go_one_after_the_other_and_are_what_lies_in_the_outbox(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = grade(at)
        peer.knows(images[0])
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        results = at.rows("result")
        assert [row["kind"] for row in results] == ["sr", "sc"]
        assert peer.order == [row["sop_uid"] for row in results]
        for row in results:
            (sent,) = peer.received[row["sop_uid"]]
            assert builders.dataset_bytes((tmp_path / row["path"]).read_bytes()) == sent


def test_an_archive_that_knows_only_implicit_vr_gets_it(tmp_path: Path) -> None:
    with archive(implicit=True) as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert set(peer.syntaxes) == {"1.2.840.10008.1.2"}


@pytest.mark.parametrize(
    ("minds", "words"),
    [
        ([], "status B000: coerced"),
        ([0x00100020], "status B000: coerced; PatientID"),
        ([0x00100020, 0x00091001], "status B000: coerced; PatientID, (0009,1001)"),
    ],
)
def test_warnings_are_kept_in_the_archives_words(tmp_path: Path, minds: list[int], words: str) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        peer.script, peer.comment, peer.minds = [0xB000], "coerced", minds
        work(at)
        assert at.rows("delivery")[0]["reason_text"] == words
        assert at.states("delivery")[0] == "accepted"
        (study,) = at.rows("study")
    shown = page_of(at, study["uid"])
    assert re.search(rf"accepted</span></td>\s*<td>{re.escape(words)}</td>", shown), "in the archive's words"


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0124])
def test_refusals_end_the_delivery_and_do_not_stop_the_next(tmp_path: Path, status: int) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        peer.script, peer.comment = [status], "not like this"
        work(at)
        assert at.states("delivery") == ["refused", "accepted"]
        assert at.rows("delivery")[0]["reason_text"] == f"status {status:04X}: not like this"
        assert f"status {status:04X}: not like this" in page_of(at, at.rows("study")[0]["uid"])
        at.clock[0] += 30 * DAY_S
        assert work(at) == 0


@pytest.mark.parametrize("answer", [0xA700, 0x0110, "abort"])
def test_a_passing_failure_is_tried_again_later_and_never_at_once(tmp_path: Path, answer: int | str) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        peer.script = [answer]
        work(at)
        assert peer.attempts == 1
        assert at.states("delivery") == ["due", "due"]
        at.clock[0] += 900
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]


def test_an_archive_that_hangs_costs_one_try_and_not_the_others(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse, delivery={"network_timeout_s": 0.5})
        for seed in (1, 2, 3):
            peer.knows(grade(at, seed)[0])
        peer.script = ["hang"]
        assert work(at) == 1
        peer.let_go.set()
        at.clock[0] += 60
        work(at)
        assert at.states("delivery").count("accepted") >= 4
        at.clock[0] += 900
        work(at)
        assert set(at.states("delivery")) == {"accepted"}


def test_a_slow_archive_keeps_its_delivery_though_the_lease_is_short(tmp_path: Path) -> None:
    with archive() as peer:
        at = house(tmp_path, destinations=[peer.dimse], delivery={"lease_s": 0.3})
        peer.knows(grade(at)[0])
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
        at = sending(tmp_path, peer.dimse)
        for seed in (1, 2, 3):
            at.clock[0] += 1
            peer.knows(grade(at, seed)[0])
        peer.breaks_on = at.rows("result")[4]["sop_uid"]  # the newest study's SR: first in line, whenever it is due
        for _ in range(60):
            work(at)
            at.clock[0] += 60
        assert at.states("delivery") == ["accepted"] * 4 + ["due", "due"]
        assert peer.attempts - 4 <= 20


def test_called_aet_unknown_is_told_apart_from_nobody_there(tmp_path: Path) -> None:
    with archive(aet="SOMEBODY", checks_aet=True) as peer:
        at = sending(tmp_path, peer.dimse)
        grade(at)
        work(at)
        (first, _) = at.rows("delivery")
        assert (first["state"], first["reason"]) == ("due", Reason.DESTINATION_REFUSED)
        assert "called" in first["reason_text"].lower()


def test_sop_class_not_taken_is_refused_in_words(tmp_path: Path) -> None:
    with archive(classes=("1.2.840.10008.5.1.4.1.1.7",)) as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        work(at)
        assert at.states("delivery") == ["refused", "accepted"]
        assert "SOP class not accepted: Comprehensive 3D SR" in at.rows("delivery")[0]["reason_text"]


@pytest.mark.parametrize("best", ["1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.22"])
def test_an_archive_of_older_sr_classes_gets_the_best_it_takes(tmp_path: Path, best: str) -> None:
    with archive(classes=(best, "1.2.840.10008.5.1.4.1.1.7")) as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert at.rows("result")[0]["sop_class_uid"] == best


def test_a_folder_keeps_what_is_there_and_refuses_other_bytes(tmp_path: Path) -> None:
    at = house(tmp_path / "data", simulated=True, destinations=[f"folder:{tmp_path}/out"])
    images = grade(at)
    sr, sc = at.rows("result")
    (tmp_path / "out" / images[0].StudyInstanceUID).mkdir(parents=True)
    target = tmp_path / "out" / images[0].StudyInstanceUID / f"{sr['sop_uid']}.dcm"
    target.write_bytes(b"somebody else's")
    work(at)
    assert at.states("delivery") == ["refused", "accepted"]
    assert target.read_bytes() == b"somebody else's"
    sent = target.with_name(f"{sc['sop_uid']}.dcm").read_bytes()
    assert sent == (at.data / sc["path"]).read_bytes()
    assert folder.store(tmp_path / "out", images[0].StudyInstanceUID, sc["sop_uid"], sent) == "was there already"
    assert {path.suffix for path in target.parent.iterdir()} == {".dcm"}


@pytest.mark.parametrize("lies", ["link to a file", "link to nothing", "pipe"])
def test_nothing_is_written_or_read_through_what_lies_in_a_folder_already(tmp_path: Path, lies: str) -> None:
    """Others may write there: a symbolic link under an object's name is not followed, and a pipe does not stop us."""
    victim, final = tmp_path / "victim", tmp_path / "out" / "1.2" / "1.3.dcm"
    final.parent.mkdir(parents=True)
    if lies == "pipe":
        os.mkfifo(final)
    else:
        final.symlink_to(victim)
        if lies == "link to a file":
            victim.write_bytes(b"content")
    with pytest.raises(Rejected, match="another object lies there"):
        folder.store(tmp_path / "out", "1.2", "1.3", b"content")
    assert victim.exists() is (lies == "link to a file")
    assert [path.name for path in final.parent.iterdir()] == ["1.3.dcm"]


def test_a_link_where_the_folder_of_a_study_belongs_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1.2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="symbolic link"):
        folder.store(tmp_path / "out", "1.2", "1.3", b"content")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_a_link_leads_to_is_not_held_by_a_folder(tmp_path: Path) -> None:
    """A result counts as confirmed where it lies itself."""
    folder.store(tmp_path / "elsewhere", "1.2", "1.3", b"content")
    assert folder.holds(tmp_path / "elsewhere", "1.2", "1.3")
    (tmp_path / "out" / "1.4").mkdir(parents=True)
    (tmp_path / "out" / "1.4" / "1.3.dcm").symlink_to(tmp_path / "elsewhere" / "1.2" / "1.3.dcm")
    (tmp_path / "out" / "1.2").symlink_to(tmp_path / "elsewhere" / "1.2")
    assert not folder.holds(tmp_path / "out", "1.4", "1.3")
    assert not folder.holds(tmp_path / "out", "1.2", "1.3")


def test_links_that_wait_under_every_name_that_can_be_guessed_are_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "out" / "1.2"
    target.mkdir(parents=True)
    for name in (f".1.3.{os.getpid()}.part", ".1.3.part", "1.3.part"):
        (target / name).symlink_to(tmp_path / "victim")
    folder.store(tmp_path / "out", "1.2", "1.3", b"content")
    assert not (tmp_path / "victim").exists()
    assert (target / "1.3.dcm").read_bytes() == b"content"
    assert not (target / "1.3.dcm").is_symlink()


def test_a_folder_that_cannot_be_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    at = house(tmp_path / "data", simulated=True, destinations=[f"folder:{tmp_path}/out"])
    grade(at)
    assert work(at) == 1
    (tmp_path / "out").unlink()
    at.clock[0] += 60
    work(at)
    assert at.states("delivery") == ["accepted", "accepted"]


@pytest.mark.parametrize(
    ("name", "host", "options", "reason"),
    [
        ("A^B", "127.0.0.1", "?shadow=1", Reason.SHADOW),
        ("A^B", "127.1", "", Reason.NOT_RESEARCH),  # this machine too, in a form that does not count as such
        ("PHANTOM^CAUDA", "127.1", "?research=1", Reason.PHANTOM_NOT_LIVE),
    ],
)
def test_what_was_due_stays_here_once_the_settings_keep_it_back(
    tmp_path: Path, name: str, host: str, options: str, reason: Reason
) -> None:
    """Settings change and the node is restarted; an operator's "send again" is no way around them."""
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at, PatientName=name)[0])
        assert at.states("delivery") == ["due", "due"]
        now = Destination.model_validate({"name": peer.dimse, "url": f"dimse://ARCHIVE@{host}:{peer.port}{options}"})
        peer.asked.clear()
        at.write(resending.retry)
        assert work(at, destinations=(now,)) == 2
        assert [(row["state"], row["reason"]) for row in at.rows("delivery")] == [("parked", reason)] * 2
        assert len(at.rows("event", kind="delivery_parked")) == 2
        assert (peer.attempts, peer.asked) == (0, [])


def test_what_was_kept_back_goes_when_an_operator_says_so_and_the_settings_let_it(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        shadow = (Destination.model_validate({"name": peer.dimse, "url": f"{peer.dimse}?shadow=1"}),)
        work(at, destinations=shadow)
        assert at.states("delivery") == ["parked", "parked"]
        at.clock[0] += 3 * 86_400  # nothing is too late that an operator lets go
        assert at.write(resending.release) == 0
        assert at.write(partial(resending.release, kept_back=True)) == 2
        work(at, destinations=shadow)
        assert (at.states("delivery"), peer.attempts) == (["parked", "parked"], 0)
        assert at.write(partial(resending.release, kept_back=True)) == 2
        work(at)
        assert (at.states("delivery"), len(peer.order)) == (["accepted", "accepted"], 2)


def test_what_takes_results_back_reaches_a_destination_that_gets_no_more(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        images = grade(at)
        peer.knows(images[0])
        work(at)
        shadow = (Destination.model_validate(f"{peer.dimse}?shadow=1"),)
        at.write(retractions.retract, str(images[0].StudyInstanceUID), retractions.Why.WRONG_GRADE)
        assert grade_next(at.post(destinations=shadow))
        work(at, destinations=shadow)
        (note,) = at.rows("result", kind="ko")
        assert peer.order[-1] == note["sop_uid"]
