"""Deliveries: in order, one at a time a study and destination, no flood on a destination that is away."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledgers import BACKOFF, LEASE_S, PACS, House

from cauda.core import deliveries, resending, schema
from cauda.core.backoff import Backoff
from cauda.core.claims import Addressee
from cauda.core.domain import Reason
from cauda.core.schema import DeliveryState

pytestmark = pytest.mark.peers

OTHER = Addressee(name="folder:/out")
BOTH = (PACS.name, OTHER.name)


def states(house: House) -> Counter[str]:
    """How many deliveries are in each state."""
    return Counter(row.state for row in house.rows(schema.delivery))


def test_eight_deliverers_at_once_send_each_object_once_and_in_order(house: House) -> None:
    for n in range(6):
        house.reported(f"1.{n}", (PACS, OTHER))
    barrier = threading.Barrier(8)
    flying: set[tuple[str, str]] = set()
    lock = threading.Lock()
    sent: list[deliveries.Claim] = []

    def work(n: int) -> None:
        own = house.another()
        barrier.wait(30)
        while (claim := own.take(f"d{n}", BOTH)) is not None:
            place = (claim.study_uid, claim.destination)
            with lock:
                assert place not in flying, "two objects of a study at once at one destination"
                flying.add(place)
                sent.append(claim)
            with lock:
                flying.discard(place)
            assert deliveries.accepted(own.ledger, claim)
        own.ledger.engine.dispose()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    while (claim := house.take("last", BOTH)) is not None:  # a thread may have gone home while another still sent
        sent.append(claim)
        assert deliveries.accepted(house.ledger, claim)
    assert Counter(claim.id for claim in sent) == Counter(dict.fromkeys(range(1, 25), 1))
    assert states(house) == {"accepted": 24}
    for place in {(c.study_uid, c.destination) for c in sent}:
        mine = [c for c in sent if (c.study_uid, c.destination) == place]
        assert [c.kind for c in mine] == ["sr", "sc"]


def test_the_second_object_of_a_study_waits_for_the_first(house: House) -> None:
    house.reported()
    house.reported("1.2")
    first = house.must_take()
    assert house.must_take().study_uid != first.study_uid
    assert house.take() is None
    assert deliveries.accepted(house.ledger, first)
    assert house.must_take().study_uid == first.study_uid


def test_a_waiting_object_keeps_its_followers_waiting_but_no_other_study(house: House) -> None:
    house.reported()
    house.time.passes(1)
    house.reported("1.2")
    claim = house.must_take()
    assert claim.study_uid == "1.2"
    assert deliveries.wait(house.ledger, claim, Reason.STUDY_ABSENT, "not there yet", BACKOFF)
    assert house.must_take().study_uid == "1.1"
    assert house.take() is None


def test_a_refusal_is_final_and_lets_the_next_one_go(house: House) -> None:
    house.reported()
    assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "0xC000: no")
    following = house.must_take()
    assert following.kind == "sc"
    assert deliveries.accepted(house.ledger, following)
    house.time.passes(10**7)
    assert house.take() is None
    (refused,) = house.rows(schema.delivery, state=DeliveryState.REFUSED)
    assert refused.reason_text == "0xC000: no"


def test_a_deliverer_whose_lease_ran_out_changes_nothing(house: House) -> None:
    house.reported()
    old = house.must_take("d1")
    house.time.passes(LEASE_S + 1)
    new = house.must_take("d2")
    assert (new.id, new.attempt) == (old.id, old.attempt + 1)
    assert not deliveries.accepted(house.ledger, old)
    assert not deliveries.refused(house.ledger, old, Reason.DESTINATION_REFUSED, "")
    assert not deliveries.wait(house.ledger, old, Reason.STUDY_ABSENT, "", BACKOFF)
    assert not deliveries.renew(house.ledger, old, lease_s=LEASE_S)
    assert deliveries.accepted(house.ledger, new)
    assert states(house) == {"accepted": 1, "due": 1}


def test_a_destination_that_is_away_is_tried_by_one_delivery_at_a_time(house: House) -> None:
    for n in range(5):
        house.reported(f"1.{n}")
    assert deliveries.away(house.ledger, house.must_take(), Reason.DESTINATION_DOWN, "refused", BACKOFF)
    assert house.take() is None, "the breaker is open"
    (place,) = house.rows(schema.destination)
    assert 5 <= place.open_until - house.time.now <= 10
    house.time.passes(10.1)
    probe = house.must_take()
    assert house.take() is None, "one probe at a time"
    assert deliveries.away(house.ledger, probe, Reason.DESTINATION_DOWN, "refused", BACKOFF)
    (place,) = house.rows(schema.destination)
    assert 10 <= place.open_until - house.time.now <= 20
    house.time.passes(20.1)
    assert deliveries.accepted(house.ledger, house.must_take())
    flow = [house.must_take().study_uid for _ in range(5)]
    assert len(set(flow)) == 5, "after an answer everything goes, and at once"


def test_two_days_away_cost_few_attempts_and_lose_nothing(house: House) -> None:
    for n in range(3):
        house.reported(f"1.{n}")
    end = house.time.now + 2 * 86400
    tries = 0
    slow = Backoff(first_s=15, max_s=900)
    while house.time.now < end:
        claim = house.take()
        if claim is None:
            house.time.passes(600)
            continue
        tries += 1
        assert deliveries.away(house.ledger, claim, Reason.DESTINATION_DOWN, "refused", slow)
    assert 100 < tries < 500, "a try every quarter of an hour or so, whatever waits"
    house.time.passes(1000)
    while (claim := house.take()) is not None:
        assert deliveries.accepted(house.ledger, claim)
    assert states(house) == {"accepted": 6}


def test_another_destination_does_not_suffer(house: House) -> None:
    house.reported("1.1", (PACS, OTHER))
    assert deliveries.away(house.ledger, house.must_take(known=(PACS.name,)), Reason.DESTINATION_DOWN, "", BACKOFF)
    for _ in range(2):
        assert deliveries.accepted(house.ledger, house.must_take(known=BOTH))
    assert house.take(known=BOTH) is None
    assert Counter((r.destination, r.state) for r in house.rows(schema.delivery)) == {
        (PACS.name, "due"): 2, (OTHER.name, "accepted"): 2,
    }  # fmt: skip


def test_what_goes_to_an_unknown_destination_stays(house: House) -> None:
    house.reported()
    assert house.take(known=("dimse://ELSE@x:1",)) is None
    assert states(house) == {"due": 2}


def test_a_hold_stops_deliveries_at_once(house: House) -> None:
    """CLINICAL.md 4: also the one that is under way learns of it with its next heartbeat."""
    house.reported()
    under_way = house.must_take()
    assert deliveries.renew(house.ledger, under_way, lease_s=LEASE_S)
    house.hold()
    assert not deliveries.renew(house.ledger, under_way, lease_s=LEASE_S)
    assert deliveries.wait(house.ledger, under_way, Reason.DESTINATION_BUSY, "", BACKOFF)
    house.time.passes(1000)
    assert house.take() is None
    with house.ledger.read() as conn:
        assert deliveries.due(house.ledger, conn, BOTH) == 0
    house.release()
    assert house.take() is not None


def test_an_operator_sends_again_what_was_refused(house: House) -> None:
    house.reported()
    assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "no")
    with house.ledger.write() as conn:
        assert resending.retry(house.ledger, conn, study_uid="1.1") == resending.Retried(due=2)
    assert [house.must_take().kind] == ["sr"]


def test_the_backoff_doubles_up_to_its_bound_with_jitter() -> None:
    for failures in range(1, 12):
        whole = min(80.0, 10.0 * 2 ** (failures - 1))
        assert BACKOFF.wait_s(failures, 0.0) == whole / 2
        assert BACKOFF.wait_s(failures, 1.0) == whole
    assert BACKOFF.wait_s(10_000, 1.0) == 80
