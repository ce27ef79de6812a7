"""Accepted is not committed: what the archive says later, in whatever order, on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from ledgers import PACS, House

from cauda.core import commitments, deliveries, schema
from cauda.core.domain import Reason

pytestmark = pytest.mark.peers

DAY_S = 86_400.0


def accepted(house: House, confirm_in_s: float | None = 0.0) -> None:
    """A study whose SR and SC the archive has accepted."""
    house.reported()
    for _ in range(2):
        assert deliveries.accepted(house.ledger, house.must_take(), confirm_in_s=confirm_in_s)


def take(house: House) -> commitments.Claim:
    claim = commitments.claim(house.ledger, lease_s=60, known=[PACS.name])
    assert claim is not None
    return claim


def none_due(house: House) -> bool:
    return commitments.claim(house.ledger, lease_s=60, known=[PACS.name]) is None


def rows(house: House) -> list[Any]:
    return house.rows(schema.delivery)


def test_a_report_is_matched_by_its_transaction_and_by_nothing_else(house: House) -> None:
    accepted(house)
    first, second = take(house), take(house)
    assert commitments.asked(house.ledger, first, "2.25.1")
    assert commitments.asked(house.ledger, second, "2.25.2")
    assert not commitments.answered(house.ledger, "2.25.3", [first.sop_uid])
    assert commitments.answered(house.ledger, "2.25.1", [first.sop_uid, second.sop_uid])
    assert [(row.state, row.confirmed_by) for row in rows(house)] == [("committed", "commitment"), ("accepted", None)]
    assert commitments.answered(house.ledger, "2.25.1", [first.sop_uid]), "once more changes nothing"
    assert len(house.events("delivery_committed")) == 1


def test_a_day_without_an_answer_and_the_archive_is_read(house: House) -> None:
    accepted(house)
    for number in range(2):
        assert commitments.asked(house.ledger, take(house), f"2.25.{number}")
    house.time.passes(DAY_S - 60)
    assert none_due(house)
    house.time.passes(61)
    claim = take(house)
    assert claim.asked
    assert commitments.found(house.ledger, claim)
    assert (rows(house)[0].state, rows(house)[0].confirmed_by) == ("committed", "read_back")


def test_what_the_archive_refuses_to_commit_and_does_not_list_goes_again(house: House) -> None:
    accepted(house)
    claim = take(house)
    assert commitments.asked(house.ledger, claim, "2.25.1")
    assert commitments.answered(house.ledger, "2.25.1", [], {claim.sop_uid: 0x0112})
    assert rows(house)[0].reason_text == "commitment failed: reason 0112"
    again = take(house)
    assert (again.id, again.asked) == (claim.id, True)
    assert commitments.not_found(house.ledger, again, delay_s=60, within_s=DAY_S)
    assert (rows(house)[0].state, rows(house)[0].reason) == ("due", Reason.NOT_CONFIRMED)
    house.time.passes(61)
    assert house.must_take().id == claim.id


def test_what_is_listed_after_all_is_committed_whatever_the_report_said(house: House) -> None:
    accepted(house)
    claim = take(house)
    assert commitments.asked(house.ledger, claim, "2.25.1")
    assert commitments.answered(house.ledger, "2.25.1", [], {claim.sop_uid: 0x0110})
    assert commitments.found(house.ledger, take(house))
    assert (rows(house)[0].state, rows(house)[0].reason) == ("committed", None)


def test_what_is_never_listed_stays_accepted_and_is_asked_for_ever_more_rarely(house: House) -> None:
    accepted(house, confirm_in_s=60)
    asked, end = 0, house.time.now + 3 * DAY_S
    while due := [row.confirm_at for row in rows(house) if row.confirm_at is not None]:
        house.time.now = max(house.time.now, min(due))
        assert house.time.now < end
        while (claim := commitments.claim(house.ledger, lease_s=60, known=[PACS.name])) is not None:
            asked += 1
            assert commitments.not_found(house.ledger, claim, delay_s=60, within_s=DAY_S)
    assert 2 * 8 <= asked <= 2 * 14
    assert {(row.state, row.reason, row.confirm_at) for row in rows(house)} == {
        ("accepted", Reason.NOT_CONFIRMED, None)
    }  # fmt: skip


def test_nobody_asks_twice_at_once_and_a_deliverer_that_died_is_replaced(house: House) -> None:
    accepted(house)
    old = take(house)
    take(house)
    assert none_due(house)
    house.time.passes(61)
    new = take(house)
    assert new.id == old.id
    assert not commitments.found(house.ledger, old), "its right ran out"
    assert commitments.found(house.ledger, new)


def test_an_archive_that_is_away_is_not_asked(house: House) -> None:
    accepted(house)
    house.change(schema.destination, {"name": PACS.name}, failures=1, open_until=house.time.now + 100)
    assert none_due(house)
    house.time.passes(101)
    take(house)


def test_an_archive_that_cannot_say_is_asked_once(house: House) -> None:
    accepted(house)
    assert commitments.unanswerable(house.ledger, take(house))
    assert commitments.later(house.ledger, take(house), delay_s=10)
    assert none_due(house)
    house.time.passes(10)
    take(house)
    assert rows(house)[0].state == "accepted"


def test_a_question_that_did_not_get_through_is_asked_again_and_one_that_is_not_understood_is_not(house: House) -> None:
    accepted(house)
    first, second = take(house), take(house)
    assert commitments.asked(house.ledger, first, "2.25.1")
    assert commitments.asked(house.ledger, second, "2.25.2")
    assert commitments.not_asked(house.ledger, first, "2.25.1", delay_s=1, read_back=False)
    assert commitments.not_asked(house.ledger, second, "2.25.2", delay_s=2, read_back=True)
    house.time.passes(2)
    assert [take(house).asked, take(house).asked] == [False, True]
