"""Deliveries: one result on its way to one destination (DESIGN.md 2, 7).

due -> sent(attempt, lease) -> accepted -> committed | refused | cancelled | parked

Deliveries of one study to one destination go one after the other. A destination that is away opens its circuit
breaker: nothing is sent there until it is tried again, by one delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cauda.core import liveness, schema
from cauda.core.backoff import Backoff
from cauda.core.domain import Reason
from cauda.core.ledger import Ledger, record
from cauda.core.schema import READ, WITHDRAWING, DeliveryState, ResultKind

_UNDERWAY = (DeliveryState.DUE, DeliveryState.SENT)
_TAKEN = (DeliveryState.ACCEPTED, DeliveryState.COMMITTED)

# A claim's question names the tables several times; every worker asks it often.
_BEFORE, _PROBE, _PAGE = (schema.delivery.alias() for _ in range(3))
_SHOWN = schema.result.alias()
_SOURCE = schema.delivery.join(schema.study, schema.delivery.c.study_uid == schema.study.c.uid).join(schema.result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A deliverer's right to send one object until its lease runs out."""

    id: int
    attempt: int
    failures: int
    study_uid: str
    destination: str
    revision_id: int
    kind: ResultKind
    sop_class_uid: str
    sop_uid: str
    path: str
    sha256: str


def _claimable(now: ColumnElement[float], dead: Sequence[str], known: Sequence[str]) -> ColumnElement[bool]:
    table, place = schema.delivery, schema.destination
    predecessor = exists().where(
        _BEFORE.c.study_uid == table.c.study_uid,
        _BEFORE.c.destination == table.c.destination,
        _BEFORE.c.id < table.c.id,
        _BEFORE.c.state.in_(_UNDERWAY),
    )
    closed = exists().where(place.c.name == table.c.destination, place.c.open_until > now)
    probing = exists().where(
        place.c.name == table.c.destination,
        place.c.failures > 0,
        _PROBE.c.destination == table.c.destination,
        _PROBE.c.state == DeliveryState.SENT,
        _PROBE.c.lease_until >= now,
        _PROBE.c.worker.not_in(dead),
    )
    lost = or_(table.c.lease_until < now, table.c.worker.in_(dead))
    replaced = exists().where(
        _PAGE.c.study_uid == table.c.study_uid,
        _PAGE.c.destination == table.c.destination,
        _PAGE.c.state.in_(_TAKEN),
        _PAGE.c.result_id == _SHOWN.c.id,
        _SHOWN.c.revision_id == schema.result.c.revision_id,
        _SHOWN.c.kind == ResultKind.SC,
    )
    return and_(
        table.c.destination.in_(known),
        or_(schema.result.c.kind != ResultKind.REPLACES, replaced),  # nothing is hidden before the new page is there
        or_(schema.study.c.hold.is_(None), schema.result.c.kind.in_(WITHDRAWING)),
        or_(
            and_(table.c.state == DeliveryState.DUE, table.c.not_before <= now),
            and_(table.c.state == DeliveryState.SENT, lost),
        ),
        ~predecessor,
        ~closed,
        ~probing,
    )


def _dead_workers(conn: Connection) -> list[str]:
    table = schema.delivery
    workers = conn.execute(select(table.c.worker).where(table.c.state == DeliveryState.SENT).distinct()).scalars()
    return [worker for worker in workers if worker and liveness.is_dead(worker)]


def due(ledger: Ledger, conn: Connection, known: Sequence[str]) -> int:
    """How many deliveries to the known destinations could be claimed now."""
    where = _claimable(ledger.now(), _dead_workers(conn), known)
    return int(conn.execute(select(func.count()).select_from(_SOURCE).where(where)).scalar_one())


def due_since(ledger: Ledger, conn: Connection, known: Sequence[str]) -> float | None:
    """Since when the oldest delivery that could be claimed now has been due; None when there is none."""
    where = _claimable(ledger.now(), _dead_workers(conn), known)
    oldest = select(func.min(schema.delivery.c.not_before)).select_from(_SOURCE).where(where)
    found = conn.execute(oldest).scalar_one()
    return None if found is None else float(found)


