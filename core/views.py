"""What the ledger says of studies and deliveries, as plain values for a page, a table or JSON. No patient attribute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, and_, exists, func, or_, select

from cauda.core import schema
from cauda.core.domain import Json
from cauda.core.schema import RevisionKind, RevisionState, StudyState
from cauda.core.steady_clock import OFFSET
from cauda.core.supersession import outdated

_QUEUED = {RevisionState.DUE: "QUEUED"}


def studies(conn: Connection, *, limit: int, state: str | None = None, before: str | None = None) -> list[Json]:
    """The newest studies, each with its computed state; with ``state``, only those in it.

    With ``before``, only those that follow that Study Instance UID in this order; none when it is not known.
    """
    table, revision = schema.study, schema.revision
    later = revision.alias()
    last = (revision.c.study_uid == table.c.uid) & ~exists().where(
        later.c.study_uid == table.c.uid, later.c.number > revision.c.number
    )
    query = (
        select(table, *(column.label(f"last_{column.name}") for column in _last_columns()))
        .select_from(table.outerjoin(revision, last))
        .order_by(table.c.first_at.desc(), table.c.uid.desc())
    )
    if before is not None:
        first_at = select(table.c.first_at).where(table.c.uid == before).scalar_subquery()
        query = query.where(table.c.first_at <= first_at, or_(table.c.first_at < first_at, table.c.uid < before))
    if state is not None:
        query = query.where(_can_be(state.lower()))
    rows = (row for row in conn.execute(query) if state is None or _state(row) == state.upper())
    return [_study(conn, row) for row in list(islice(rows, limit))]


def _can_be(state: str) -> ColumnElement[bool]:
    """What a study in a computed state must have, so that the others are not read."""
    study, revision = schema.study.c, schema.revision.c
    if state == "held":
        return study.hold.is_not(None)
    named = next((one for one, word in _QUEUED.items() if word.lower() == state), state)
    if named == RevisionState.RETRACTED:
        return and_(or_(revision.state == named, revision.kind == RevisionKind.RETRACT), study.hold.is_(None))
    if named in set(RevisionState):
        return and_(revision.state == named, study.hold.is_(None))
    none_frozen = or_(study.state != StudyState.COMPLETE, revision.id.is_(None))
    return and_(study.state == state, study.hold.is_(None), none_frozen)


def _last_columns() -> list[Column[Any]]:
    columns = schema.revision.c
    return [columns.number, columns.kind, columns.state, columns.reason, columns.reason_text]


def study(conn: Connection, uid: str) -> Json | None:
    """One study with its revisions, deliveries and events; None when it is not known."""
    revision, event = schema.revision, schema.event
    row = conn.execute(
        select(schema.study, *(column.label(f"last_{column.name}") for column in _last_columns()))
        .select_from(schema.study.outerjoin(revision, revision.c.study_uid == schema.study.c.uid))
        .where(schema.study.c.uid == uid)
        .order_by(revision.c.number.desc())
    ).first()
    if row is None:
        return None
    revisions = conn.execute(select(revision).where(revision.c.study_uid == uid).order_by(revision.c.number))
    events = conn.execute(select(event).where(event.c.study_uid == uid).order_by(event.c.id))
    return _study(conn, row) | {
        "released_at": moment(conn, row.released_at),
        "complete_at": moment(conn, row.complete_at),
        "archive": _listing(conn, uid),
        "revisions": [_revision(conn, one) for one in revisions],
        "deliveries": deliveries(conn, study_uid=uid),
        "events": [
            {
                "at": moment(conn, one.at),
                "event": one.kind,
                "revision_id": one.revision_id,
                "delivery_id": one.delivery_id,
            }
            | {key: value for key, value in one.detail.items() if value is not None}
            for one in events
        ],
    }


def _listing(conn: Connection, uid: str) -> Json | None:
    """What the archive lists of a study; None where it was never asked."""
    row = conn.execute(select(schema.listing).where(schema.listing.c.study_uid == uid)).first()
    if row is None:
        return None
    return {
        "series": row.series,
        "since": moment(conn, row.since),
        "answered_at": moment(conn, row.answered_at),
        "asked_at": moment(conn, row.asked_at),
        "problem": row.problem,
    }


def last_bundle(conn: Connection) -> str | None:
    """The digest of the bundle that the newest revision was frozen for."""
    table = schema.revision
    digest = conn.execute(select(table.c.bundle_digest).order_by(table.c.id.desc()).limit(1)).scalar()
    return None if digest is None else str(digest)


def deliveries(
    conn: Connection, *, study_uid: str | None = None, state: str | None = None, limit: int | None = None
) -> list[Json]:
    """Objects on their way to destinations, newest first."""
    table, result = schema.delivery, schema.result
    query = (
        select(
            table, result.c.revision_id, result.c.kind, result.c.sop_uid, result.c.path, outdated().label("outdated")
        )
        .select_from(table.join(result))
        .order_by(table.c.id.desc())
    )
    if study_uid is not None:
        query = query.where(table.c.study_uid == study_uid)
    if state is not None:
        query = query.where(table.c.state == state.lower())
    return [
        {
            "id": one.id,
            "study_uid": one.study_uid,
            "revision_id": one.revision_id,
            "kind": one.kind,
            "sop_uid": one.sop_uid,
            "path": one.path,
            "destination": one.destination,
            "state": one.state,
            "attempt": one.attempt,
            "reason": one.reason,
            "reason_text": one.reason_text,
            "due_at": moment(conn, one.not_before),
            "accepted_at": moment(conn, one.accepted_at),
            "committed_at": moment(conn, one.committed_at),
            "confirmed_by": one.confirmed_by,
            "outdated": bool(one.outdated),
        }
        for one in conn.execute(query.limit(limit))
    ]


def moment(conn: Connection, seconds: float | None) -> str | None:
    """A ledger time as ISO 8601 in UTC, to the second, on the clock as it is set now."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds - conn.info.get(OFFSET, 0.0), UTC).isoformat(timespec="seconds")


