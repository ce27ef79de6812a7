"""An SR that goes to one destination in another of our SOP classes, as a result beside the first (CLINICAL.md 27)."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from cauda.core import schema
from cauda.core.deliveries import Claim, fence
from cauda.core.ledger import Ledger, record
from cauda.core.revisions import Made
from cauda.core.schema import ResultKind


def reports(conn: Connection, revision_id: int) -> list[Made]:
    """A revision's SR in each class that it was made in so far, the first one first."""
    table = schema.result
    query = select(table).where(table.c.revision_id == revision_id, table.c.kind == ResultKind.SR)
    return [Made.of(row) for row in conn.execute(query.order_by(table.c.id))]


def exchange(ledger: Ledger, claim: Claim, made: Made) -> bool:
    """Have the claimed delivery bring ``made``, of the same revision; False when the claim is no longer ours."""
    table = schema.result
    with ledger.write() as conn:
        with suppress(IntegrityError), conn.begin_nested():  # another destination's deliverer made the same
            made.enter(ledger, conn, revision_id=claim.revision_id, study_uid=claim.study_uid)
        key = select(table.c.id).where(table.c.sop_uid == made.sop_uid).scalar_subquery()
        changed = conn.execute(update(schema.delivery).where(fence(claim)).values(result_id=key)).rowcount
        if changed:
            record(ledger, conn, "delivery_exchanged", study_uid=claim.study_uid, delivery_id=claim.id,
                   sop_class_uid=made.sop_class_uid)  # fmt: skip
        return bool(changed)
