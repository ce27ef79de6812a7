"""Taking results back (CLINICAL.md 31): what is unsent is cancelled, what was sent gets a rejection note.

An operator's word opens a revision of kind ``retract``, which a worker makes into the note and a page that warns. The
page stays parked until the archive was seen to list what the note rejects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from cauda.core import commitments, deliveries, schema
from cauda.core.domain import Json, Reason
from cauda.core.ledger import Ledger, record
from cauda.core.revisions import Made
from cauda.core.schema import OF_REVISION, READ, DeliveryState, ResultKind, RevisionKind, RevisionState

STILL_VISIBLE = "still visible in PACS, delete by hand"

_ENDED = (RevisionState.DUE, RevisionState.GRADING, RevisionState.REPORTED, RevisionState.REJECTED)
_UNSENT = (DeliveryState.DUE, DeliveryState.PARKED, DeliveryState.SENT)


class Why(StrEnum):
    """Why results are taken back, as an operator says it."""

    WRONG_LEVEL = "wrong-level"
    WRONG_GRADE = "wrong-grade"
    WRONG_PATIENT = "wrong-patient"
    POOR_IMAGES = "poor-images"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retracted:
    """What an operator's word did."""

    cancelled: int  # deliveries that will not be sent
    noted: tuple[str, ...]  # destinations that get a rejection note


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What archives may have of a study: results, their last report, and where they were sent."""

    made: tuple[Made, ...]
    report: Json
    destinations: tuple[str, ...]


def retract(
    ledger: Ledger, conn: Connection, study_uid: str, why: Why, *, because: str = "retracted by an operator"
) -> Retracted | None:
    """Take back whatever was made of a study, also while it is held; None where nothing was."""
    table = schema.revision
    conn.execute(select(schema.study.c.uid).where(schema.study.c.uid == study_uid).with_for_update())
    of_study = and_(table.c.study_uid == study_uid, table.c.kind != RevisionKind.RETRACT, table.c.state.in_(_ENDED))
    taken = conn.execute(select(table).where(of_study).order_by(table.c.number)).all()
    if not taken:
        return None
    for one in taken:
        conn.execute(
            update(table)
            .where(table.c.id == one.id)
            .values(state=RevisionState.RETRACTED, finished_at=func.coalesce(table.c.finished_at, ledger.now()))
        )
        record(ledger, conn, "revision_retracted", study_uid=study_uid, revision_id=one.id, reason=why)
    cancelled = _cancel(ledger, conn, study_uid)
    standing = sent(conn, study_uid)
    if standing is not None:
        _open(ledger, conn, taken[-1], why, because)
    return Retracted(cancelled=cancelled, noted=standing.destinations if standing else ())


def _cancel(ledger: Ledger, conn: Connection, study_uid: str) -> int:
    """End what is under way; the lease of one that may have left stays, as the mark of that."""
    table, result = schema.delivery, schema.result
    where = and_(table.c.study_uid == study_uid, table.c.state.in_(_UNSENT), result.c.kind.in_(OF_REVISION))
    keys = conn.execute(select(table.c.id).select_from(table.join(result)).where(where)).scalars().all()
    for key in keys:
        conn.execute(
            update(table).where(table.c.id == key).values(state=DeliveryState.CANCELLED, reason=Reason.RETRACTED)
        )
        record(ledger, conn, "delivery_cancelled", study_uid=study_uid, delivery_id=key, reason=Reason.RETRACTED)
    return len(keys)


def _open(ledger: Ledger, conn: Connection, last: Any, why: Why, because: str) -> None:
    table = schema.revision
    number = select(func.max(table.c.number)).where(table.c.study_uid == last.study_uid)
    key = conn.execute(
        insert(table)
        .values(
            study_uid=last.study_uid,
            number=conn.execute(number).scalar_one() + 1,
            kind=RevisionKind.RETRACT,
            state=RevisionState.DUE,
            not_before=ledger.now(),
            frozen_at=ledger.now(),
            complete_reason=f"{because}: {why}",
            bundle_digest=last.bundle_digest,
            config_digest=last.config_digest,
            code_version=last.code_version,
            retraction=why,
        )
        .returning(table.c.id)
    ).scalar_one()
    record(ledger, conn, "revision_due", study_uid=last.study_uid, revision_id=key,
           revision_kind=RevisionKind.RETRACT, reason=why)  # fmt: skip


def sent(conn: Connection, study_uid: str) -> Standing | None:
    """What archives may have of the study's retracted results; None when nothing ever left."""
    table, result, revision = schema.delivery, schema.result, schema.revision
    left = or_(
        table.c.state.in_((DeliveryState.ACCEPTED, DeliveryState.COMMITTED)),
        and_(
            table.c.state == DeliveryState.CANCELLED,
            table.c.reason == Reason.RETRACTED,
            table.c.lease_until.is_not(None),
        ),
    )
    rows = conn.execute(
        select(result, table.c.destination, revision.c.report)
        .select_from(table.join(result).join(revision, revision.c.id == result.c.revision_id))
        .where(
            table.c.study_uid == study_uid,
            revision.c.state == RevisionState.RETRACTED,
            result.c.kind.in_(READ),
            left,
        )
        .order_by(result.c.id, table.c.id)
    ).all()
    if not rows:
        return None
    made = {row.sop_uid: Made.of(row) for row in rows}
    return Standing(
        made=tuple(made.values()),
        report=rows[-1].report,
        destinations=tuple(dict.fromkeys(row.destination for row in rows)),
    )


