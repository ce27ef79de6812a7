"""Claiming and ending revisions: each is graded by one worker, and only its present one may say so."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledgers import FINGERPRINT, LEASE_S, PACS, House
from peers import postgres, until

from cauda.core import claims, liveness, revisions, schema
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.ledger import migrate, open_ledger
from cauda.core.schema import DeliveryState, RevisionState, StudyState

pytestmark = pytest.mark.peers


def test_eight_workers_at_once_claim_each_revision_once(house: House) -> None:
    expected = {house.due(f"1.{n}", images=1, source=f"MR{n % 3}") for n in range(24)}
    barrier = threading.Barrier(8)

    def work(n: int) -> list[int]:
        own = house.another()
        barrier.wait(30)
        claimed = []
        while (claim := own.claim(f"w{n}")) is not None:
            claimed.append(claim.id)
        own.ledger.engine.dispose()
        return claimed

    with ThreadPoolExecutor(8) as pool:
        claimed = Counter(key for keys in pool.map(work, range(8)) for key in keys)
    assert claimed == Counter(dict.fromkeys(expected, 1))
    assert {row.attempt for row in house.rows(schema.revision)} == {1}
    assert len(house.events("revision_claimed")) == 24


_CLAIM = """
import sys
from cauda.core import claims
from cauda.core.errors import Unavailable
from cauda.core.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
while (claim := claims.claim(ledger, worker=sys.argv[2], lease_s=60, max_deaths=3)) is not None:
    print(claim.id, flush=True)
