"""Done means that the archive has it: commitment on this or another association, else reading back (CLINICAL.md 28)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from graded import graded_house, images, work
from logged import logged
from peers import until
from scripted_archive import archive
from worker_house import House

from cauda.core import commitments
from cauda.worker.grade import grade_next

DAY_S = 86_400.0


def confirmed(at: House) -> list[tuple[str, str | None]]:
    return [(row["state"], row["confirmed_by"]) for row in at.rows("delivery")]


def test_an_archive_without_commitment_is_read_back(tmp_path: Path) -> None:
    with archive() as peer:
        at = graded_house(tmp_path, peer.dimse)
        peer.knows(images()[0])
        work(at)
        assert confirmed(at) == [("accepted", None)] * 2, "said is not had"
        at.clock[0] += 60
        work(at)
        assert confirmed(at) == [("committed", "read_back")] * 2


def test_an_archive_that_lists_nothing_leaves_it_at_accepted(tmp_path: Path) -> None:
    with archive() as peer:
        at = graded_house(tmp_path, peer.dimse)
        peer.knows(images()[0])
        peer.lists_stored = False
        for _ in range(12):
            work(at)
            at.clock[0] += DAY_S / 6
        assert confirmed(at) == [("accepted", None)] * 2
        assert at.rows("delivery")[0]["reason_text"] == "accepted, but the archive does not list it"
        assert peer.attempts == 2, "nothing is sent twice"


def test_an_archive_that_cannot_be_asked_leaves_it_at_accepted(tmp_path: Path) -> None:
    with archive(can_find=False) as peer:
        at = graded_house(tmp_path, peer.dimse)
        for _ in range(4):
            work(at)
            while grade_next(at.post()):  # it turned out that nobody can be asked: made again, saying that
                pass
            at.clock[0] += DAY_S
        sent = [one for one in confirmed(at) if one[0] != "cancelled"]
        assert sent == [("accepted", None)] * 2
        assert work(at) == 0


def test_a_commitment_report_on_the_same_association_ends_it(tmp_path: Path) -> None:
    with archive(commits="here") as peer:
        at = graded_house(tmp_path, peer.dimse, commitment=True)
        peer.knows(images()[0])
        work(at)
        assert confirmed(at) == [("committed", "commitment")] * 2
        until(lambda: peer.told == [0x0000, 0x0000], what="both reports are answered with success")
        assert sorted(uid for uids in peer.transactions.values() for uid in uids) == sorted(peer.order)


def test_a_commitment_report_may_come_hours_later(tmp_path: Path) -> None:
    """To any listener, which gives it to the ledger; until then the page says accepted, and nothing is asked again."""
    with archive(commits="later") as peer:
        at = graded_house(tmp_path, peer.dimse, commitment=True, delivery={"report_wait_s": 0.01})
        peer.knows(images()[0])
        work(at)
        at.clock[0] += DAY_S / 2
        assert work(at) == 0
        assert confirmed(at) == [("accepted", None)] * 2
        for transaction_uid, sop_uids in peer.transactions.items():
            assert commitments.answered(at.ledger, transaction_uid, sop_uids)
        assert confirmed(at) == [("committed", "commitment")] * 2


def test_no_report_within_a_day_and_the_archive_is_read_back(tmp_path: Path) -> None:
    with archive(commits="later") as peer:
        at = graded_house(tmp_path, peer.dimse, commitment=True, delivery={"report_wait_s": 0.01})
        peer.knows(images()[0])
        work(at)
        at.clock[0] += DAY_S + 1
        work(at)
        assert confirmed(at) == [("committed", "read_back")] * 2
        assert len(peer.transactions) == 2, "asked once"


@pytest.mark.parametrize("how", ["fails", "both"])
def test_what_is_refused_commitment_and_not_listed_is_sent_again(tmp_path: Path, how: str) -> None:
    """Also what one report lists as held and as failed."""
    with archive(commits=how) as peer:
        at = graded_house(tmp_path, peer.dimse, commitment=True)
        peer.knows(images()[0])
        peer.lists_stored = False
        work(at)
        assert {row["state"] for row in at.rows("delivery")} == {"due"}
        peer.commits, peer.lists_stored = "here", True
        at.clock[0] += 60
        work(at)
        assert confirmed(at) == [("committed", "commitment")] * 2
        assert all(len(times) == 2 and times[0] == times[1] for times in peer.received.values())


@pytest.mark.parametrize("how", ["refuses", ""])
def test_commitment_that_is_not_done_there_is_replaced_by_reading_back(tmp_path: Path, how: str) -> None:
    with archive(commits=how) as peer:
        at = graded_house(tmp_path, peer.dimse, commitment=True)
        peer.knows(images()[0])
        work(at)
        assert confirmed(at) == [("committed", "read_back")] * 2


def test_an_archive_that_breaks_off_is_asked_again_later(tmp_path: Path) -> None:
    with archive(commits="abort") as peer:
        at = graded_house(tmp_path, peer.dimse, commitment=True)
        peer.knows(images()[0])
        work(at)
        assert confirmed(at) == [("accepted", None)] * 2
        peer.commits = "here"
        at.clock[0] += 60
        work(at)
        assert confirmed(at) == [("committed", "commitment")] * 2


def test_a_folder_is_read_back_too(tmp_path: Path) -> None:
    at = graded_house(tmp_path / "data", f"folder:{tmp_path}/out")
    work(at)
    gone, kept = sorted((tmp_path / "out").rglob("*.dcm"))
    gone.unlink()
    at.clock[0] += 60
    work(at)
    states = {row["state"]: row for row in at.rows("delivery")}
    kept_uid = {row["id"]: row["sop_uid"] for row in at.rows("result")}[states["committed"]["result_id"]]
    assert kept.stem == kept_uid
    assert set(states) == {"accepted", "committed"}


@pytest.mark.parametrize(
    ("scripted", "kept"),
    [
        ({"script": [0xB000]}, "status B000: changed MUELLER^ANNA"),
        ({"script": [0xA700]}, "status A700: changed MUELLER^ANNA"),
        ({"script": [0xC000]}, "status C000: changed MUELLER^ANNA"),
        ({"find_status": 0xA700}, "C-FIND answered status A700: changed MUELLER^ANNA"),
        ({"find_status": 0xC000}, "the archive does not answer whose study it is"),
    ],
)
def test_the_archives_words_stay_in_the_ledger_and_in_no_log(
    tmp_path: Path, scripted: dict[str, Any], kept: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """They may name a patient. In the ledger they are printable ASCII, so that no terminal obeys them."""
    stream = io.StringIO()
    with archive(commits="refuses") as peer, logged(stream, level="debug"):
        at = graded_house(tmp_path, peer.dimse, commitment=True)
        peer.knows(images()[0])
        peer.comment = "changed MUELLER^ANNA"
        for name, value in scripted.items():
            setattr(peer, name, value)
        work(at)
        assert at.rows("delivery")[0]["reason_text"] == kept
        written = stream.getvalue() + "".join(capfd.readouterr())
        assert "delivery_" in written
        assert not any(part in written for part in ("MUELLER", "changed"))
