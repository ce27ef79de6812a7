"""Commitments that others ask of us, in the ledger, on both databases."""

from __future__ import annotations

import pytest
from ledgers import House

from cauda.core import commitment_requests, schema
from cauda.core.commitment_requests import Request
from cauda.core.errors import Rejected, Unavailable
from cauda.core.schema import CommitmentState

pytestmark = pytest.mark.peers
IMAGES = (("1.2.840.1", "1.1"), ("1.2.840.1", "1.2"))


def ask(house: House, transaction: str = "2.25.1", *, instances: tuple[tuple[str, str], ...] = IMAGES) -> int:
    return commitment_requests.ask(
        house.ledger,
        asker="CT1",
        transaction_uid=transaction,
        instances=instances,
        listener="l1",
        lease_s=10,
        after_s=1,
    )


def take(house: House, listener: str = "l1") -> Request | None:
    return commitment_requests.take(house.ledger, listener=listener, lease_s=60)


def must_take(house: House, listener: str = "l1") -> Request:
    request = take(house, listener)
    assert request is not None
    return request


def test_a_request_is_decided_once_and_told_once(house: House) -> None:
    ask(house)
    assert take(house) is None  # who lets go of its association does so first
    house.time.passes(2)
    request = must_take(house)
    assert (request.instances, request.failed, request.asker) == (IMAGES, None, "CT1")
    assert commitment_requests.decided(house.ledger, request, {"1.2": 0x0112})
    again = must_take(house)
    assert again.failed == {"1.2": 0x0112}
    assert commitment_requests.told(house.ledger, again)
    assert take(house) is None
    assert not commitment_requests.told(house.ledger, again)


def test_another_listener_takes_over_only_when_the_first_is_silent_and_then_the_first_changes_nothing(
    house: House,
) -> None:
    ask(house)
    house.time.passes(2)
    assert take(house, "l2") is None
    first = must_take(house)
    house.time.passes(61)
    must_take(house, "l2")
    assert not commitment_requests.decided(house.ledger, first, {})


def test_the_same_question_once_more_begins_again_and_another_under_its_uid_is_refused(house: House) -> None:
    key = ask(house)
    house.time.passes(2)
    request = must_take(house)
    commitment_requests.decided(house.ledger, request, {})
    commitment_requests.told(house.ledger, request)
    assert ask(house) == key
    with pytest.raises(Rejected):
        ask(house, instances=IMAGES[:1])
    house.time.passes(2)
    assert must_take(house).failed is None


def test_too_many_waiting_are_not_taken_and_what_is_long_over_is_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitment_requests, "MOST_WAITING", 2)
    ask(house, "2.25.1")
    ask(house, "2.25.2")
    with pytest.raises(Unavailable):
        ask(house, "2.25.3")
    house.time.passes(2)
    commitment_requests.given_up(house.ledger, must_take(house), "nobody there")
    house.time.passes(31 * 86_400)
    ask(house, "2.25.3")
    assert {row.transaction_uid for row in house.rows(schema.commitment_request)} == {"2.25.2", "2.25.3"}
    assert {row.state for row in house.rows(schema.commitment_request)} == {CommitmentState.ASKED}
