"""What a revision's results replace, destination by destination (CLINICAL.md 23)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from cauda.core import schema
from cauda.core.revisions import Made
from cauda.core.schema import OF_REVISION, READ, DeliveryState, ResultKind, RevisionState

# Due, once what was unsent is cancelled: a try that has just failed, and goes on.
_LEFT = (DeliveryState.DUE, DeliveryState.SENT, DeliveryState.ACCEPTED, DeliveryState.COMMITTED)


def outdated() -> ColumnElement[bool]:
    """Of a row of `schema.result`: that a later revision's results replaced it, or an operator took it back."""
    result, own = schema.result, schema.revision.alias()
    later, newer = schema.revision.alias(), schema.result.alias()
    replaced = exists().where(
        own.c.id == result.c.revision_id,
        later.c.study_uid == own.c.study_uid,
        later.c.number > own.c.number,
        newer.c.study_uid == result.c.study_uid,
        newer.c.revision_id == later.c.id,
        newer.c.kind.in_(READ),
    )
    taken_back = exists().where(own.c.id == result.c.revision_id, own.c.state == RevisionState.RETRACTED)
    return and_(result.c.kind.in_(OF_REVISION), or_(replaced, taken_back))


def is_outdated(conn: Connection, sop_uid: str) -> bool:
    """Whether that has happened to one result."""
    query = select(schema.result.c.id).where(schema.result.c.sop_uid == sop_uid, outdated())
    return conn.execute(query).first() is not None


def standing(conn: Connection, study_uid: str, number: int) -> Mapping[tuple[Made, ...], Sequence[str]]:
    """Results of revisions before ``number`` that stand somewhere -> the destinations that have or may have just these.

    Asked once the unsent is cancelled. What a note rejected there is left out, and what an operator took back.
    """
    table, result, revision = schema.delivery, schema.result, schema.revision
    source = table.join(result).join(revision, revision.c.id == result.c.revision_id)
    left = and_(table.c.study_uid == study_uid, table.c.state.in_(_LEFT), revision.c.number < number)
    noted = conn.execute(
        select(table.c.destination, func.max(revision.c.number).label("number"))
        .select_from(source)
        .where(left, result.c.kind == ResultKind.REPLACES)
        .group_by(table.c.destination)
    ).all()
    since = {row.destination: row.number for row in noted}  # a note rejects all that stood before its revision
    rows = conn.execute(
        select(result, table.c.destination, revision.c.number)
        .select_from(source)
        .where(left, result.c.kind.in_(READ), revision.c.state != RevisionState.RETRACTED)
        .order_by(result.c.id)
    ).all()
    found: dict[str, list[Made]] = {}
    for row in rows:
        if row.number >= since.get(row.destination, 0):
            found.setdefault(row.destination, []).append(Made.of(row))
    places: dict[tuple[Made, ...], list[str]] = {}
    for destination, made in found.items():
        places.setdefault(tuple(made), []).append(destination)
    return places