def claim(
    ledger: Ledger, *, worker: str, lease_s: float, known: Sequence[str], within_s: float | None = None
) -> Claim | None:
    """Claim the next delivery to one of the known destinations: highest priority, then the newest study.

    What could go now and is older than ``within_s`` is parked for an operator instead (CLINICAL.md 29).
    """
    table, study = schema.delivery, schema.study
    if within_s is not None:
        _park_late(ledger, known, within_s)
    while True:
        with ledger.write() as conn:
            if ledger.engine.dialect.name == "postgresql":
                # Two deliverers must not each see the other's study as free: claims go one at a time.
                conn.execute(select(func.pg_advisory_xact_lock(0x44454C49)))
            chosen = conn.execute(
                select(
                    table.c.id, table.c.attempt, table.c.state, table.c.failures, table.c.study_uid,
                    table.c.destination, schema.result.c.revision_id, schema.result.c.kind,
                    schema.result.c.sop_class_uid, schema.result.c.sop_uid, schema.result.c.path,
                    schema.result.c.sha256,
                )
                .select_from(_SOURCE)
                .where(_claimable(ledger.now(), _dead_workers(conn), known))
                .order_by(study.c.priority.desc(), study.c.first_at.desc(), table.c.id)
                .limit(1)
            ).first()  # fmt: skip
            if chosen is None:
                return None
            changed = conn.execute(
                update(table)
                .where(table.c.id == chosen.id, table.c.state == chosen.state, table.c.attempt == chosen.attempt)
                .values(
                    state=DeliveryState.SENT,
                    attempt=chosen.attempt + 1,
                    worker=worker,
                    sent_at=ledger.now(),
                    lease_until=ledger.now() + lease_s,
                )
            ).rowcount
            if not changed:
                continue
            record(ledger, conn, "delivery_sent", study_uid=chosen.study_uid, delivery_id=chosen.id,
                   attempt=chosen.attempt + 1)  # fmt: skip
            return Claim(
                id=chosen.id,
                attempt=chosen.attempt + 1,
                failures=chosen.failures,
                study_uid=chosen.study_uid,
                destination=chosen.destination,
                revision_id=chosen.revision_id,
                kind=ResultKind(chosen.kind),
                sop_class_uid=chosen.sop_class_uid,
                sop_uid=chosen.sop_uid,
                path=chosen.path,
                sha256=chosen.sha256,
            )


def _park_late(ledger: Ledger, known: Sequence[str], within_s: float) -> None:
    table = schema.delivery
    late = and_(
        table.c.state == DeliveryState.DUE,
        table.c.created_at < ledger.now() - within_s,
        table.c.released_at.is_(None),
        table.c.destination.in_(known),
        schema.result.c.kind.in_(READ),
    )
    query = select(table.c.id, table.c.study_uid).select_from(table.join(schema.result)).where(late)
    with ledger.read() as conn:
        if conn.execute(query.limit(1)).first() is None:
            return
    with ledger.write() as conn:
        for row in conn.execute(query).all():
            parked = update(table).where(table.c.id == row.id, table.c.state == DeliveryState.DUE)
            if conn.execute(parked.values(state=DeliveryState.PARKED, reason=Reason.TOO_LATE)).rowcount:
                record(ledger, conn, "delivery_parked", study_uid=row.study_uid, delivery_id=row.id,
                       reason=Reason.TOO_LATE)  # fmt: skip


def fence(claim: Claim) -> ColumnElement[bool]:
    """Of a row of `schema.delivery`: that the claim still holds it."""
    table = schema.delivery
    return and_(
        table.c.id == claim.id, table.c.state == DeliveryState.SENT, table.c.attempt == claim.attempt
    )  # fmt: skip


def renew(ledger: Ledger, claim: Claim, *, lease_s: float) -> bool:
    """Push the lease out; False when the claim is no longer ours, or the study was held meanwhile."""
    with ledger.write() as conn:
        held = conn.execute(select(schema.study.c.hold).where(schema.study.c.uid == claim.study_uid)).scalar_one()
        where = update(schema.delivery).where(fence(claim))
        ours = bool(conn.execute(where.values(lease_until=ledger.now() + lease_s)).rowcount)
        return ours and (held is None or claim.kind in WITHDRAWING)


def accepted(ledger: Ledger, claim: Claim, *, words: str = "", confirm_in_s: float | None = None) -> bool:
    """The archive said success; closes the destination's breaker. ``commitments`` goes on after ``confirm_in_s``."""
    with ledger.write() as conn:
        changed = _finish(ledger, conn, claim, DeliveryState.ACCEPTED, None, words)
        if changed:
            confirm_at = None if confirm_in_s is None else ledger.now() + confirm_in_s
            conn.execute(
                update(schema.delivery)
                .where(schema.delivery.c.id == claim.id)
                .values(accepted_at=ledger.now(), confirm_at=confirm_at)
            )
            _answered(ledger, conn, claim.destination)
        return changed


def refused(ledger: Ledger, claim: Claim, reason: Reason, words: str) -> bool:
    """The archive will never take it as it is; ends the delivery, in the archive's own words."""
    with ledger.write() as conn:
        _answered(ledger, conn, claim.destination)
        # an archive need not take the note that rejects what was replaced (CLINICAL.md 23)
        no_fault = claim.kind is ResultKind.REPLACES and reason is Reason.DESTINATION_REFUSED
        state = DeliveryState.CANCELLED if no_fault else DeliveryState.REFUSED
        return _finish(ledger, conn, claim, state, reason, words)


def park(ledger: Ledger, claim: Claim, reason: Reason) -> bool:
    """The destination's settings keep the object back; nothing was sent."""
    with ledger.write() as conn:
        return _finish(ledger, conn, claim, DeliveryState.PARKED, reason, "")


