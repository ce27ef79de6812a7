"""The ledger's time goes on evenly while the database's clock is set: for every process, on two databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from ledgers import FINGERPRINT, LEASE_S, House
from sqlalchemy import bindparam

from cauda.core import claims, processes, schema, views
from cauda.core.domain import Reason
from cauda.core.headers import Role
from cauda.core.ledger import open_ledger
from cauda.core.processes import Backlog
from cauda.core.settings import Completeness
from cauda.core.steady_clock import SteadyClock
from cauda.listener import completeness

pytestmark = pytest.mark.peers

NOW = 1_800_000_000.0
HOUR = 3600.0
POLICY = Completeness(after_release_s=5, quiet_s=60, hard_age_s=7200)
STEPS = pytest.mark.parametrize("step_s", [-HOUR, HOUR, -20 * 365 * 24 * HOUR])


@dataclass(kw_only=True)
class World:
    """Time that passes, and a database's clock that somebody sets."""

    url: str
    elapsed: float = 50.0
    clock: float = NOW
    opened: list[House] = field(default_factory=list)

    def passes(self, seconds: float) -> None:
        """Let time go by."""
        self.elapsed += seconds
        self.clock += seconds

    def process(self, machine: str = "one", elapsed: Callable[[], float] | None = None) -> House:
        """A process on a machine whose time since its start is ``elapsed``."""
        database_now = bindparam("database_now", callable_=lambda: self.clock, type_=schema.clock.c.seen_at.type)
        house = House(url=self.url)
        house.ledger.engine.dispose()
        clock = SteadyClock(database_now, elapsed or (lambda: self.elapsed), machine)
        house.ledger = open_ledger(self.url, clock=clock)
        self.opened.append(house)
        return house


@pytest.fixture
def world(house: House) -> Iterator[World]:
    """A fresh migrated ledger's."""
    made = World(url=house.url)
    yield made
    for one in made.opened:
        one.ledger.engine.dispose()


def beat(house: House, token: str = "l1") -> None:  # noqa: S107  no secret
    """A listener says that it is there; this keeps the clock."""
    with house.ledger.write() as conn:
        processes.seen(house.ledger, conn, token=token, role="listener", slots=0,
                       backlog=lambda: Backlog(arrivals=f"of-{token}"))  # fmt: skip


def time(house: House) -> float:
    """The ledger's time, as a transaction of this process has it."""
    with house.ledger.read() as conn:
        return house.ledger.time(conn)


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=0.1)


@STEPS
def test_time_goes_on_evenly_when_the_clock_is_set(world: World, step_s: float) -> None:
    one, other = world.process(), world.process("other machine", lambda: world.elapsed + 1000)
    beat(one)
    beat(other, "l2")
    world.clock += step_s
    world.passes(3)
    assert time(one) == about(NOW + 3), "at once, before anybody has written anything"
    assert time(other) == about(NOW + 3)
    beat(one)
    beat(other, "l2")
    world.passes(4)
    for house in (one, other):
        assert time(house) == about(NOW + 7)
    (event,) = one.events("clock_stepped")
    assert event.detail == {"step_s": about(step_s)}
    for house in (one, other):
        beat(house)
    assert len(one.events("clock_stepped")) == 1, "noticed once, for all"


@STEPS
def test_a_process_that_starts_after_the_clock_was_set_has_the_same_time(world: World, step_s: float) -> None:
    running = world.process()
    beat(running)
    world.clock += step_s
    world.passes(3)
    assert time(world.process()) == about(NOW + 3), "before the step was written down, on the same machine"
    beat(running)
    world.passes(3)
    assert time(world.process("another machine", lambda: 7.0)) == about(NOW + 6)


def test_a_machine_that_starts_with_a_clock_of_the_past_goes_on_where_the_ledger_was(world: World) -> None:
    """A clock battery that is empty; NTP sets it right later, and that is a step, too."""
    beat(world.process())
    world.clock -= 1000 * HOUR
    restarted = world.process("restarted", lambda: world.elapsed - 40)
    world.passes(2)
    beat(restarted)
    assert time(restarted) >= NOW - 0.1
    world.clock += 1000 * HOUR
    world.passes(5)
    assert time(restarted) == about(NOW + 5)
    beat(restarted)
    assert time(restarted) == about(NOW + 5)


