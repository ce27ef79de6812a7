"""What was acknowledged and is in no study yet: how much, since when, why, and what to do. No patient data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from cauda.core import processes, schema, views
from cauda.core.ledger import Ledger
from cauda.core.spool import Spool

LATE_S = 60.0  # filing takes seconds
_KINDS = {
    "object_unfiled": "no study can be read from it",
    "object_quarantined": "it ended the listener again and again",
}
_SHOWN = 20  # files by name; more are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfiled:
    """Objects that are not filed for one reason."""

    count: int  # 0 where nobody knows
    since: str | None  # ISO 8601, UTC
    why: str
    todo: str
    study_uid: str | None = None
    of_any: bool = False  # nobody knows of what studies they are
    passing: bool = False  # it is being tried again and again

    @property
    def words(self) -> str:
        """One sentence for people."""
        many = f"{self.count} acknowledged object{'s' if self.count != 1 else ''}" if self.count else "Objects"
        named = f" of study {self.study_uid}" if self.study_uid else ""
        since = f" since {self.since}" if self.since else ""
        return f"{many}{named} not filed{since}: {self.why}; {self.todo}"


def unfiled(ledger: Ledger, conn: Connection, store: Spool) -> list[Unfiled]:
    """All of it that this process can know of."""
    now = ledger.time(conn)
    return [*_waiting(conn, now), *_left_behind(conn, now), *_set_aside(conn, store)]


def of_study(ledger: Ledger, conn: Connection, store: Spool, study_uid: str, state: str) -> list[Unfiled]:
    """What is not filed of a study, and, while it is being received, what may be of it."""
    return [
        one
        for one in unfiled(ledger, conn, store)
        if one.study_uid == study_uid or (one.of_any and state == "RECEIVING")
    ]


def _waiting(conn: Connection, now: float) -> Iterator[Unfiled]:
    """What listeners that live have not filed for long."""
    table = schema.process
    dead = processes.filing(conn, now).dead
    rows = conn.execute(select(table).where(table.c.unfiled > 0, table.c.filed_until < now - LATE_S))
    for row in rows:
        since = views.moment(conn, row.filed_until)
        if row.token in dead:
            continue
        if row.unfiled_why == processes.COMPARING:
            why, todo = "they are compared with the images that they came after", "only their studies wait for it"
            yield Unfiled(count=row.unfiled, since=since, why=why, todo=todo, of_any=True)
        else:
            yield Unfiled(
                count=row.unfiled,
                since=since,
                why=f"filing waits ({row.unfiled_why or 'the listener does not get on with it'})",
                todo="it goes on by itself once database and data folder can be written; see the listener's log",
                of_any=True,
                passing=True,
            )


def _left_behind(conn: Connection, now: float) -> Iterator[Unfiled]:
    """What a listener had that ended, and that nobody has taken over."""
    for one in processes.filing(conn, now).lost:
        yield Unfiled(
            count=one.unfiled,
            since=views.moment(conn, one.seen_at),
            why=f"the listener that has them in arrivals/{one.arrivals} ended, and no other can read that folder",
            todo="start a listener where that folder is, or move the folder into arrivals/ of this data folder; "
            "studies of that time wait for it until their hard age",
            of_any=True,
        )


def _set_aside(conn: Connection, store: Spool) -> Iterator[Unfiled]:
    """What lies in the folder for a person to look at."""
    try:
        files = sorted(path for path in store.unfiled.iterdir() if path.is_file())
    except OSError:
        return
    if not files:
        return
    event = schema.event
    query = select(event).where(event.c.kind.in_(_KINDS)).order_by(event.c.id.desc()).limit(10 * _SHOWN)
    known = {row.detail.get("path"): row for row in conn.execute(query)}
    for path in files[:_SHOWN]:
        row = known.get(store.relative(path))
        yield Unfiled(
            count=1,
            since=views.moment(conn, row.at) if row else None,
            why=_KINDS[row.kind] if row else "it was set aside",
            todo=f"look at {store.relative(path)}, send the image again if its study needs it, then remove the file; "
            f"`cauda unfiled release {path.name}` has it filed again",
            study_uid=row.study_uid if row else None,
        )
    if len(files) > _SHOWN:
        todo = f"look at all of {store.relative(store.unfiled)}/"
        yield Unfiled(count=len(files) - _SHOWN, since=None, why="they were set aside, too", todo=todo)