def why(conn: Connection, revision_id: int) -> Why:
    """What the operator said."""
    table = schema.revision
    return Why(conn.execute(select(table.c.retraction).where(table.c.id == revision_id)).scalar_one())


def hidden(ledger: Ledger, claim: commitments.Claim) -> bool:
    """The archive lists nothing any more of what the note rejects; the page that warns is not needed."""
    with ledger.write() as conn:
        if not commitments.commit(ledger, conn, claim):
            return False
        _warning(ledger, conn, claim, DeliveryState.CANCELLED)
        record(ledger, conn, "retraction_confirmed", study_uid=claim.study_uid, delivery_id=claim.id)
        return True


def still_visible(ledger: Ledger, claim: commitments.Claim, count: int) -> bool:
    """The archive took the note and lists the results nevertheless: the page that warns goes there."""
    return _warn(ledger, claim, f"{STILL_VISIBLE}: {count} objects")


def not_checkable(ledger: Ledger, claim: commitments.Claim) -> bool:
    """The archive took the note and cannot say what it shows."""
    return _warn(ledger, claim, f"cannot be asked what it shows; if {STILL_VISIBLE}")


def _warn(ledger: Ledger, claim: commitments.Claim, words: str) -> bool:
    with ledger.write() as conn:
        if not commitments.end_unconfirmed(conn, claim, Reason.RETRACTED, words):
            return False
        _warning(ledger, conn, claim, DeliveryState.DUE)
        record(ledger, conn, "retraction_still_visible", study_uid=claim.study_uid, delivery_id=claim.id,
               destination=claim.destination)  # fmt: skip
        return True


def refused(ledger: Ledger, claim: deliveries.Claim, reason: Reason, words: str) -> bool:
    """The archive does not take the note."""
    if not deliveries.refused(ledger, claim, reason, f"{words}; {STILL_VISIBLE}"):
        return False
    with ledger.write() as conn:
        _warning(ledger, conn, claim, DeliveryState.DUE)
        record(ledger, conn, "retraction_still_visible", study_uid=claim.study_uid, delivery_id=claim.id,
               destination=claim.destination)  # fmt: skip
    return True


def _warning(ledger: Ledger, conn: Connection, claim: commitments.Claim | deliveries.Claim, to: DeliveryState) -> None:
    """Move the page that warns of what this note rejects, at this destination."""
    table, result = schema.delivery, schema.result
    note = select(result.c.revision_id).where(result.c.sop_uid == claim.sop_uid)
    page: ColumnElement[bool] = table.c.result_id.in_(
        select(result.c.id).where(result.c.kind == ResultKind.WARNING, result.c.revision_id.in_(note))
    )
    conn.execute(
        update(table)
        .where(page, table.c.destination == claim.destination, table.c.state == DeliveryState.PARKED)
        .values(state=to, not_before=ledger.now())
    )
