"""Which processes serve this ledger, how far listeners have filed, and the tick that rings for due work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, insert, literal, or_, select, update

from cauda.core import claims, commitments, deliveries, doorbell, liveness, log, schema
from cauda.core.ledger import Ledger, record
from cauda.core.steady_clock import SteadyClock

SILENT_AFTER_S = 60.0  # a process that has not been seen for so long is taken for gone
GAP_S = 15.0  # longer than a few heartbeats: the process, or the ledger, was away in between
GRACE_S = 30.0  # so long has the ledger been there again before silence is held against anybody
_BEHIND_S = 10.0  # filing in pauses takes some of that
COMPARING = "comparing"  # why something is not filed, where nothing is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a listener has acknowledged and not filed yet. Ages are since the oldest of them was acknowledged."""

    arrivals: str  # the name of its folder
    count: int = 0  # without those that are compared
    age_s: float = 0.0
    compared: Mapping[str, float] = field(default_factory=dict)  # by Study UID the age of what waits for a comparison
    compared_count: int = 0
    why: str | None = None  # why filing waits, if it does

    @property
    def all_count(self) -> int:
        """Of all studies."""
        return self.count + self.compared_count

    @property
    def all_age_s(self) -> float:
        """Of all studies."""
        return max([self.age_s, *self.compared.values()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """The listener that asks: it knows its backlog better than the ledger."""

    token: str
    backlog: Callable[[], Backlog]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A listener that ended and whose acknowledged objects nobody has taken over."""

    arrivals: str
    seen_at: float
    unfiled: int  # when it was last seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """How far the listeners of a ledger have filed what they acknowledged. Times are the ledger's seconds."""

    until: float = math.inf  # all that listeners acknowledged before is filed, but for those that are lost
    since: float = -math.inf  # and all of them have been there without a gap since
    behind: str = ""  # who is behind, in words
    lost: tuple[Lost, ...] = ()
    dead: tuple[str, ...] = ()  # tokens of listeners that ended without a goodbye
    compared: Mapping[str, tuple[float, str]] = field(default_factory=dict)  # until and behind of studies that lag more

    def of(self, study_uid: str) -> tuple[float, str]:
        """Up to when all is filed that may be of a study, and who is behind, in words."""
        return min((self.until, self.behind), self.compared.get(study_uid, (math.inf, "")))


def seen(
    ledger: Ledger,
    conn: Connection,
    *,
    token: str,
    role: str,
    slots: int,
    backlog: Callable[[], Backlog] | None = None,
) -> None:
    """A process says that it is there, how much it can do at once, and what it has not filed yet."""
    _keep_time(ledger, conn)
    table, now = schema.process, ledger.now()
    values: dict[str, Any] = {"seen_at": now, "slots": slots}
    if backlog is not None:  # after the time was taken: what is acknowledged in between counts as later
        held = backlog()
        # other listeners wait for all of it
        values |= {"arrivals": held.arrivals, "unfiled": held.all_count, "filed_until": now - held.all_age_s}
        values |= {"unfiled_why": held.why}
    gap = or_(table.c.since.is_(None), table.c.seen_at < now - GAP_S)
    changed = conn.execute(
        update(table).where(table.c.token == token).values(values | {"since": case((gap, now), else_=table.c.since)})
    ).rowcount
    if not changed:
        conn.execute(insert(table).values(values | {"token": token, "role": role, "started_at": now, "since": now}))


def _keep_time(ledger: Ledger, conn: Connection) -> None:
    """Notice once, for all processes, that the database's clock was set; waits go on as if it had not been."""
    if not isinstance(ledger.now, SteadyClock):
        return
    step_s = ledger.now.keep(conn)
    if step_s:
        record(ledger, conn, "clock_stepped", step_s=round(step_s, 1))
        log.get("clock").warning(
            "clock_stepped", step_s=round(step_s, 1), message="the clock was set; waits and leases go on unchanged"
        )


def gone(conn: Connection, token: str) -> None:
    """A process says goodbye; a listener only when it has filed all."""
    conn.execute(delete(schema.process).where(schema.process.c.token == token))


def adopted(conn: Connection, arrivals: str) -> None:
    """All that a dead listener had acknowledged in this folder is filed."""
    conn.execute(delete(schema.process).where(schema.process.c.arrivals == arrivals))


def dead(ledger: Ledger, conn: Connection, role: str) -> list[str]:
    """Processes of a role that ended without a goodbye."""
    table = schema.process
    rows = conn.execute(select(table.c.token, _silent(ledger.now())).where(table.c.role == role))
    return [token for token, silent in rows if silent or liveness.is_dead(token)]


def _silent(now: ColumnElement[float]) -> ColumnElement[bool]:
    """Not seen for long, while others could: after a ledger was away nobody has been seen for a while."""
    table, other = schema.process, schema.process.alias()
    back = exists().where(other.c.seen_at >= now - GAP_S, other.c.since > now - GRACE_S)
    steady = exists().where(other.c.seen_at >= now - GAP_S, other.c.since <= now - GRACE_S)
    return and_(table.c.seen_at < now - SILENT_AFTER_S, or_(steady, ~back))


def forget_dead(ledger: Ledger, conn: Connection) -> None:
    """Remove rows of processes that have ended; a listener's stays until what it acknowledged is filed."""
    table = schema.process
    for role in ("listener", "grade", "deliver"):
        for token in dead(ledger, conn, role):
            conn.execute(delete(table).where(table.c.token == token, table.c.arrivals.is_(None)))


def filing(conn: Connection, now: float, own: Own | None = None) -> Filing:
    """How far the listeners have filed, ``now`` or before; to be asked before what is filed is looked at."""
    table = schema.process
    query = select(table, _silent(literal(now, type_=table.c.seen_at.type)).label("silent"))
    until, since, behind = math.inf, -math.inf, ""
    lost, ended, compared = [], [], {}
    for row in conn.execute(query.where(table.c.role == "listener")):
        mine = own is not None and row.token == own.token
        if not mine and (row.silent or liveness.is_dead(row.token)):
            ended.append(row.token)
            if row.arrivals:
                lost.append(Lost(arrivals=row.arrivals, seen_at=row.seen_at, unfiled=row.unfiled or 0))
            continue
        if row.filed_until is None:
            continue
        count, filed_until = row.unfiled or 0, row.filed_until
        if own is not None and mine:
            held = own.backlog()
            count, filed_until = held.count, now - held.age_s
            compared = {uid: (now - age_s, _compared_words(age_s)) for uid, age_s in held.compared.items()}
        since = max(since, row.since or since)
        if filed_until < until:
            until, behind = filed_until, _behind_words(count, now - filed_until)
    return Filing(until=until, since=since, behind=behind, lost=tuple(lost), dead=tuple(ended), compared=compared)


def _compared_words(age_s: float) -> str:
    return f"an image that came again is being compared, for {age_s:.0f} s" if age_s >= _BEHIND_S else ""


def _behind_words(count: int, age_s: float) -> str:
    if age_s < _BEHIND_S:
        return ""
    if count:
        return f"{count} acknowledged objects are not filed yet, the oldest for {age_s:.0f} s"
    return f"a listener has not reached the ledger for {age_s:.0f} s"


def listeners(conn: Connection) -> int:
    """How many listeners the ledger knows, living or not."""
    table = schema.process
    return int(conn.execute(select(func.count()).where(table.c.role == "listener")).scalar_one())


def slots(ledger: Ledger, conn: Connection, role: str) -> int:
    """How much work of a role can be done at once by those who live."""
    table = schema.process
    alive = select(func.coalesce(func.sum(table.c.slots), 0)).where(
        table.c.role == role, table.c.seen_at >= ledger.now() - SILENT_AFTER_S
    )
    return int(conn.execute(alive).scalar_one())


def ring_due(ledger: Ledger, bell: doorbell.Doorbell, known: Sequence[str]) -> dict[str, int]:
    """Ring once for each due piece of work that a slot is there for; returns the rings by task."""
    with ledger.read() as conn:
        rings = {
            doorbell.GRADE: min(claims.due(ledger, conn), slots(ledger, conn, "grade")),
            doorbell.DELIVER: min(
                deliveries.due(ledger, conn, known) + commitments.due(ledger, conn, known),
                slots(ledger, conn, "deliver"),
            ),
        }
    for task, count in rings.items():
        for _ in range(count):
            bell(task)
    return rings
