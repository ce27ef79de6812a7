"""Revisions: one frozen set of inputs, and what was made of it (DESIGN.md 2). `claims` says who grades it.

due -> grading(attempt, lease) -> reported | rejected | failed | superseded | retracted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, and_, exists, func, insert, or_, select, update

from cauda.core import gaps, schema
from cauda.core.domain import Json, Reason
from cauda.core.gaps import Gap
from cauda.core.ledger import Ledger, record
from cauda.core.schema import READ, DeliveryState, ResultKind, RevisionKind, RevisionState, StudyState

_OPEN = (RevisionState.DUE, RevisionState.GRADING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What made a revision, beside its images."""

    bundle_digest: str | None
    config_digest: str
    code_version: str


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

    kind: ResultKind
    sop_class_uid: str
    sop_uid: str
    series_uid: str
    path: str
    sha256: str

    @classmethod
    def of(cls, row: Any) -> Made:
        """A row of `schema.result`."""
        return cls(kind=ResultKind(row.kind), sop_class_uid=row.sop_class_uid, sop_uid=row.sop_uid,
                   series_uid=row.series_uid, path=row.path, sha256=row.sha256)  # fmt: skip

    def enter(self, ledger: Ledger, conn: Connection, *, revision_id: int, study_uid: str) -> int:
        """Enter it as a result of the revision; its key. IntegrityError where its SOP Instance is entered."""
        values = {"revision_id": revision_id, "study_uid": study_uid, "made_at": ledger.now()} | asdict(self)
        key: int = conn.execute(insert(schema.result).values(values).returning(schema.result.c.id)).scalar_one()
        return key