"""


def test_processes_at_once_claim_each_revision_once(house: House) -> None:
    house.time.now = 0.0  # due long ago by the real clock, which the processes use
    expected = {house.due(f"1.{n}", images=1) for n in range(16)}
    processes = [
        subprocess.Popen([sys.executable, "-c", _CLAIM, house.url, f"w{n}"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    claimed: Counter[int] = Counter()
    for process in processes:
        assert process.stdout is not None
        claimed.update(int(line) for line in process.stdout)
        assert process.wait(60) == 0
    assert claimed == Counter(dict.fromkeys(expected, 1))


def test_a_worker_whose_lease_ran_out_changes_nothing(house: House) -> None:
    house.due()
    old = house.must_claim("w1")
    house.time.passes(LEASE_S + 1)
    new = house.must_claim("w2")
    assert (new.id, new.attempt) == (old.id, old.attempt + 1)
    assert not claims.renew(house.ledger, old, lease_s=LEASE_S)
    assert not house.report(old)
    assert not claims.fail(house.ledger, old, Reason.BUG, "stack")
    assert not claims.put_back(house.ledger, old, delay_s=1, reason=Reason.FILE_MISSING, text="")
    assert house.rows(schema.result) == []
    assert house.report(new)
    assert not house.report(new), "a claim ends once"
    assert [r.state for r in house.rows(schema.revision)] == [RevisionState.REPORTED]
    assert len(house.rows(schema.result)) == len(house.rows(schema.delivery)) == 2


def test_a_claim_is_kept_while_its_heartbeat_goes(house: House) -> None:
    house.due()
    claim = house.must_claim("w1")
    for _ in range(5):
        house.time.passes(LEASE_S * 0.6)
        assert house.claim("w2") is None
        assert claims.renew(house.ledger, claim, lease_s=LEASE_S)
    assert house.report(claim)


def test_a_dead_worker_is_noticed_before_its_lease_runs_out(house: House) -> None:
    house.due()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        first = house.must_claim(liveness.token("grade", process.pid))
        assert house.claim("w2") is None
    finally:
        process.kill()
        process.communicate()
    second = house.must_claim("w2")
    assert (second.id, second.attempt) == (first.id, 2)


def test_three_deaths_in_a_row_fail_the_revision_with_its_reason(house: House) -> None:
    key = house.due()
    for attempt in (1, 2, 3):
        assert house.must_claim(f"w{attempt}").attempt == attempt
        house.time.passes(LEASE_S + 1)
    assert house.claim("w4") is None
    (row,) = house.rows(schema.revision)
    assert (row.id, row.state, row.reason) == (key, RevisionState.FAILED, Reason.WORKER_DIED)
    assert "died" in row.reason_text
    assert len(house.events("revision_failed")) == 1


def test_a_revision_that_kills_does_not_keep_the_others_from_their_turn(house: House) -> None:
    house.due("1.1")
    for _ in range(3):
        assert house.must_claim().study_uid == "1.1"
        house.time.passes(LEASE_S + 1)
    house.due("1.2")
    assert house.must_claim().study_uid == "1.2"


def test_deaths_count_in_a_row_only(house: House) -> None:
    """What was put back because a mount was away has not killed its worker."""
    house.due()
    for _ in range(5):
        house.must_claim()
        house.time.passes(LEASE_S + 1)
        claim = house.must_claim()
        assert claims.put_back(house.ledger, claim, delay_s=0, reason=Reason.FILE_MISSING, text="")
    assert house.report(house.must_claim())


def test_what_was_put_back_waits_its_time(house: House) -> None:
    house.due()
    assert claims.put_back(house.ledger, house.must_claim(), delay_s=30, reason=Reason.FILE_MISSING, text="away")
    house.time.passes(29)
    assert house.claim() is None
    with house.ledger.read() as conn:
        assert claims.due(house.ledger, conn) == 0
    house.time.passes(2)
    with house.ledger.read() as conn:
        assert claims.due(house.ledger, conn) == 1
    assert house.must_claim().attempt == 2


def test_sources_take_turns_and_a_flood_starves_nobody(house: House) -> None:
    for n in range(6):
        house.due(f"1.{n}", images=1, source="FLOOD")
        house.time.passes(1)
    house.due("2.1", images=1, source="QUIET")
    order = []
    for _ in range(3):
        order.append(house.study(house.must_claim().study_uid).source)
        house.time.passes(1)
    assert "QUIET" in order[:2]
    assert order.count("FLOOD") == 2


def test_the_newest_study_of_a_source_goes_first_and_priority_before_all(house: House) -> None:
    """CLINICAL.md 29: newest study first."""
    for n in (1, 2, 3):
        house.due(f"1.{n}", images=1)
        house.time.passes(10)
    house.change(schema.study, {"uid": "1.2"}, priority=5)
    assert [house.must_claim().study_uid for _ in range(3)] == ["1.2", "1.3", "1.1"]


def test_a_held_study_is_not_claimed_until_it_is_released(house: House) -> None:
    house.due()
    house.hold()
    assert house.claim() is None
    with house.ledger.read() as conn:
        assert claims.due(house.ledger, conn) == 0
    house.release()
    assert house.claim() is not None


def test_a_revision_freezes_its_images(house: House) -> None:
    """What arrives later belongs to another revision; what was replaced or is no MR image to none."""
    key = house.due(images=3)
    house.arrive(sop="1.1.1.9")
    with house.ledger.read() as conn:
        frozen = revisions.inputs(conn, key)
    assert [one.sop_uid for one in frozen] == ["1.1.1.0", "1.1.1.1", "1.1.1.2"]
    assert house.study().state == StudyState.RECEIVING
    second = house.complete()
    with house.ledger.read() as conn:
        assert len(revisions.inputs(conn, second)) == 4
    assert [r.state for r in house.rows(schema.revision)] == [RevisionState.SUPERSEDED, RevisionState.DUE]


def test_a_worker_on_a_superseded_revision_cannot_report_it(house: House) -> None:
    house.due()
    claim = house.must_claim()
    house.arrive(sop="1.1.1.9")
    house.complete()
    assert not claims.renew(house.ledger, claim, lease_s=LEASE_S)
    assert not house.report(claim)
    assert house.must_claim().number == 2


def test_a_later_revision_cancels_what_was_not_sent_and_leaves_what_was(house: House) -> None:
    house.reported()
    sent = house.must_take()
    house.arrive(sop="1.1.1.9")
    house.complete()
    assert house.report(house.must_claim())
    states = {row.id: row.state for row in house.rows(schema.delivery)}
    assert states[sent.id] == DeliveryState.SENT
    assert sorted(states.values()) == sorted(
        [DeliveryState.SENT, DeliveryState.CANCELLED, DeliveryState.DUE, DeliveryState.DUE]
    )


def test_a_requeue_before_anything_was_published_keeps_the_revision(house: House) -> None:
    key = house.due()
    assert claims.fail(house.ledger, house.must_claim(), Reason.BUG, "stack")
    with house.ledger.write() as conn:
        assert revisions.requeue(house.ledger, conn, "1.1", fingerprint=FINGERPRINT) == key
    again = house.must_claim()
    assert (again.id, again.attempt) == (key, 2)
    assert house.report(again)
    with house.ledger.write() as conn:
        assert revisions.requeue(house.ledger, conn, "1.1", fingerprint=FINGERPRINT) != key
        assert revisions.requeue(house.ledger, conn, "9.9", fingerprint=FINGERPRINT) is None
    assert house.must_claim().number == 2


def test_a_worker_from_before_the_requeue_changes_nothing(house: House) -> None:
    """Failed by too many deaths, requeued, and then the first worker wakes up."""
    house.due()
    old = house.must_claim()
    for _ in range(2):
        house.time.passes(LEASE_S + 1)
        house.must_claim()
    house.time.passes(LEASE_S + 1)
    assert house.claim() is None
    with house.ledger.write() as conn:
        revisions.requeue(house.ledger, conn, "1.1", fingerprint=FINGERPRINT)
    new = house.must_claim()
    assert new.attempt > old.attempt
    assert not house.report(old)
    assert house.report(new)


def test_a_failure_keeps_the_end_of_its_stack(house: House) -> None:
    house.due()
    stack = "Traceback\n" + "x" * 9000 + "\nZeroDivisionError: the cause"
    assert claims.fail(house.ledger, house.must_claim(), Reason.BUG, stack)
    (row,) = house.rows(schema.revision)
    assert row.reason_text.endswith("ZeroDivisionError: the cause")


def test_an_addressee_may_be_parked_or_want_no_sr(house: House) -> None:
    house.due()
    shadow = claims.Addressee(name="shadow", parked=Reason.SHADOW)
    no_sr = claims.Addressee(name="no_sr", sr=False)
    assert house.report(house.must_claim(), (PACS, shadow, no_sr))
    found = Counter((row.destination, row.state) for row in house.rows(schema.delivery))
    assert found == {(PACS.name, "due"): 2, ("shadow", "parked"): 2, ("no_sr", "due"): 1}


def test_tracking_uids_stay_over_revisions(house: House) -> None:
    """CLINICAL.md 17."""
    house.due()
    with house.ledger.write() as conn:
        first = revisions.tracking_uid(conn, "1.1", "L4/L5", "canal", "2.25.1")
        assert revisions.tracking_uid(conn, "1.1", "L4/L5", "canal", "2.25.2") == first == "2.25.1"
        assert revisions.tracking_uid(conn, "1.1", "L5/S1", "canal", "2.25.3") == "2.25.3"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_order_of_steps_each_revision_is_reported_at_most_once(house: House, seed: int) -> None:
    """Claims, late reports, deaths, holds, put-backs and requeues in an order drawn from the seed."""
    draw = random.Random(seed)
    keys = [house.due(f"1.{n}", images=1) for n in range(4)]
    held: list[claims.Claim] = []
    reported: Counter[int] = Counter()
    for step in range(150):
        move = draw.randrange(7)
        if move <= 1 and (claim := house.claim(f"w{step}", max_deaths=10_000)) is not None:
            held.append(claim)
        elif move == 2 and held:
            claim = draw.choice(held)
            reported[claim.id] += house.report(claim, kinds=("sr",))
        elif move == 3:
            house.time.passes(draw.uniform(0, LEASE_S * 1.5))
        elif move == 4 and held:
            claims.put_back(house.ledger, draw.choice(held), delay_s=5, reason=Reason.FILE_MISSING, text="")
        elif move == 5:
            study = f"1.{draw.randrange(4)}"
            if house.study(study).hold is None:
                house.hold(study)
            else:
                house.release(study)
        elif move == 6 and held:
            claims.renew(house.ledger, draw.choice(held), lease_s=LEASE_S)
    assert set(reported.values()) <= {0, 1}
    results = Counter(row.revision_id for row in house.rows(schema.result))
    assert results == Counter({key: count for key, count in reported.items() if count})
    for n in range(4):
        if house.study(f"1.{n}").hold is not None:
            house.release(f"1.{n}")
    house.time.passes(LEASE_S * 2)
    while (claim := house.claim("last", max_deaths=10_000)) is not None:
        assert house.report(claim, kinds=("sr",))
    assert Counter(row.revision_id for row in house.rows(schema.result)) == Counter(dict.fromkeys(keys, 1))


def test_a_postgres_that_stops_and_starts_is_found_again() -> None:
    """On a server of its own: its end must not disturb the others."""
    with postgres() as server:
        ledger = open_ledger(server.database())
        migrate(ledger)
        with ledger.read() as conn:
            assert claims.due(ledger, conn) == 0
        server.stop()
        with pytest.raises(Unavailable), ledger.read() as conn:
            claims.due(ledger, conn)
        server.start()

        def back() -> bool:
            try:
                with ledger.write() as conn:
                    return claims.due(ledger, conn) == 0
            except Unavailable:
                return False

        until(back, 10, "the ledger works again")
        ledger.engine.dispose()
