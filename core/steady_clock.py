"""The ledger's time: seconds that go on evenly when somebody sets the database's clock.

Ledger time is the database's clock plus an offset that is kept in the ledger. Each process follows it with its own
CLOCK_BOOTTIME, which nobody can set. Where the two come apart by more than small errors, the clock was set (or a
machine was suspended): the process goes on evenly, and the next heartbeat corrects the offset for all, once.
A process that starts later on the same machine takes up the time where the ledger's row says that it stood.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, inspect, literal, select, update

from cauda.core import schema

TOLERANCE_S = 1.0  # a step below that changes no wait by more than that
TOLD_S = 3600.0  # a step is shown for so long
_DRIFT = 1e-4  # of two clocks that nobody sets
_RESOLUTION_S = 0.002  # of the database's clock
_BACK_S = 1.0
_SECONDS = schema.study.c.first_at.type
OFFSET = "cauda_clock_offset_s"  # in Connection.info: ledger time less the database's clock


def boot_seconds() -> float:
    """Seconds since the machine started, suspended or not (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names the kernel's boot, to which `boot_seconds` belongs."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True)
class _State:
    """Where this process stands."""

    lead_s: float  # ledger time less `boot_seconds`
    version: int
    looked_s: float  # boot_seconds of the last look
    apart_s: float = 0.0  # how far the database's clock is ahead of where it should be


class SteadyClock:
    """One process's view of the ledger's time. Called, it is the time now as an SQL expression."""

    def __init__(
        self,
        database_now: ColumnElement[float],
        elapsed: Callable[[], float] = boot_seconds,
        boot: str | None = None,
    ) -> None:
        """``database_now``: the database's clock, seconds since 1970."""
        table = schema.clock
        columns = (table.c.version, table.c.offset_s, table.c.boot, table.c.lead_s, table.c.seen_at)
        self._look = select(database_now.label("now"), *columns)
        self._bare = select(database_now.label("now"))
        self._elapsed = elapsed
        self._boot = boot or boot_id()
        self._state: _State | None = None
        self._there = False  # the table
        self._latest = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> ColumnElement[float]:
        """The ledger's time now."""
        return literal(self.seconds(), type_=_SECONDS)

    def seconds(self) -> float:
        """The ledger's time now, in seconds since 1970; the wall clock's before the first transaction."""
        state = self._state
        if state is None:
            return time.time()
        now = state.lead_s + self._elapsed()
        if self._latest - _BACK_S < now < self._latest:
            return self._latest  # small corrections never turn the order of two events round
        self._latest = now
        return now

    def database_seconds(self, conn: Connection) -> float:
        """The database's own clock."""
        return float(conn.execute(self._bare).scalar_one())

    def observe(self, conn: Connection) -> None:
        """Look at the database's clock, at the start of a transaction."""
        if not self._there:
            self._there = inspect(conn).has_table(schema.clock.name)
        before = self._elapsed()
        row: Any = conn.execute(self._look if self._there else self._bare).one()
        after = self._elapsed()
        offset_s = row.offset_s if self._there else 0.0
        conn.info[OFFSET] = offset_s
        # the clock was read between the two; a slow answer widens what it can mean
        least = row.now + offset_s - after - _RESOLUTION_S
        most = row.now + offset_s - before + _RESOLUTION_S
        with self._lock:
            self._state = self._moved(row, least, most, after)

    def _moved(self, row: Any, least: float, most: float, now_s: float) -> _State:
        version = row.version if self._there else 0
        known = self._state or (self._anchor(row, now_s) if self._there else None)
        if known is None:
            return _State(least, version, now_s)
        inside = min(max(known.lead_s, least), most)
        apart_s = inside - known.lead_s
        tolerance_s = TOLERANCE_S + _DRIFT * max(0.0, now_s - known.looked_s)
        if version != known.version or abs(apart_s) <= tolerance_s:
            return _State(inside, version, now_s)  # somebody else has seen to it, or there is nothing to see to
        return _State(known.lead_s, version, known.looked_s, apart_s)

    def _anchor(self, row: Any, now_s: float) -> _State | None:
        """Where the ledger's time stood, for a process that has not looked yet."""
        if row.seen_at is None:
            return None
        if row.boot == self._boot:
            return _State(row.lead_s, row.version, row.seen_at - row.lead_s)
        if row.now + row.offset_s < row.seen_at - TOLERANCE_S:  # the machine was started with an older time
            return _State(row.seen_at - now_s, row.version, now_s)
        return None

    def keep(self, conn: Connection) -> float:
        """With a heartbeat: write down where the time stands; returns by how much the clock was set, 0 as a rule."""
        table = schema.clock
        row: Any = conn.execute(select(table.c.version).with_for_update()).one()
        with self._lock:
            state = self._state
        if state is None:
            return 0.0
        stands: dict[str, Any] = {"boot": self._boot, "lead_s": state.lead_s, "seen_at": self.seconds()}
        if state.apart_s == 0.0 or row.version != state.version:
            conn.execute(update(table).values(stands))
            return 0.0
        step_s = state.apart_s
        conn.execute(
            update(table).values(
                stands
                | {
                    "version": table.c.version + 1,
                    "offset_s": table.c.offset_s - step_s,
                    "stepped_at": self.seconds(),
                    "step_s": step_s,
                }
            )
        )
        return step_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The last time that the clock was found set."""

    step_s: float  # positive for forward
    ago_s: float

    @property
    def words(self) -> str:
        """For people who can do something about it."""
        way = "forward" if self.step_s > 0 else "back"
        return (
            f"the clock was set {way} by {abs(self.step_s):.0f} s, {self.ago_s / 60:.0f} min ago; waits and leases "
            "went on as if it had not been; see to it that NTP keeps the clock"
        )


def last_step(conn: Connection, now: float) -> Step | None:
    """The last step, if it is no longer ago than `TOLD_S`; ``now`` is the ledger's time."""
    table = schema.clock
    row = conn.execute(select(table.c.step_s, table.c.stepped_at)).first()
    if row is None or row.stepped_at is None or now - row.stepped_at > TOLD_S:
        return None
    return Step(step_s=row.step_s, ago_s=max(0.0, now - row.stepped_at))
