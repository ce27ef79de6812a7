"""Who fills what share of the connections, and that a listed network's own share stays free."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Sequence

import pytest

from cauda.core import peers
from cauda.core.domain import Reason
from cauda.core.schema import PeerRule
from cauda.core.settings import Limits, Peer
from cauda.listener import admission
from cauda.listener.admission import Admission, Ticket
from cauda.listener.guests import Guests
from cauda.listener.refusals import Refusals

LIMITS = Limits(max_associations=10)
LISTED, OPEN = admission.connections_for_listed(LIMITS), admission.connections_for_open(LIMITS)


class Clock:
    """Time as the test says it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def gate(rules: Sequence[tuple[str, str]], clock: Clock | None = None) -> tuple[Admission, Refusals]:
    refusals = Refusals()
    guests = Guests([Peer(aet=aet, network=network) for aet, network in rules])
    return Admission(guests, LIMITS, refusals, clock or Clock()), refusals


def taken(door: Admission, address: str, count: int) -> list[Ticket]:
    return [ticket for _ in range(count) if (ticket := door.admit(address)) is not None]


def reasons(refusals: Refusals) -> dict[tuple[str, Reason], int]:
    found: dict[tuple[str, Reason], int] = {}
    refusals.flush(lambda one: found.__setitem__((one.address, one.reason), one.count))
    return found


def test_an_unlisted_address_is_heard_for_a_moment_and_closed_beyond_that() -> None:
    clock = Clock()
    door, refusals = gate([("*", "10.1.0.0/16")], clock)
    held = taken(door, "192.0.2.1", 500)
    assert len(held) <= admission.UNLISTED_CONNECTIONS // 2
    assert reasons(refusals) == {("192.0.2.1", Reason.ADDRESS_NOT_ALLOWED): 500 - len(held)}
    assert held[0].patience_s(120) <= 5
    for one in held:
        door.release(one)
    assert len(taken(door, "192.0.2.1", 500)) <= admission.UNLISTED_CONNECTIONS // 2
    many = [ticket for number in range(200) for ticket in taken(door, f"192.0.2.{number}", 3)]
    assert len(many) <= 10, "a handful, however many addresses call"
    clock.now += 60
    assert len(taken(door, "10.1.0.7", 10)) == 10


def test_an_unlisted_address_that_calls_without_end_is_heard_only_so_often() -> None:
    clock = Clock()
    door, _ = gate([("*", "10.1.0.0/16")], clock)
    heard = 0
    for _ in range(1000):
        if (ticket := door.admit("192.0.2.1")) is not None:
            heard += 1
            door.release(ticket)
    assert heard < 20
    clock.now += 10
    assert door.admit("192.0.2.1") is not None


@pytest.mark.parametrize("rule", [("CT1", "0.0.0.0/0"), ("*", "0.0.0.0/0"), ("CT1", "::/0")])
def test_who_cannot_be_judged_by_address_never_takes_the_places_of_listed_networks(rule: tuple[str, str]) -> None:
    door, refusals = gate([rule, ("*", "10.1.0.0/16")])
    stranger = "2001:db8::" if ":" in rule[1] else "192.0.2."
    held = [ticket for number in range(1, 100) for ticket in taken(door, f"{stranger}{number}", 10)]
    assert len(held) == OPEN
    assert held[0].patience_s(120) <= 5
    assert set(reasons(refusals).values()) <= {10}
    listed = taken(door, "10.1.0.7", LISTED)
    assert len(listed) == LISTED // 2
    assert len(taken(door, "10.1.0.8", LISTED)) == LISTED // 2
    assert listed[0].patience_s(120) == 120


def test_a_listed_address_has_half_of_the_listed_share() -> None:
    door, refusals = gate([("CT1", "10.1.0.7"), ("CT2", "10.1.0.8")])
    assert len(taken(door, "10.1.0.7", 500)) == LISTED // 2
    assert reasons(refusals) == {("10.1.0.7", Reason.TOO_MANY_CONNECTIONS): 500 - LISTED // 2}
    assert door.admit("10.1.0.8") is not None


def test_who_is_let_in_by_title_counts_with_the_listed_from_then_on() -> None:
    door, _ = gate([("CT1", "0.0.0.0/0")])
    first = taken(door, "192.0.2.1", 100)
    assert len(first) == OPEN // 2
    for one in first:
        door.promote(one)
    assert len(taken(door, "192.0.2.1", 100)) == OPEN // 2
    for one in first:
        door.release(one)
    assert door._totals[peers.Standing.LISTED] == 0


def test_no_number_of_callers_at_once_gets_past_a_share() -> None:
    door, _ = gate([("*", "10.1.0.0/16")])
    tickets: list[Ticket] = []
    start = threading.Barrier(16)

    def call(number: int) -> None:
        start.wait(30)
        tickets.extend(taken(door, f"10.1.0.{number}", 50))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(tickets) == LISTED


def test_a_certificate_may_speak_for_an_address_that_is_not_listed() -> None:
    door, _ = gate([("CT1", "10.1.0.0/16")])
    ticket = door.admit("192.0.2.1", anywhere=True)
    assert ticket is not None
    assert ticket.standing is peers.Standing.OPEN


def test_a_flood_of_refused_callers_is_counted_in_bounded_memory() -> None:
    refusals = Refusals()
    for number in range(5000):
        refusals.add("", f"2001:db8::{number:x}", Reason.ADDRESS_NOT_ALLOWED)
        refusals.add("CT1", "10.1.0.7", Reason.CALLING_AE_NOT_ALLOWED)
    found = reasons(refusals)
    assert len(found) <= 1001
    assert found["10.1.0.7", Reason.CALLING_AE_NOT_ALLOWED] == 5000
    assert reasons(refusals) == {}


def test_a_network_that_is_closed_to_every_title_is_not_heard_at_all() -> None:
    network = ipaddress.ip_network("10.1.0.0/16")
    allow = peers.Entry(rule=PeerRule.ALLOW, aet="CT1", network=network)
    closed = peers.Entry(rule=PeerRule.FORBID, aet="*", network=ipaddress.ip_network("10.1.2.0/24"))
    one_title = peers.Entry(rule=PeerRule.FORBID, aet="CT1", network=ipaddress.ip_network("10.1.3.0/24"))
    learn = peers.Entry(rule=PeerRule.LEARN, aet="*", network=ipaddress.ip_network("10.9.0.0/16"))
    rules = [allow, closed, one_title, learn]
    assert peers.standing(rules, "10.1.2.7") is peers.Standing.FORBIDDEN
    assert peers.standing(rules, "10.1.2.7", anywhere=True) is peers.Standing.FORBIDDEN
    assert peers.standing(rules, "10.1.3.7") is peers.Standing.LISTED
    assert peers.standing(rules, "10.9.0.7") is peers.Standing.OPEN
    assert peers.standing(rules, "10.8.0.7") is peers.Standing.UNLISTED
    assert peers.standing(rules, "no address") is peers.Standing.FORBIDDEN
