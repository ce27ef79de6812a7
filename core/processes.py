"""Which processes serve this ledger, and the tick that rings for due work (DESIGN.md 2)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from cauda.core import claims, commitments, deliveries, doorbell, liveness, schema
from cauda.core.ledger import Ledger

SILENT_AFTER_S = 60.0  # a process that has not been seen for so long is taken for gone


def seen(ledger: Ledger, conn: Connection, *, token: str, role: str, slots: int) -> None:
    """A process says that it is there, and how much it can do at once."""
    table = schema.process
    changed = conn.execute(
        update(table).where(table.c.token == token).values(seen_at=ledger.now(), slots=slots)
    ).rowcount  # fmt: skip
    if not changed:
        conn.execute(
            insert(table).values(
                token=token, role=role, slots=slots, started_at=ledger.now(), seen_at=ledger.now()
            )
        )  # fmt: skip


def gone(conn: Connection, token: str) -> None:
    """A process says goodbye."""
    conn.execute(delete(schema.process).where(schema.process.c.token == token))


def dead(ledger: Ledger, conn: Connection, role: str) -> list[str]:
    """Processes of a role that ended without a goodbye."""
    table = schema.process
    rows = conn.execute(
        select(table.c.token, table.c.seen_at < ledger.now() - SILENT_AFTER_S).where(table.c.role == role)
    )
    return [token for token, silent in rows if silent or liveness.is_dead(token)]


def forget_dead(ledger: Ledger, conn: Connection) -> None:
    """Remove rows of processes that have ended."""
    for role in ("listener", "grade", "deliver"):
        for token in dead(ledger, conn, role):
            gone(conn, token)


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