def test_small_errors_are_followed_and_no_step(world: World) -> None:
    house = world.process()
    beat(house)
    for _ in range(100):
        world.passes(10)
        world.clock += 0.0005
        beat(house)
    assert time(house) == pytest.approx(world.clock, abs=0.01)
    world.clock += 0.4
    beat(house)
    assert time(house) == pytest.approx(world.clock, abs=0.01)
    assert house.events("clock_stepped") == []


def test_a_slow_database_is_no_step(world: World) -> None:
    asked = 0.0

    def slow() -> float:
        nonlocal asked
        asked += 5.0  # passes between any two looks at the clock
        return world.elapsed + asked

    house = world.process("one", slow)
    beat(house)
    for _ in range(5):
        world.clock = NOW + asked
        beat(house)
    assert house.events("clock_stepped") == []


def test_two_events_keep_their_order_whatever_is_measured_in_between(world: World) -> None:
    house = world.process()
    beat(house)
    clock = house.ledger.now
    assert isinstance(clock, SteadyClock)
    seen = []
    for error in (0.0, -0.3, 0.2, -0.4, 0.0):
        world.clock = NOW + error
        with house.ledger.read():
            seen.append(clock.seconds())
    assert seen == sorted(seen)


def test_a_machine_that_was_suspended_disturbs_nobody_for_long(world: World) -> None:
    """Its own time stood still, or so it looks: it takes the database's clock for set, once."""
    lost = 0.0
    one, other = world.process("one", lambda: world.elapsed - lost), world.process("other")
    for _ in range(2):
        beat(one)
        beat(other, "l2")
    world.passes(60)
    lost = 60.0
    for _ in range(3):
        beat(one)
        beat(other, "l2")
    assert len(one.events("clock_stepped")) == 1
    assert time(one) == about(time(other))
    assert time(one) <= NOW + 60.1, "no wait is shortened"


def receive(house: House) -> None:
    """An axial and a sagittal image."""
    for number, role in enumerate((Role.AXIAL, Role.SAGITTAL)):
        house.arrive("1.1", f"1.1.1.{number}", role=role)


@STEPS
def test_a_study_waits_as_long_as_without_the_step(world: World, step_s: float) -> None:
    house = world.process()
    beat(house)
    receive(house)
    for _ in range(11):
        world.passes(5)
        beat(house)
    world.clock += step_s
    assert completeness.tick(house.ledger, POLICY, FINGERPRINT) == []
    with house.ledger.read() as conn:
        words = completeness.waits_for(house.ledger, conn, ["1.1"], POLICY)["1.1"]
    assert words == "quiet for 55 s of 60 s"
    world.passes(5)
    beat(house)
    assert completeness.tick(house.ledger, POLICY, FINGERPRINT) == ["1.1"]


@STEPS
def test_a_lease_lasts_as_long_as_without_the_step(world: World, step_s: float) -> None:
    """A living worker's study is not given to another; a dead one's is, in time."""
    house = world.process()
    beat(house)
    receive(house)
    house.complete()
    claim = house.must_claim("w1")
    world.clock += step_s
    world.passes(LEASE_S - 1)
    beat(house)
    assert house.claim("w2") is None
    assert claims.renew(house.ledger, claim, lease_s=LEASE_S)
    world.passes(LEASE_S + 1)
    assert house.claim("w2") is not None


@STEPS
def test_what_waits_to_be_tried_again_is_due_in_time(world: World, step_s: float) -> None:
    house = world.process()
    beat(house)
    receive(house)
    house.complete()
    claims.put_back(house.ledger, house.must_claim(), delay_s=30, reason=Reason.FILE_MISSING, text="")
    world.clock += step_s
    world.passes(29)
    assert house.claim() is None
    world.passes(2)
    assert house.claim() is not None


def test_people_are_shown_the_time_of_the_clock_as_it_is_set_now(world: World) -> None:
    house = world.process()
    beat(house)
    world.passes(0.5)
    receive(house)
    world.clock += HOUR
    beat(house)
    with house.ledger.read() as conn:
        shown = views.study(conn, "1.1")
        assert shown is not None
        assert shown["first_at"] == "2027-01-15T09:00:00+00:00"
    house.complete()
    assert house.must_claim().frozen_at == pytest.approx(NOW + HOUR, abs=1), (
        "results carry the date of the clock on the wall"
    )