def supersede(ledger: Ledger, claim: Claim) -> bool:
    """Later results replaced the object before it was sent."""
    with ledger.write() as conn:
        return _finish(ledger, conn, claim, DeliveryState.CANCELLED, Reason.SUPERSEDED, "")


def wait(ledger: Ledger, claim: Claim, reason: Reason, words: str, backoff: Backoff, *, answered: bool = True) -> bool:
    """The object cannot go now: due again later. ``answered`` says that the destination was spoken to."""
    with ledger.write() as conn:
        if answered:
            _answered(ledger, conn, claim.destination)
        return _wait(ledger, conn, claim, reason, words, backoff.wait_s(claim.failures + 1))


def away(ledger: Ledger, claim: Claim, reason: Reason, words: str, backoff: Backoff) -> bool:
    """The destination cannot be reached or takes nothing: open its breaker.

    The object is due again when that closes; one that may have been the cause itself (``DESTINATION_BUSY``: the
    destination was there and broke off) waits its own time beyond, so that it is not the one to try with again.
    """
    with ledger.write() as conn:
        table = schema.destination
        _ensure(conn, claim.destination)
        failures = conn.execute(
            select(table.c.failures).where(table.c.name == claim.destination).with_for_update()
        ).scalar_one() + 1  # fmt: skip
        delay_s = backoff.wait_s(failures)
        conn.execute(
            update(table)
            .where(table.c.name == claim.destination)
            .values(failures=failures, open_until=ledger.now() + delay_s, reason_text=said(words))
        )
        if failures == 1:
            record(ledger, conn, "destination_away", destination=claim.destination, reason=reason)
        own_s = backoff.wait_s(claim.failures + 1) if reason is Reason.DESTINATION_BUSY else 0.0
        return _wait(ledger, conn, claim, reason, words, delay_s + own_s)


def _wait(ledger: Ledger, conn: Connection, claim: Claim, reason: Reason, words: str, delay_s: float) -> bool:
    changed = conn.execute(
        update(schema.delivery)
        .where(fence(claim))
        .values(
            state=DeliveryState.DUE,
            worker=None,
            lease_until=None,
            failures=claim.failures + 1,
            not_before=ledger.now() + delay_s,
            reason=reason,
            reason_text=said(words),
        )
    ).rowcount
    if changed:
        record(ledger, conn, "delivery_waits", study_uid=claim.study_uid, delivery_id=claim.id, reason=reason,
               delay_s=round(delay_s, 1))  # fmt: skip
    return bool(changed)


def _answered(ledger: Ledger, conn: Connection, name: str) -> None:
    table = schema.destination
    _ensure(conn, name)
    back = conn.execute(
        update(table).where(table.c.name == name, table.c.failures > 0).values(failures=0, open_until=0)
    ).rowcount
    conn.execute(update(table).where(table.c.name == name).values(ok_at=ledger.now()))
    if back:
        record(ledger, conn, "destination_back", destination=name)
        # What waited only for the destination goes now.
        conn.execute(
            update(schema.delivery)
            .where(
                schema.delivery.c.destination == name,
                schema.delivery.c.state == DeliveryState.DUE,
                schema.delivery.c.reason.in_((Reason.DESTINATION_DOWN, Reason.DESTINATION_REFUSED)),
            )
            .values(not_before=ledger.now())
        )


def said(words: str) -> str:
    """An archive's own words as the ledger keeps them: printable ASCII, bounded. They may name a patient: no log."""
    return "".join(c if " " <= c <= "~" else "?" for c in words)[:512]


def _ensure(conn: Connection, name: str) -> None:
    table = schema.destination
    if conn.execute(select(table.c.name).where(table.c.name == name)).first() is None:
        try:
            with conn.begin_nested():
                conn.execute(insert(table).values(name=name))
        except IntegrityError:
            return  # another deliverer met it first


def _finish(ledger: Ledger, conn: Connection, claim: Claim, state: DeliveryState, reason: Reason | None,
            words: str) -> bool:  # fmt: skip
    changed = conn.execute(
        update(schema.delivery)
        .where(fence(claim))
        .values(state=state, lease_until=None, failures=0, reason=reason, reason_text=said(words) or None)
    ).rowcount
    if changed:
        record(ledger, conn, f"delivery_{state}", study_uid=claim.study_uid, delivery_id=claim.id, reason=reason)
    return bool(changed)


def takes(ledger: Ledger, conn: Connection, name: str, sop_classes: Sequence[str], *, can_find: bool) -> None:
    """Remember what a destination negotiated."""
    _ensure(conn, name)
    conn.execute(
        update(schema.destination)
        .where(schema.destination.c.name == name)
        .values(negotiated_at=ledger.now(), sop_classes=list(sop_classes), can_find=can_find)
    )


def taken(conn: Connection, name: str) -> tuple[list[str], bool] | None:
    """What it negotiated last, and whether it answers questions; None when it never did."""
    table = schema.destination
    row = conn.execute(select(table).where(table.c.name == name, table.c.negotiated_at.is_not(None))).first()
    return None if row is None else (row.sop_classes, row.can_find)
