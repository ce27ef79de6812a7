"""Whether the archive has what it accepted: storage commitment, else reading back (CLINICAL.md 28, DESIGN.md 7).

accepted -> (asked) -> committed. ``confirm_at`` is when the archive is asked next; without it nobody asks any more, and
the object stays accepted. A report may come at any time, to any listener: it is matched by its Transaction UID.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select, update

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.ledger import Ledger, record
from cauda.core.schema import DeliveryState, ResultKind

PUSH_MODEL = "1.2.840.10008.1.20.1"  # Storage Commitment Push Model: its class, and its well-known instance
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"

COMMITMENT = "commitment"
READ_BACK = "read_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A deliverer's right to ask about one accepted object, until ``until``, which fences what it writes."""

    id: int
    until: float
    study_uid: str
    destination: str
    kind: ResultKind
    sop_class_uid: str
    sop_uid: str
    series_uid: str
    path: str
    asked: bool  # a commitment was asked for, and it failed or nobody answered: read back
    since_s: float  # since the archive accepted it


def _claimable(now: ColumnElement[float], known: Sequence[str]) -> ColumnElement[bool]:
    table, place = schema.delivery, schema.destination
    closed = exists().where(place.c.name == table.c.destination, place.c.open_until > now)
    return and_(
        table.c.state == DeliveryState.ACCEPTED, table.c.confirm_at <= now, table.c.destination.in_(known), ~closed
    )


def due(ledger: Ledger, conn: Connection, known: Sequence[str]) -> int:
    """About how many objects the archives should be asked now."""
    where = _claimable(ledger.now(), known)
    return int(conn.execute(select(func.count()).select_from(schema.delivery).where(where)).scalar_one())


def claim(ledger: Ledger, *, lease_s: float, known: Sequence[str]) -> Claim | None:
    """Claim the object that has waited longest to be asked about; None when there is none."""
    table, result = schema.delivery, schema.result
    while True:
        with ledger.write() as conn:
            chosen = conn.execute(
                select(table, result.c.kind, result.c.sop_class_uid, result.c.sop_uid, result.c.series_uid,
                       result.c.path, (ledger.now() - table.c.accepted_at).label("since_s"))
                .select_from(table.join(result))
                .where(_claimable(ledger.now(), known))
                .order_by(table.c.confirm_at, table.c.id)
                .limit(1)
            ).first()  # fmt: skip
            if chosen is None:
                return None
            until = conn.execute(
                update(table)
                .where(
                    table.c.id == chosen.id,
                    table.c.state == DeliveryState.ACCEPTED,
                    table.c.confirm_at == chosen.confirm_at,
                )
                .values(confirm_at=ledger.now() + lease_s)
                .returning(table.c.confirm_at)
            ).scalar()
            if until is None:
                continue  # somebody else was quicker
            return Claim(
                id=chosen.id,
                until=until,
                study_uid=chosen.study_uid,
                destination=chosen.destination,
                kind=ResultKind(chosen.kind),
                sop_class_uid=chosen.sop_class_uid,
                sop_uid=chosen.sop_uid,
                series_uid=chosen.series_uid,
                path=chosen.path,
                asked=chosen.transaction_uid is not None,
                since_s=chosen.since_s or 0.0,
            )


def _fence(claim: Claim) -> ColumnElement[bool]:
    table = schema.delivery
    return and_(
        table.c.id == claim.id, table.c.state == DeliveryState.ACCEPTED, table.c.confirm_at == claim.until
    )  # fmt: skip


def asked(ledger: Ledger, claim: Claim, transaction_uid: str, *, wait_s: float = 86_400.0) -> bool:
    """Written before the question leaves: its answer may come at once. After ``wait_s`` without one: read back."""
    table = schema.delivery
    with ledger.write() as conn:
        changed = conn.execute(
            update(table).where(_fence(claim)).values(transaction_uid=transaction_uid, confirm_at=ledger.now() + wait_s)
        ).rowcount
        if changed:
            record(ledger, conn, "commitment_asked", study_uid=claim.study_uid, delivery_id=claim.id,
                   transaction_uid=transaction_uid)  # fmt: skip
        return bool(changed)


def not_asked(ledger: Ledger, claim: Claim, transaction_uid: str, *, delay_s: float, read_back: bool) -> bool:
    """The question did not get through: again after the delay, or with ``read_back`` another question."""
    table = schema.delivery
    with ledger.write() as conn:
        return bool(
            conn.execute(
                update(table)
                .where(
                    table.c.id == claim.id,
                    table.c.state == DeliveryState.ACCEPTED,
                    table.c.transaction_uid == transaction_uid,
                )
                .values(transaction_uid=transaction_uid if read_back else None, confirm_at=ledger.now() + delay_s)
            ).rowcount
        )