def freeze(
    ledger: Ledger,
    conn: Connection,
    study_uid: str,
    *,
    reason: str,
    fingerprint: Fingerprint,
    kind: RevisionKind = RevisionKind.GRADE,
    identity: Mapping[str, str] | None = None,
    identity_checked: bool | None = None,
    missing: Sequence[Gap] | None = None,
    known_at: float | None = None,
) -> int | None:
    """Freeze the study's current images into a new due revision; returns its id.

    Completes the study. Earlier revisions that nobody ended are superseded. Without a single MR image there is nothing
    to freeze: the study completes and None is returned. The caller has decided that it is time.
    ``identity_checked`` False has the results say that an archive could not be asked whose study it is. ``missing``:
    what is known to be missing; by default as it was said last, but for refused images that came since. ``known_at``:
    up to when it is known what was acknowledged; by default now.
    """
    changed = conn.execute(
        update(schema.study)
        .where(schema.study.c.uid == study_uid, schema.study.c.state != StudyState.PURGED)
        .values(
            state=StudyState.COMPLETE,
            forced=False,
            corrected_at=None,
            complete_at=ledger.now() if known_at is None else known_at,
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
        select(table.c.id)
        .where(table.c.study_uid == study_uid, table.c.state.in_(_OPEN), table.c.kind != RevisionKind.RETRACT)
        .with_for_update()
    ).scalars().all()  # fmt: skip
    for old in superseded:
        conn.execute(
            update(table).where(table.c.id == old).values(state=RevisionState.SUPERSEDED, finished_at=ledger.now())
        )
        record(ledger, conn, "revision_superseded", study_uid=study_uid, revision_id=old)
    last = conn.execute(
        select(table.c.number, table.c.identity, table.c.gaps)
        .where(table.c.study_uid == study_uid)
        .order_by(table.c.number.desc())
        .limit(1)
    ).first()
    if last is not None and (kind is RevisionKind.GRADE or identity_checked is False):
        identity = identity or last.identity  # nobody was corrected: the same patient, whom the archive has named
    if missing is None:
        missing = gaps.still_missing(conn, study_uid, gaps.from_json(last.gaps) if last is not None else ())
    key = conn.execute(
        insert(table)
        .values(
            study_uid=study_uid,
            number=1 if last is None else last.number + 1,
            kind=kind,
            state=RevisionState.DUE,
            not_before=ledger.now(),
            frozen_at=ledger.now(),
            complete_reason=reason[:256],
            bundle_digest=fingerprint.bundle_digest,
            config_digest=fingerprint.config_digest,
            code_version=fingerprint.code_version,
            identity=dict(identity) if identity else None,
            identity_checked=identity_checked,
            gaps=[gap.to_json() for gap in missing] or None,
        )
        .returning(table.c.id)
    ).scalar_one()
    conn.execute(insert(schema.revision_input), [{"revision_id": key, "instance_id": i} for i in frozen])
    record(ledger, conn, "revision_due", study_uid=study_uid, revision_id=key, revision_kind=kind, reason=reason,
           known_at=known_at)  # fmt: skip
    return int(key)


def set_aside(ledger: Ledger, conn: Connection, revision_id: int, reason: Reason, text: str) -> None:
    """End a revision that was just frozen, before anybody grades it; `requeue` brings it back."""
    table = schema.revision
    study_uid = conn.execute(
        update(table)
        .where(table.c.id == revision_id)
        .values(state=RevisionState.REJECTED, finished_at=ledger.now(), reason=reason, reason_text=text)
        .returning(table.c.study_uid)
    ).scalar_one()
    record(ledger, conn, "revision_rejected", study_uid=study_uid, revision_id=revision_id, reason=reason, text=text)


def let_through(study_uid: ColumnElement[str]) -> ScalarSelect[Any]:
    """A revision of the study that was frozen for grading, by itself or at an operator's word; null for none."""
    table = schema.revision
    query = select(table.c.id).where(
        table.c.study_uid == study_uid, func.coalesce(table.c.reason, "") != Reason.STUDY_TOO_OLD
    )
    return query.limit(1).scalar_subquery()


def reported(study_uid: ColumnElement[str]) -> ScalarSelect[Any]:
    """A revision of the study that was reported; null for none."""
    table = schema.revision
    query = select(table.c.id).where(table.c.study_uid == study_uid, table.c.state == RevisionState.REPORTED)
    return query.limit(1).scalar_subquery()


def coming(conn: Connection, study_uid: str) -> bool:
    """Whether other results of the study are being made, or will be: those that are there may be replaced soon."""
    study, table = schema.study, schema.revision
    open_one = exists().where(
        table.c.study_uid == study.c.uid, table.c.state.in_(_OPEN), table.c.kind != RevisionKind.RETRACT
    )
    unsettled = or_(study.c.state == StudyState.RECEIVING, study.c.corrected_at.is_not(None), open_one)
    return conn.execute(select(study.c.uid).where(study.c.uid == study_uid, unsettled)).first() is not None


def named(conn: Connection, study_uid: str) -> dict[int, Mapping[str, str]]:
    """What archives made of the identity: revision -> what it was made with.

    Back to the last as the images have it, or to when a person last let the study go on, who has seen to it.
    """
    table, event = schema.revision, schema.event
    query = select(table.c.id, table.c.identity, table.c.frozen_at).where(
        table.c.study_uid == study_uid, table.c.kind != RevisionKind.RETRACT
    )
    rows = conn.execute(query.order_by(table.c.number.desc())).all()
    let_go = select(func.max(event.c.at)).where(event.c.study_uid == study_uid, event.c.kind == "study_released")
    since = conn.execute(let_go).scalar_one() or 0.0
    return {row.id: row.identity for row in takewhile(lambda row: row.identity and row.frozen_at > since, rows)}


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
    result = schema.result
    query = select(result).where(result.c.revision_id == row.id, result.c.kind.in_(READ)).order_by(result.c.id)
    if published:
        # an SR in a class that nobody was to get stands nowhere
        query = query.where(exists().where(schema.delivery.c.result_id == result.c.id))
    made = conn.execute(query).all()
    return row.report, [Made.of(one) for one in made]


def numbered(conn: Connection, study_uid: str) -> list[str]:
    """Files whose series a viewer knows by number: what left of all that was made, and one of each inert series."""
    table, result, images = schema.delivery, schema.result, schema.instance
    left = select(table.c.result_id).where(table.c.study_uid == study_uid, table.c.attempt > 0)
    made = conn.execute(select(result.c.path).where(result.c.study_uid == study_uid, result.c.id.in_(left)))
    where = and_(images.c.study_uid == study_uid, images.c.current, images.c.role == "inert")
    inert = conn.execute(select(func.min(images.c.path)).where(where).group_by(images.c.series_uid))
    return [*made.scalars(), *sorted(inert.scalars())]


def result_series(conn: Connection, study_uid: str) -> list[str]:
    """The Series UIDs of all results that were made of a study."""
    table = schema.result
    return list(conn.execute(select(table.c.series_uid).where(table.c.study_uid == study_uid).distinct()).scalars())


def tracking_uid(conn: Connection, study_uid: str, level: str, condition: str, fresh: str) -> str:
    """The tracking UID of a finding, stable over revisions; ``fresh`` is kept when there was none."""
    table = schema.tracking
    where = and_(table.c.study_uid == study_uid, table.c.level == level, table.c.condition == condition)
    known = conn.execute(select(table.c.uid).where(where)).scalar_one_or_none()
    if known is not None:
        return str(known)
    conn.execute(insert(table).values(study_uid=study_uid, level=level, condition=condition, uid=fresh))
    return fresh


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
        .values(
            state=RevisionState.DUE,
            deaths=0,
            worker=None,
            lease_until=None,
            not_before=ledger.now(),
            finished_at=None,
            reason=None,
            reason_text=None,
        )
    )
    record(ledger, conn, "revision_requeued", study_uid=study_uid, revision_id=last.id)
    return int(last.id)
