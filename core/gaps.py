"""What is known to be missing from a study that was completed: for the page, the report and the SR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Select, delete, exists, func, insert, select, update

from cauda.core import schema
from cauda.core.domain import Json, Reason
from cauda.core.headers import Role
from cauda.core.ledger import Ledger

_REFUSED_BECAUSE = {
    Reason.NO_ROOM: "for lack of disk space",
    Reason.DISK_FAILED: "because the disk failed",
    Reason.LEDGER_DOWN: "because the database was away",
    Reason.BUG: "because of an error of this node",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Images that should be in a study and are not; ``count`` is 0 where nobody knows how many."""

    reason: Reason
    count: int = 0

    @property
    def text(self) -> str:
        """A sentence for the reader, without a full stop."""
        images = f"{self.count} {'image was' if self.count == 1 else 'images were'}"
        if self.reason is Reason.ARRIVALS_LOST:
            known = f" (at least {self.count})" if self.count else ""
            return f"Images{known} may be missing: a receiver stopped and what it received cannot be read"
        if self.reason is Reason.NOT_FILED:
            known = f"{self.count} received images" if self.count else "Received images"
            return f"{known} may be missing: they were not filed in time"
        return f"{images} refused {refused_because(self.reason)} and not sent again"

    def to_json(self) -> Json:
        """As the ledger keeps it."""
        return {"reason": self.reason.value, "count": self.count}


def refused_because(reason: Reason) -> str:
    """Why images were refused, as part of a sentence."""
    return _REFUSED_BECAUSE.get(reason, f"for a passing reason ({reason.text})")


def from_json(kept: Sequence[Json] | None) -> tuple[Gap, ...]:
    """As `Gap.to_json` wrote them."""
    return tuple(Gap(reason=Reason(one["reason"]), count=one["count"]) for one in kept or ())


def refused(ledger: Ledger, conn: Connection, *, sop_uid: str, study_uid: str | None, association_id: str,
            reason: Reason) -> None:  # fmt: skip
    """An MR image was refused for a passing reason: its sender may send it again."""
    table = schema.refused_object
    values = {"study_uid": study_uid, "association_id": association_id, "reason": reason, "at": ledger.now()}
    if not conn.execute(update(table).where(table.c.sop_uid == sop_uid).values(values)).rowcount:
        conn.execute(insert(table).values(values | {"sop_uid": sop_uid}))


def outstanding(conn: Connection, study_uids: Select[tuple[str]]) -> dict[str, tuple[Gap, ...]]:
    """Of these studies, the images that were refused for a passing reason and did not come since.

    Where the refusal came before the study was known, it counts for each that the association brought images of.
    """
    table, image, came = schema.refused_object, schema.instance, schema.instance.alias()
    missing = ~exists().where(came.c.sop_uid == table.c.sop_uid)
    named = (
        select(table.c.study_uid, table.c.reason, func.count())
        .where(table.c.study_uid.in_(study_uids), missing)
        .group_by(table.c.study_uid, table.c.reason)
    )
    unnamed = (
        select(image.c.study_uid, table.c.reason, func.count(table.c.sop_uid.distinct()))
        .join(image, image.c.association_id == table.c.association_id)
        .where(table.c.study_uid.is_(None), missing, image.c.study_uid.in_(study_uids), image.c.role != Role.INERT)
        .group_by(image.c.study_uid, table.c.reason)
    )
    counts: dict[str, dict[Reason, int]] = {}
    for query in (named, unnamed):
        for study_uid, reason, count in conn.execute(query):
            of_study = counts.setdefault(study_uid, {})
            of_study[Reason(reason)] = of_study.get(Reason(reason), 0) + count
    return {
        uid: tuple(Gap(reason=reason, count=count) for reason, count in sorted(of_study.items()))
        for uid, of_study in counts.items()
    }


def still_missing(conn: Connection, study_uid: str, before: Sequence[Gap]) -> tuple[Gap, ...]:
    """What was missing from a study, as far as it did not come since."""
    refused_now = outstanding(conn, select(schema.study.c.uid).where(schema.study.c.uid == study_uid))
    lost = (gap for gap in before if gap.reason in {Reason.ARRIVALS_LOST, Reason.NOT_FILED})
    return (*refused_now.get(study_uid, ()), *lost)


def forget_healed(conn: Connection, study_uid: str) -> None:
    """What came after all was not refused."""
    table, came = schema.refused_object, schema.instance
    conn.execute(delete(table).where(table.c.study_uid == study_uid, exists().where(came.c.sop_uid == table.c.sop_uid)))
