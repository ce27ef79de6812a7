"""Claims: a worker's right to one revision under a lease, ended once, by whoever holds it (DESIGN.md 2).

Every write after the claim is fenced by the attempt: a worker that was given up for dead changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cauda.core import gaps, liveness, schema, supersession
from cauda.core.domain import Json, Reason
from cauda.core.gaps import Gap
from cauda.core.ledger import Ledger, record
from cauda.core.revisions import Made
from cauda.core.schema import OF_REVISION, DeliveryState, ResultKind, RevisionKind, RevisionState
from cauda.core.steady_clock import OFFSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's right to one revision until its lease runs out; ``attempt`` fences every later write."""

    id: int
    attempt: int
    study_uid: str
    number: int
    kind: RevisionKind
    frozen_at: float
    complete_reason: str
    config_digest: str
    identity: dict[str, str] | None
    identity_checked: bool | None
    gaps: tuple[Gap, ...] = ()  # what is known to be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A destination for a revision's results; ``parked`` says why nothing is sent, if nothing is."""

    name: str
    parked: Reason | None = None
    sr: bool = True


def _claimable(now: ColumnElement[float], dead: Sequence[str]) -> ColumnElement[bool]:
    table = schema.revision
    lost = or_(table.c.lease_until < now, table.c.worker.in_(dead))
    return and_(
        or_(schema.study.c.hold.is_(None), table.c.kind == RevisionKind.RETRACT),
        or_(
            and_(table.c.state == RevisionState.DUE, table.c.not_before <= now),
            and_(table.c.state == RevisionState.GRADING, lost),
        ),
    )


def _dead_workers(conn: Connection) -> list[str]:
    table = schema.revision
    workers = conn.execute(select(table.c.worker).where(table.c.state == RevisionState.GRADING).distinct()).scalars()
    return [worker for worker in workers if worker and liveness.is_dead(worker)]


def due(ledger: Ledger, conn: Connection) -> int:
    """How many revisions could be claimed now."""
    query = select(func.count()).select_from(schema.revision.join(schema.study))
    return int(conn.execute(query.where(_claimable(ledger.now(), _dead_workers(conn)))).scalar_one())


def claim(ledger: Ledger, *, worker: str, lease_s: float, max_deaths: int) -> Claim | None:
    """Claim the next revision: what takes results back; then by priority, source served longest ago, newest study.

    A revision whose lease was lost ``max_deaths`` times in a row is failed instead ("worker died").
    """
    while True:
        with ledger.write() as conn:
            chosen = _next(ledger, conn)
            if chosen is None:
                return None
            lost = chosen.state == RevisionState.GRADING
            table = schema.revision
            fence = and_(
                table.c.id == chosen.id, table.c.state == chosen.state, table.c.attempt == chosen.attempt
            )  # fmt: skip
            if lost and chosen.deaths + 1 >= max_deaths:
                _end(ledger, conn, fence, chosen.id, chosen.study_uid, RevisionState.FAILED, Reason.WORKER_DIED,
                     f"the worker died {max_deaths} times while grading this study")  # fmt: skip
                continue
            changed = conn.execute(
                update(table)
                .where(fence)
                .values(
                    state=RevisionState.GRADING,
                    attempt=chosen.attempt + 1,
                    deaths=chosen.deaths + (1 if lost else 0),
                    worker=worker,
                    claimed_at=ledger.now(),
                    lease_until=ledger.now() + lease_s,
                )
            ).rowcount
            if not changed:
                continue  # somebody else was quicker
            _served(ledger, conn, chosen.source)
            record(ledger, conn, "revision_claimed", study_uid=chosen.study_uid, revision_id=chosen.id,
                   attempt=chosen.attempt + 1, after_death=lost)  # fmt: skip
            return Claim(
                id=chosen.id,
                attempt=chosen.attempt + 1,
                study_uid=chosen.study_uid,
                number=chosen.number,
                kind=RevisionKind(chosen.kind),
                frozen_at=chosen.frozen_at - conn.info.get(OFFSET, 0.0),  # results carry a date of the wall clock
                complete_reason=chosen.complete_reason,
                config_digest=chosen.config_digest,
                identity=chosen.identity,
                identity_checked=chosen.identity_checked,
                gaps=gaps.from_json(chosen.gaps),
            )


def _next(ledger: Ledger, conn: Connection) -> Any:
    table, study, source = schema.revision, schema.study, schema.source
    query = (
        select(table, study.c.source)
        .select_from(table.join(study).outerjoin(source, source.c.aet == study.c.source))
        .where(_claimable(ledger.now(), _dead_workers(conn)))
        .order_by(
            table.c.kind != RevisionKind.RETRACT,
            study.c.priority.desc(),
            func.coalesce(source.c.served_at, 0.0),
            study.c.first_at.desc(),
            table.c.id,
        )
        .limit(1)
    )
    return conn.execute(query).first()


def _served(ledger: Ledger, conn: Connection, aet: str) -> None:
    """Remember that this source had its turn."""
    table = schema.source
    if conn.execute(update(table).where(table.c.aet == aet).values(served_at=ledger.now())).rowcount:
        return
    with suppress(IntegrityError), conn.begin_nested():  # another worker met it first
        conn.execute(insert(table).values(aet=aet, served_at=ledger.now()))


def _fence(claim: Claim) -> ColumnElement[bool]:
    table = schema.revision
    return and_(
        table.c.id == claim.id, table.c.state == RevisionState.GRADING, table.c.attempt == claim.attempt
    )  # fmt: skip