def answered(
    ledger: Ledger, transaction_uid: str, committed: Collection[str], failed: Mapping[str, int] | None = None
) -> bool:
    """A commitment report: SOP UIDs that the archive has, and those that it has not, with the failure reason.

    False when no transaction of ours has this UID. A report that comes again, or too late to matter, changes nothing.
    """
    table, result = schema.delivery, schema.result
    with ledger.write() as conn:
        rows = conn.execute(
            select(table.c.id, table.c.study_uid, table.c.state, result.c.sop_uid)
            .select_from(table.join(result))
            .where(table.c.transaction_uid == transaction_uid)
        ).all()
        for row in rows:
            if row.state != DeliveryState.ACCEPTED:
                continue
            if row.sop_uid in committed:
                _commit(ledger, conn, table.c.id == row.id, row.id, row.study_uid, COMMITMENT)
            elif failed and row.sop_uid in failed:
                words = f"commitment failed: reason {failed[row.sop_uid]:04X}"
                conn.execute(
                    update(table)
                    .where(table.c.id == row.id)
                    .values(confirm_at=ledger.now(), reason=Reason.NOT_CONFIRMED, reason_text=words)
                )
                record(ledger, conn, "commitment_failed", study_uid=row.study_uid, delivery_id=row.id, text=words)
        return bool(rows)


def found(ledger: Ledger, claim: Claim) -> bool:
    """The archive has it."""
    with ledger.write() as conn:
        return commit(ledger, conn, claim)


def commit(ledger: Ledger, conn: Connection, claim: Claim) -> bool:
    """`found` within a transaction."""
    return _commit(ledger, conn, _fence(claim), claim.id, claim.study_uid, READ_BACK)


def end_unconfirmed(conn: Connection, claim: Claim, reason: Reason, words: str) -> bool:
    """It stays accepted, with these words, and nobody asks any more."""
    where = update(schema.delivery).where(_fence(claim))
    return bool(conn.execute(where.values(confirm_at=None, reason=reason, reason_text=words)).rowcount)


def _commit(
    ledger: Ledger, conn: Connection, where: ColumnElement[bool], key: int, study_uid: str, by: str
) -> bool:  # fmt: skip
    table = schema.delivery
    changed = conn.execute(
        update(table)
        .where(where, table.c.state == DeliveryState.ACCEPTED)
        .values(state=DeliveryState.COMMITTED, committed_at=ledger.now(), confirmed_by=by, confirm_at=None)
    ).rowcount
    if changed:
        conn.execute(
            update(table)
            .where(table.c.id == key, table.c.reason == Reason.NOT_CONFIRMED)
            .values(reason=None, reason_text=None)
        )
        record(ledger, conn, "delivery_committed", study_uid=study_uid, delivery_id=key, by=by)
    return bool(changed)


def not_found(ledger: Ledger, claim: Claim, *, delay_s: float, within_s: float) -> bool:
    """The archive does not list it.

    Where it also refused to commit, the object is due again. Otherwise the archive is asked again, ever more rarely;
    what it does not list after ``within_s`` stays accepted, and says so.
    """
    table = schema.delivery
    with ledger.write() as conn:
        refused = conn.execute(
            select(table.c.id).where(_fence(claim), table.c.reason == Reason.NOT_CONFIRMED)
        ).first()  # fmt: skip
        if refused is not None:
            values = {"state": DeliveryState.DUE, "not_before": ledger.now() + delay_s, "worker": None,
                      "transaction_uid": None, "confirm_at": None}  # fmt: skip
            kind = "delivery_again"
        elif claim.since_s >= within_s:
            values = {"confirm_at": None, "reason": Reason.NOT_CONFIRMED,
                      "reason_text": "accepted, but the archive does not list it"}  # fmt: skip
            kind = "delivery_not_listed"
        else:
            return _later(ledger, conn, claim, max(delay_s, claim.since_s))
        changed = conn.execute(update(table).where(_fence(claim)).values(**values)).rowcount
        if changed:
            record(ledger, conn, kind, study_uid=claim.study_uid, delivery_id=claim.id, reason=Reason.NOT_CONFIRMED)
        return bool(changed)


def later(ledger: Ledger, claim: Claim, *, delay_s: float) -> bool:
    """The archive is not there to be asked."""
    with ledger.write() as conn:
        return _later(ledger, conn, claim, delay_s)


def _later(ledger: Ledger, conn: Connection, claim: Claim, delay_s: float) -> bool:
    where = update(schema.delivery).where(_fence(claim))
    return bool(conn.execute(where.values(confirm_at=ledger.now() + delay_s)).rowcount)


def unanswerable(ledger: Ledger, claim: Claim) -> bool:
    """The archive cannot say what it holds: the object stays accepted, and nobody asks any more."""
    with ledger.write() as conn:
        changed = conn.execute(update(schema.delivery).where(_fence(claim)).values(confirm_at=None)).rowcount
        if changed:
            record(ledger, conn, "delivery_not_confirmable", study_uid=claim.study_uid, delivery_id=claim.id)
        return bool(changed)
