"""What the archive lists of a study that is being received: how many images in each MR series, and since when.

Asked for by the listener beside its work (`cauda.listener.archive`), read by the rule that completes studies. Only
the times of the ledger are kept, so that an old answer can be told from a fresh one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cauda.core import schema
from cauda.core.headers import Role
from cauda.core.ledger import Ledger, record
from cauda.core.schema import StudyState

Counts = Mapping[str, int | None]
"""Images in each series by its UID; None where the archive does not say how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """An archive's answer."""

    series: Counts
    since: float  # the first of the answers in a row that say the same
    answered_at: float  # the last of them


def take_due(ledger: Ledger, *, every_s: float, most: int) -> list[str]:
    """Studies whose archive has to be asked now, and that no other listener asks within ``every_s``."""
    study, table = schema.study, schema.listing
    query = (
        select(study.c.uid)
        .select_from(study.outerjoin(table, table.c.study_uid == study.c.uid))
        .where(
            study.c.state == StudyState.RECEIVING,
            study.c.input_at.is_not(None),
            or_(table.c.asked_at.is_(None), table.c.asked_at <= ledger.now() - every_s),
        )
        .order_by(table.c.asked_at.is_not(None), table.c.asked_at, study.c.uid)
        .limit(most)
    )
    with ledger.read() as conn:
        found = conn.execute(query).scalars().all()
    taken = []
    for uid in found:
        with ledger.write() as conn:
            changed = conn.execute(
                update(table)
                .where(table.c.study_uid == uid, table.c.asked_at <= ledger.now() - every_s)
                .values(asked_at=ledger.now())
            ).rowcount
            if changed or _first(ledger, conn, uid):
                taken.append(uid)
    return taken


def _first(ledger: Ledger, conn: Connection, study_uid: str) -> bool:
    try:
        with conn.begin_nested():
            conn.execute(insert(schema.listing).values(study_uid=study_uid, asked_at=ledger.now()))
    except IntegrityError:
        return False  # another listener was quicker
    return True


def answered(ledger: Ledger, study_uid: str, series: Counts) -> None:
    """Keep an answer; one that says the same as the last leaves ``since`` as it is."""
    table = schema.listing
    with ledger.write() as conn:
        before = conn.execute(select(table).where(table.c.study_uid == study_uid).with_for_update()).first()
        if before is None:
            return
        same = before.series == dict(series)
        conn.execute(
            update(table)
            .where(table.c.study_uid == study_uid)
            .values(
                series=dict(series),
                since=before.since if same else ledger.now(),
                answered_at=ledger.now(),
                problem=None,
            )
        )
        if not same:
            record(ledger, conn, "archive_listed", study_uid=study_uid, series=len(series),
                   images=sum(count or 0 for count in series.values()))  # fmt: skip


def unanswered(ledger: Ledger, study_uid: str, problem: str) -> None:
    """Keep why there is no answer; the last one stays, and grows old."""
    table = schema.listing
    with ledger.write() as conn:
        conn.execute(update(table).where(table.c.study_uid == study_uid).values(problem=problem[:128]))


def series_here(conn: Connection, study_uid: str) -> tuple[set[str], set[str]]:
    """The study's MR series that came here, and the series of our own results in it."""
    image, result = schema.instance, schema.result
    came = conn.execute(
        select(image.c.series_uid)
        .where(image.c.study_uid == study_uid, ~image.c.ours, image.c.role != Role.INERT)
        .distinct()
    )
    made = conn.execute(select(result.c.series_uid).where(result.c.study_uid == study_uid).distinct())
    return set(came.scalars()), set(made.scalars())
