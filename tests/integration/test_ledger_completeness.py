"""The completeness tick over many studies at once: few statements, few transactions, each study by its own facts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from ledgers import FINGERPRINT, House, counted
from sqlalchemy import Connection, insert, select

from cauda.core import intake, processes, schema
from cauda.core.headers import Role
from cauda.core.ledger import Ledger
from cauda.core.schema import StudyState
from cauda.core.settings import Completeness
from cauda.listener import completeness

pytestmark = pytest.mark.peers

POLICY = Completeness(after_release_s=5, quiet_s=60, hard_age_s=600, agree_s=20, stale_s=300)


def receive(house: House, *uids: str, association: str | None = None) -> None:
    """An axial and a sagittal image of each."""
    for uid in uids:
        for number, role in enumerate((Role.AXIAL, Role.SAGITTAL)):
            house.arrive(uid, f"{uid}.1.{number}", role=role, association=association)


def associate(house: House, key: str, listener: str) -> None:
    """A listener lives, and has accepted an association."""
    with house.ledger.write() as conn:
        processes.seen(house.ledger, conn, token=listener, role="listener", slots=0)
        intake.opened(house.ledger, conn, association_id=key, listener=listener, calling_aet="MR", called_aet="CAUDA",
                      address="h")  # fmt: skip


def tick(house: House) -> list[str]:
    return completeness.tick(house.ledger, POLICY, FINGERPRINT)


def waits(house: House, *uids: str) -> dict[str, str]:
    with house.ledger.read() as conn:
        return completeness.waits_for(house.ledger, conn, uids, POLICY)


def test_the_statements_of_a_tick_do_not_grow_with_the_studies_under_way(house: House) -> None:
    """Nor do those of a page that says what each study waits for."""
    associate(house, "a", "l1")
    seen = []
    for start, end in ((0, 10), (10, 200)):
        uids = [f"1.{number}" for number in range(start, end)]
        receive(house, *uids, association="a")
        with house.ledger.write() as conn:
            for uid in uids:
                conn.execute(insert(schema.listing).values(study_uid=uid, asked_at=1.0, series={"1.2": 3}, since=1.0,
                                                           answered_at=1.0))  # fmt: skip
        with counted(house) as ticked:
            assert tick(house) == []
        with counted(house) as shown:
            assert len(waits(house, *(f"1.{number}" for number in range(end)))) == end
        seen.append((ticked, shown))
    few, many = seen
    assert few == many
    assert many[0]["writes"] == 0
    assert 0 < many[0]["statements"] <= 8


def test_studies_that_are_due_together_are_frozen_in_few_transactions_each_with_its_events(house: House) -> None:
    uids = [f"1.{number}" for number in range(40)]
    receive(house, *uids)
    house.time.passes(61)
    with counted(house) as counts:
        assert sorted(tick(house)) == sorted(uids)
    assert counts["writes"] <= 1 + 40 // completeness.AT_ONCE
    assert [row.state for row in house.rows(schema.study)] == [StudyState.COMPLETE] * 40
    for kind in ("study_completed", "revision_due"):
        assert sorted(row.study_uid for row in house.events(kind)) == sorted(uids)
    assert {(row.study_uid, row.number) for row in house.rows(schema.revision)} == {(uid, 1) for uid in uids}
    frozen = house.rows(schema.revision_input)
    assert len({row.instance_id for row in frozen}) == len(frozen) == 80
    assert tick(house) == []


def test_each_study_is_decided_by_its_own_facts(house: House) -> None:
    associate(house, "a", "l1")
    associate(house, "dead", "l2")
    house.reported("1.6")
    house.change(schema.process, {"token": "l2"}, seen_at=0.0)  # silent for longer than a listener may be
    for uid, association in (("1.1", "a"), ("1.2", "dead"), ("1.3", None)):
        receive(house, uid, association=association)
    house.arrive("1.4", "1.4.1.1", role=Role.AXIAL)
    receive(house, "1.5")
    house.arrive("1.6", "1.6.1.9")
    with house.ledger.write() as conn:
        conn.execute(insert(schema.listing).values(study_uid="1.5", asked_at=1.0, series={"1.5.1": 3, "1.5.2": 4},
                                                   since=house.time.now, answered_at=house.time.now))  # fmt: skip
    house.time.passes(59)
    house.change(schema.process, {"token": "l1"}, seen_at=house.time.now)
    assert waits(house, *(f"1.{number}" for number in range(1, 8))) == {
        "1.1": "an association that brought images is open",
        "1.2": "quiet for 59 s of 60 s",
        "1.3": "quiet for 59 s of 60 s",
        "1.4": "sagittal and axial T2 are not both there: 1 axial T2-possible",
        "1.5": "archive lists 2 MR series, 2 not all here: 5 images missing",
        "1.6": "late images of a reported study wait out the hard age",
    }
    house.arrive("1.1", "1.1.1.9", association="a")
    house.time.passes(1)
    assert sorted(tick(house)) == ["1.2", "1.3"]


@dataclass(frozen=True, slots=True)
class _Interrupted(Ledger):
    """One where something happens between deciding and the lock."""

    before: Callable[[], object]

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.before()
        with Ledger.write(self) as conn:
            yield conn


def test_what_arrives_between_deciding_and_the_lock_keeps_its_study_open_and_no_other(house: House) -> None:
    receive(house, "1.1", "1.2")
    house.time.passes(60)
    busy = _Interrupted(house.ledger.engine, house.ledger.now, lambda: house.arrive("1.1", "1.1.1.9"))
    assert completeness.tick(busy, POLICY, FINGERPRINT) == ["1.2"]
    assert (house.study("1.1").state, house.study("1.2").state) == (StudyState.RECEIVING, StudyState.COMPLETE)


def test_listeners_that_tick_at_once_freeze_each_study_once(house: House) -> None:
    uids = [f"1.{number}" for number in range(40)]
    receive(house, *uids)
    house.time.passes(60)
    houses = [house, house.another(), house.another()]
    together = threading.Barrier(len(houses))
    frozen: list[str] = []

    def ticking(one: House) -> None:
        together.wait()
        frozen.extend(tick(one))

    threads = [threading.Thread(target=ticking, args=(one,)) for one in houses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in houses[1:]:
        one.ledger.engine.dispose()
    frozen.extend(tick(house))  # what one passed over because another held it, who froze it or not
    assert sorted(frozen) == sorted(uids)
    assert len(house.rows(schema.revision)) == len(uids)


@pytest.mark.parametrize("backend", ["postgresql"])  # on SQLite there is one writer
def test_a_study_that_somebody_is_filing_into_keeps_no_other_waiting(house: House) -> None:
    receive(house, "1.1", "1.2")
    house.time.passes(60)
    with house.ledger.write() as conn:
        conn.execute(select(schema.study).where(schema.study.c.uid == "1.1").with_for_update()).one()
        assert tick(house) == ["1.2"]
    assert tick(house) == ["1.1"]