def _study(conn: Connection, row: Row[Any]) -> Json:
    image, delivery = schema.instance, schema.delivery
    images = conn.execute(
        select(func.count()).where(image.c.study_uid == row.uid, image.c.current, image.c.role != "inert")
    ).scalar_one()
    waiting = conn.execute(
        select(delivery.c.state, func.count()).where(delivery.c.study_uid == row.uid).group_by(delivery.c.state)
    )
    return {
        "study_uid": row.uid,
        "state": _state(row),
        "reason": row.hold or row.last_reason,
        "reason_text": row.hold_text or _last_line(row.last_reason_text),
        "source": row.source,
        "images": images,
        "first_at": moment(conn, row.first_at),
        "complete_reason": row.complete_reason,
        "revision": row.last_number,
        "deliveries": {str(state): int(count) for state, count in waiting},
    }


def _last_line(text: str | None) -> str | None:
    """A failure's text is a stack; its last line names the error."""
    lines = (text or "").splitlines()
    return lines[-1] if lines else None


def _state(row: Row[Any]) -> str:
    """One word for the three machines."""
    if row.hold:
        return "HELD"
    if row.state != StudyState.COMPLETE or row.last_state is None:
        return str(row.state).upper()
    if row.last_kind == RevisionKind.RETRACT:  # also while the note is being made
        return RevisionState.RETRACTED.upper()
    return _QUEUED.get(row.last_state, str(row.last_state).upper())


def _revision(conn: Connection, row: Row[Any]) -> Json:
    report: Mapping[str, Any] = row.report or {}
    keys = ("id", "number", "kind", "state", "attempt", "reason", "reason_text")
    finding_keys = ("level", "condition", "grade", "abstained", "possible")
    return {key: getattr(row, key) for key in keys} | {
        "frozen_at": moment(conn, row.frozen_at),
        "finished_at": moment(conn, row.finished_at),
        "complete_reason": row.complete_reason,
        "bundle_digest": row.bundle_digest,
        "code_version": row.code_version,
        "bundle": report.get("bundle"),
        "level_doubt": report.get("level_doubt"),
        "flags": report.get("flags", []),
        "series": report.get("series", []),
        "findings": [{key: one.get(key) for key in finding_keys} for one in report.get("findings", ())],
    }