def renew(ledger: Ledger, claim: Claim, *, lease_s: float) -> bool:
    """Heartbeat: push the lease out; False when the claim is no longer ours."""
    with ledger.write() as conn:
        return bool(
            conn.execute(
                update(schema.revision).where(_fence(claim)).values(lease_until=ledger.now() + lease_s)
            ).rowcount
        )  # fmt: skip


def report(
    ledger: Ledger,
    claim: Claim,
    *,
    state: RevisionState,
    reason: Reason | None,
    reason_text: str,
    report_json: Json,
    made: Sequence[Made],
    addressees: Sequence[Addressee],
    identity_checked: bool | None = None,
    note: Callable[[Sequence[Made]], Made | None] | None = None,
    only_to_replace: bool = False,
) -> bool:
    """End a claim with results already durable in the outbox; False when the claim is no longer ours.

    ``identity_checked`` is what the results say of that. Unsent deliveries of the study's earlier revisions are
    cancelled. ``note`` makes what rejects those that were sent, here, where nothing more can leave meanwhile; None from
    it is an event, and the results go without it. ``only_to_replace``: they go only where earlier ones stand.
    """
    with ledger.write() as conn:
        if not _end(ledger, conn, _fence(claim), claim.id, claim.study_uid, state, reason, reason_text, report_json):
            return False
        table = schema.revision
        conn.execute(update(table).where(table.c.id == claim.id).values(identity_checked=identity_checked))
        if made and claim.kind is not RevisionKind.RETRACT:
            _cancel_unsent(ledger, conn, claim.study_uid)
        standing = supersession.standing(conn, claim.study_uid, claim.number) if made and note else {}
        if only_to_replace:
            addressees = [to for to in addressees if any(to.name in places for places in standing.values())]
        for one in made:
            _put(ledger, conn, claim, one, [to for to in addressees if to.sr or one.kind is not ResultKind.SR])
        for replaced, places in standing.items():
            if note and (wanted := [to for to in addressees if to.name in places]):
                _reject(ledger, conn, claim, note(replaced), wanted)
        return True


def _reject(ledger: Ledger, conn: Connection, claim: Claim, note: Made | None, addressees: Sequence[Addressee]) -> None:
    """Have the note delivered; without one a person has to delete what stands there."""
    if note is not None:
        _put(ledger, conn, claim, note, addressees)
        return
    for to in addressees:
        record(ledger, conn, "rejection_not_made", study_uid=claim.study_uid, revision_id=claim.id, reason=Reason.BUG,
               destination=to.name)  # fmt: skip


def _put(ledger: Ledger, conn: Connection, claim: Claim, one: Made, addressees: Sequence[Addressee]) -> None:
    """A result, and its deliveries."""
    key = one.enter(ledger, conn, revision_id=claim.id, study_uid=claim.study_uid)
    for to in addressees:
        parked = Reason.RETRACTED if one.kind is ResultKind.WARNING else to.parked
        conn.execute(
            insert(schema.delivery).values(
                result_id=key,
                study_uid=claim.study_uid,
                destination=to.name,
                state=DeliveryState.PARKED if parked else DeliveryState.DUE,
                reason=parked,
                not_before=ledger.now(),
                created_at=ledger.now(),
            )
        )


def _cancel_unsent(ledger: Ledger, conn: Connection, study_uid: str) -> None:
    table = schema.delivery
    results = select(schema.result.c.id).where(
        schema.result.c.study_uid == study_uid, schema.result.c.kind.in_(OF_REVISION)
    )
    where = and_(table.c.result_id.in_(results), table.c.state.in_((DeliveryState.DUE, DeliveryState.PARKED)))
    for key in conn.execute(select(table.c.id).where(where).with_for_update()).scalars().all():
        conn.execute(
            update(table).where(table.c.id == key).values(state=DeliveryState.CANCELLED, reason=Reason.SUPERSEDED)
        )
        record(ledger, conn, "delivery_cancelled", study_uid=study_uid, delivery_id=key, reason=Reason.SUPERSEDED)


def fail(ledger: Ledger, claim: Claim, reason: Reason, text: str) -> bool:
    """End a claim as failed; ``text`` may be a stack. An operator requeues it."""
    with ledger.write() as conn:
        return _end(ledger, conn, _fence(claim), claim.id, claim.study_uid, RevisionState.FAILED, reason, text)


def put_back(ledger: Ledger, claim: Claim, *, delay_s: float, reason: Reason, text: str) -> bool:
    """Give a claim back because the world was not there; it is due again after the delay."""
    with ledger.write() as conn:
        changed = conn.execute(
            update(schema.revision)
            .where(_fence(claim))
            .values(
                state=RevisionState.DUE,
                worker=None,
                lease_until=None,
                deaths=0,
                not_before=ledger.now() + delay_s,
                reason=reason,
                reason_text=text[:4096],
            )
        ).rowcount
        if changed:
            record(ledger, conn, "revision_put_back", study_uid=claim.study_uid, revision_id=claim.id, reason=reason,
                   delay_s=delay_s)  # fmt: skip
        return bool(changed)


def _end(ledger: Ledger, conn: Connection, fence: ColumnElement[bool], key: int, study_uid: str,
         state: RevisionState, reason: Reason | None, text: str, report_json: Json | None = None) -> bool:  # fmt: skip
    changed = conn.execute(
        update(schema.revision)
        .where(fence)
        .values(
            state=state,
            lease_until=None,
            finished_at=ledger.now(),
            reason=reason,
            reason_text=text[-4096:],
            report=report_json,
        )
    ).rowcount
    if changed:
        record(ledger, conn, f"revision_{state}", study_uid=study_uid, revision_id=key, reason=reason)
    return bool(changed)
