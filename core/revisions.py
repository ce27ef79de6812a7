"""Revisions: one frozen set of inputs, claimed under a lease, ended once (DESIGN.md 2).

due -> grading(attempt, lease) -> reported | rejected | failed | superseded | retracted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cauda.core import liveness, schema
from cauda.core.domain import Json, Reason
from cauda.core.ledger import Ledger, record
from cauda.core.schema import DeliveryState, RevisionKind, RevisionState, StudyState

_OPEN = (RevisionState.DUE, RevisionState.GRADING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What made a revision, beside its images."""

    bundle_digest: str | None
    config_digest: str
    code_version: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One frozen image: its place and its hash."""

    path: str
    sha256: str
    sop_uid: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A result as it lies in the outbox."""

    kind: str  # sr | sc | ko
    sop_class_uid: str
    sop_uid: str
    series_uid: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A destination for a revision's results; ``parked`` says why nothing is sent, if nothing is."""

    name: str
    parked: Reason | None = None
    sr: bool = True


def freeze(
    ledger: Ledger,
    conn: Connection,
    study_uid: str,
    *,
    reason: str,
    fingerprint: Fingerprint,
    kind: RevisionKind = RevisionKind.GRADE,
    identity: Mapping[str, str] | None = None,
) -> int | None:
    """Freeze the study's current images into a new due revision; returns its id.

    Completes the study. Earlier revisions that nobody ended are superseded. Without a single MR image there is
    nothing to freeze: the study completes and None is returned. The caller has decided that it is time.
    """
    changed = conn.execute(
        update(schema.study)
        .where(schema.study.c.uid == study_uid, schema.study.c.state != StudyState.PURGED)
        .values(
            state=StudyState.COMPLETE,
            forced=False,
            corrected_at=None,
            complete_at=ledger.now(),
            complete_reason=reason[:256],
        )
    ).rowcount
    if not changed:
        return None
    images = schema.instance
    frozen = conn.execute(
        select(images.c.id).where(
            images.c.study_uid == study_uid, images.c.current, ~images.c.ours, images.c.role != "inert"
        )
    ).scalars().all()  # fmt: skip
    record(ledger, conn, "study_completed", study_uid=study_uid, reason=reason, images=len(frozen))
    if not frozen:
        return None
    table = schema.revision
    superseded = conn.execute(
        select(table.c.id).where(table.c.study_uid == study_uid, table.c.state.in_(_OPEN)).with_for_update()
    ).scalars().all()  # fmt: skip
    for old in superseded:
        conn.execute(
            update(table).where(table.c.id == old).values(state=RevisionState.SUPERSEDED, finished_at=ledger.now())
        )
        record(ledger, conn, "revision_superseded", study_uid=study_uid, revision_id=old)
    number = conn.execute(select(func.coalesce(func.max(table.c.number), 0)).where(table.c.study_uid == study_uid))
    key = conn.execute(
        insert(table)
        .values(
            study_uid=study_uid,
            number=number.scalar_one() + 1,
            kind=kind,
            state=RevisionState.DUE,
            not_before=ledger.now(),
            frozen_at=ledger.now(),
            complete_reason=reason[:256],
            bundle_digest=fingerprint.bundle_digest,
            config_digest=fingerprint.config_digest,
            code_version=fingerprint.code_version,
            identity=dict(identity) if identity else None,
        )
        .returning(table.c.id)
    ).scalar_one()
    conn.execute(insert(schema.revision_input), [{"revision_id": key, "instance_id": i} for i in frozen])
    record(ledger, conn, "revision_due", study_uid=study_uid, revision_id=key, revision_kind=kind, reason=reason)
    return int(key)


def reported(conn: Connection, study_uid: str) -> bool:
    """Whether anything was ever reported for the study."""
    table = schema.revision
    query = select(table.c.id).where(table.c.study_uid == study_uid, table.c.state == RevisionState.REPORTED).limit(1)
    return conn.execute(query).first() is not None


