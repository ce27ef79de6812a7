"""A delivery that an outage, a crash or a changed file meets: nothing is lost, nothing goes twice or altered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders
import pytest
from graded import grade, sending, work
from scripted_archive import archive

from cauda.core import deliveries, resending
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.worker.deliver import deliver_next

DAY_S = 86_400.0


def test_two_days_without_the_archive_cost_few_tries_and_lose_nothing(tmp_path: Path) -> None:
    """What has become too late meanwhile waits for an operator (CLINICAL.md 29); everything goes once, newest first."""
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        port = peer.port
    for seed in range(3):
        at.clock[0] += 60
        grade(at, seed)
    tries = 0
    for _ in range(int(2 * DAY_S / 300)):
        at.clock[0] += 300
        tries += work(at)
    assert DAY_S / 1200 <= tries <= DAY_S / 450 + 10, tries  # none any more once they are late
    assert len(at.rows("event", kind="destination_away")) == 1
    grade(at, 3)
    with archive(port=port) as peer:
        for seed in range(4):
            peer.knows(builders.mr_study(seed)[0])
        at.clock[0] += 1000
        assert work(at) == 2
        late = [row for row in at.rows("delivery") if row["state"] == "parked"]
        assert [row["reason"] for row in late] == [Reason.TOO_LATE] * 6
        assert at.write(resending.release) == 6
        work(at)
        assert set(at.states("delivery")) == {"accepted"}
        assert all(len(times) == 1 for times in peer.received.values())
        by_sop = {row["sop_uid"]: row["study_uid"] for row in at.rows("result")}
        newest_first = list(dict.fromkeys(by_sop[uid] for uid in peer.order))
        assert newest_first == [str(builders.mr_study(seed)[0].StudyInstanceUID) for seed in (3, 2, 1, 0)]


def test_a_stale_attempt_changes_nothing(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        grade(at)
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
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])

        class Died(BaseException):
            pass

        def dies(*_: Any, **__: Any) -> None:
            raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deliveries, "accepted", dies)
            with pytest.raises(Died):
                deliver_next(at.post())
        assert at.states("delivery")[0] == "sent"
        at.clock[0] += 61
        work(at)
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
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        monkeypatch.setattr(deliveries, "accepted", away_once)
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert peer.attempts == 2


def test_an_outbox_that_lies_sends_nothing(tmp_path: Path) -> None:
    with archive() as peer:
        at = sending(tmp_path, peer.dimse)
        peer.knows(grade(at)[0])
        for path in at.outbox():
            path.write_bytes(path.read_bytes()[:-2] + b"XX")
        work(at)
        assert (at.states("delivery"), peer.attempts) == (["refused", "refused"], 0)
