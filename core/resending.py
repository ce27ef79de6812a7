"""What an operator has sent again, or lets go although it is late."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, select, update

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.ledger import Ledger, record
from cauda.core.schema import DeliveryState
from cauda.core.supersession import outdated


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What an operator's word did."""

    due: int
    outdated: tuple[str, ...] = ()  # studies of which something refused stays so: a later revision replaced it

    def __bool__(self) -> bool:
        """Whether anything is due."""
        return self.due > 0


def retry(ledger: Ledger, conn: Connection, *, study_uid: str | None = None, destination: str | None = None) -> Retried:
    """An operator sends again what was refused or waits, but nothing refused that a later revision replaced."""
    table = schema.delivery
    where: ColumnElement[bool] = table.c.state.in_((DeliveryState.REFUSED, DeliveryState.DUE))
    if study_uid is not None:
        where = and_(where, table.c.study_uid == study_uid)
    if destination is not None:
        where = and_(where, table.c.destination == destination)
    refused = table.c.state == DeliveryState.REFUSED
    rows = conn.execute(
        select(table.c.id, table.c.study_uid, and_(refused, outdated()).label("outdated"))
        .select_from(table.join(schema.result))
        .where(where)
        .with_for_update(of=table)
    ).all()
    again = [row for row in rows if not row.outdated]
    for row in again:
        conn.execute(
            update(table)
            .where(table.c.id == row.id)
            .values(state=DeliveryState.DUE, not_before=ledger.now(), released_at=ledger.now(), failures=0)
        )
        record(ledger, conn, "delivery_retried", study_uid=row.study_uid, delivery_id=row.id)
    if destination is not None:
        conn.execute(update(schema.destination).where(schema.destination.c.name == destination).values(open_until=0))
    else:
        conn.execute(update(schema.destination).values(open_until=0))
    return Retried(due=len(again), outdated=tuple(dict.fromkeys(row.study_uid for row in rows if row.outdated)))


KEPT_BACK = (Reason.SHADOW, Reason.NOT_RESEARCH, Reason.PHANTOM_NOT_LIVE)
"""Why a destination's settings keep results from it."""


def release(
    ledger: Ledger,
    conn: Connection,
    *,
    study_uid: str | None = None,
    destination: str | None = None,
    kept_back: bool = False,
) -> int:
    """An operator lets go what was parked for being late, newest study first as ever; returns how many.

    With ``kept_back`` also what a setting kept from its destination: the settings are asked again before it is sent.
    """
    table = schema.delivery
    reasons = (Reason.TOO_LATE, *(KEPT_BACK if kept_back else ()))
    where: ColumnElement[bool] = and_(table.c.state == DeliveryState.PARKED, table.c.reason.in_(reasons))
    if study_uid is not None:
        where = and_(where, table.c.study_uid == study_uid)
    if destination is not None:
        where = and_(where, table.c.destination == destination)
    keys = conn.execute(select(table.c.id, table.c.study_uid).where(where).with_for_update()).all()
    for row in keys:
        conn.execute(
            update(table)
            .where(table.c.id == row.id)
            .values(state=DeliveryState.DUE, reason=None, not_before=ledger.now(), released_at=ledger.now())
        )
        record(ledger, conn, "delivery_released", study_uid=row.study_uid, delivery_id=row.id)
    return len(keys)