def _claimable(now: ColumnElement[float], dead: Sequence[str]) -> ColumnElement[bool]:
    table = schema.revision
    lost = or_(table.c.lease_until < now, table.c.worker.in_(dead))
    return and_(
        schema.study.c.hold.is_(None),
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
    """Claim the next revision: highest priority, then the source served longest ago, then the newest study.

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
                frozen_at=chosen.frozen_at,
                complete_reason=chosen.complete_reason,
                config_digest=chosen.config_digest,
                identity=chosen.identity,
            )


def _next(ledger: Ledger, conn: Connection) -> Any:
    table, study, source = schema.revision, schema.study, schema.source
    query = (
        select(table, study.c.source)
        .select_from(table.join(study).outerjoin(source, source.c.aet == study.c.source))
        .where(_claimable(ledger.now(), _dead_workers(conn)))
        .order_by(study.c.priority.desc(), func.coalesce(source.c.served_at, 0.0), study.c.first_at.desc(), table.c.id)
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


def inputs(conn: Connection, revision_id: int) -> list[Input]:
    """The frozen images, by SOP Instance UID."""
    images, link = schema.instance, schema.revision_input
    rows = conn.execute(
        select(images.c.path, images.c.sha256, images.c.sop_uid, images.c.role)
        .select_from(link.join(images))
        .where(link.c.revision_id == revision_id)
        .order_by(images.c.sop_uid)
    )
    return [Input(path=r.path, sha256=r.sha256, sop_uid=r.sop_uid, role=r.role) for r in rows]


def previous(
    conn: Connection, study_uid: str, number: int, *, published: bool = False
) -> tuple[Json, list[Made]] | None:
    """What stands before ``number``: the report.json and the results of the last revision that made any, or None.

    A revision that changed nothing made none; a rejected one may have made a notice. What was retracted is gone.
    With ``published``, the last one of which anything was sent: what was only made is nobody's predecessor.
    """
    table = schema.revision
    made_any = exists().where(schema.result.c.revision_id == table.c.id)
    sent_any = made_any.where(
        schema.delivery.c.result_id == schema.result.c.id,
        schema.delivery.c.state.in_((DeliveryState.SENT, DeliveryState.ACCEPTED, DeliveryState.COMMITTED)),
    )
    row = conn.execute(
        select(table.c.id, table.c.report)
        .where(
            table.c.study_uid == study_uid,
            table.c.number < number,
            table.c.state.in_((RevisionState.REPORTED, RevisionState.REJECTED)),
            sent_any if published else made_any,
        )
        .order_by(table.c.number.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    made = conn.execute(
        select(schema.result).where(schema.result.c.revision_id == row.id).order_by(schema.result.c.id)
    ).all()
    return row.report, [
        Made(kind=m.kind, sop_class_uid=m.sop_class_uid, sop_uid=m.sop_uid, series_uid=m.series_uid, path=m.path,
             sha256=m.sha256)
        for m in made
    ]  # fmt: skip


def tracking_uid(conn: Connection, study_uid: str, level: str, condition: str, fresh: str) -> str:
    """The tracking UID of a finding, stable over revisions; ``fresh`` is kept when there was none."""
    table = schema.tracking
    where = and_(table.c.study_uid == study_uid, table.c.level == level, table.c.condition == condition)
    known = conn.execute(select(table.c.uid).where(where)).scalar_one_or_none()
    if known is not None:
        return str(known)
    conn.execute(insert(table).values(study_uid=study_uid, level=level, condition=condition, uid=fresh))
    return fresh


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
) -> bool:
    """End a claim with results already durable in the outbox; False when the claim is no longer ours.

    Unsent deliveries of the study's earlier revisions are cancelled; those that were sent stand.
    """
    with ledger.write() as conn:
        if not _end(ledger, conn, _fence(claim), claim.id, claim.study_uid, state, reason, reason_text, report_json):
            return False
        if made:
            _cancel_unsent(ledger, conn, claim.study_uid)
        for one in made:
            key = conn.execute(
                insert(schema.result)
                .values(
                    revision_id=claim.id,
                    study_uid=claim.study_uid,
                    kind=one.kind,
                    sop_class_uid=one.sop_class_uid,
                    sop_uid=one.sop_uid,
                    series_uid=one.series_uid,
                    path=one.path,
                    sha256=one.sha256,
                    made_at=ledger.now(),
                )
                .returning(schema.result.c.id)
            ).scalar_one()
            for to in addressees:
                if one.kind == "sr" and not to.sr:
                    continue
                conn.execute(
                    insert(schema.delivery).values(
                        result_id=key,
                        study_uid=claim.study_uid,
                        destination=to.name,
                        state=DeliveryState.PARKED if to.parked else DeliveryState.DUE,
                        reason=to.parked,
                        not_before=ledger.now(),
                        created_at=ledger.now(),
                    )
                )
        return True


def _cancel_unsent(ledger: Ledger, conn: Connection, study_uid: str) -> None:
    table = schema.delivery
    where = and_(table.c.study_uid == study_uid, table.c.state.in_((DeliveryState.DUE, DeliveryState.PARKED)))
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


def requeue(ledger: Ledger, conn: Connection, study_uid: str, *, fingerprint: Fingerprint) -> int | None:
    """Grade a study again: the same revision if nothing of it was published, else a new one; None if unknown."""
    table = schema.revision
    last = conn.execute(
        select(table).where(table.c.study_uid == study_uid).order_by(table.c.number.desc()).limit(1).with_for_update()
    ).first()
    if last is None:
        return None
    if last.state in _OPEN:
        conn.execute(update(table).where(table.c.id == last.id, table.c.state == RevisionState.DUE)
                     .values(not_before=ledger.now()))  # fmt: skip
        return int(last.id)
    published = conn.execute(select(schema.result.c.id).where(schema.result.c.revision_id == last.id).limit(1)).first()
    if published is not None:
        return freeze(ledger, conn, study_uid, reason="requeued by an operator", fingerprint=fingerprint)
    conn.execute(
        update(table)
        .where(table.c.id == last.id)
        .values(state=RevisionState.DUE, deaths=0, worker=None, lease_until=None, not_before=ledger.now(),
                finished_at=None, reason=None, reason_text=None)
    )  # fmt: skip
    record(ledger, conn, "revision_requeued", study_uid=study_uid, revision_id=last.id)
    return int(last.id)
