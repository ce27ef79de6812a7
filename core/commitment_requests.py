"""Commitments that others ask of us (PS3.4 J): asked -> decided -> told, from the ledger whatever restarts meanwhile.

What we ask of archives for our own results is in `commitments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.ledger import Ledger, record
from cauda.core.schema import CommitmentState

MOST_WAITING = 1000
_KEPT_S = 30 * 86_400.0
_OPEN = (CommitmentState.ASKED, CommitmentState.DECIDED)

Instance = tuple[str, str]  # SOP Class UID, SOP Instance UID


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One of them, ours to work on until its lease runs out."""

    id: int
    transaction_uid: str
    asker: str
    instances: tuple[Instance, ...]
    failed: Mapping[str, int] | None  # SOP Instance UID to failure reason; None until it is decided
    age_s: float
    attempts: int
    listener: str


def ask(
    ledger: Ledger, *, asker: str, transaction_uid: str, instances: Sequence[Instance], listener: str, lease_s: float,
    after_s: float,
) -> int:  # fmt: skip
    """Enter a request, to be worked on after ``after_s``, for the time of the lease by this listener alone.

    The same once more begins again. Rejected when this transaction was about other instances; Unavailable when too
    many wait.
    """
    table = schema.commitment_request
    fresh: dict[str, Any] = {
        "state": CommitmentState.ASKED,
        "failed": None,
        "listener": listener,
        "attempts": 0,
        "lease_until": ledger.now() + lease_s,
        "not_before": ledger.now() + after_s,
        "asked_at": ledger.now(),
        "answered_at": None,
        "problem": None,
    }
    wanted = [list(one) for one in instances]
    same = and_(table.c.asker == asker, table.c.transaction_uid == transaction_uid)
    with ledger.write() as conn:
        conn.execute(delete(table).where(table.c.state.not_in(_OPEN), table.c.asked_at < ledger.now() - _KEPT_S))
        before = conn.execute(select(table.c.id, table.c.instances).where(same).with_for_update()).first()
        if before is not None:
            if before.instances != wanted:
                raise Rejected(Reason.UID_INVALID, "this Transaction UID was used for other instances")
            conn.execute(update(table).where(table.c.id == before.id).values(**fresh))
            return int(before.id)
        waiting = conn.execute(select(func.count()).where(table.c.state.in_(_OPEN))).scalar_one()
        if waiting >= MOST_WAITING:
            raise Unavailable(Reason.NO_ROOM, f"{waiting} commitment requests wait already")
        try:
            with conn.begin_nested():
                key = conn.execute(
                    insert(table)
                    .values(asker=asker, transaction_uid=transaction_uid, instances=wanted, **fresh)
                    .returning(table.c.id)
                ).scalar_one()
        except IntegrityError as error:  # another listener was asked the same at the same time
            raise Unavailable(Reason.NO_ROOM, "this transaction is being entered") from error
        record(
            ledger, conn, "commitment_requested", asker=asker, transaction_uid=transaction_uid, instances=len(wanted)
        )
        return int(key)


def take(ledger: Ledger, *, listener: str, lease_s: float) -> Request | None:
    """The next one whose time has come: our own, or one whose listener has been silent for its lease."""
    table = schema.commitment_request
    free = or_(table.c.listener == listener, table.c.lease_until < ledger.now())
    query = (
        select(table, (ledger.now() - table.c.asked_at).label("age_s"))
        .where(table.c.state.in_(_OPEN), table.c.not_before <= ledger.now(), free)
        .order_by(table.c.not_before, table.c.id)
        .limit(1)
    )
    with ledger.read() as conn:  # most of the time there is none
        if conn.execute(query).first() is None:
            return None
    with ledger.write() as conn:
        row = conn.execute(query.with_for_update(skip_locked=True)).first()
        if row is None:
            return None
        conn.execute(
            update(table)
            .where(table.c.id == row.id)
            .values(listener=listener, lease_until=ledger.now() + lease_s, attempts=row.attempts + 1)
        )
        return Request(
            id=row.id,
            transaction_uid=row.transaction_uid,
            asker=row.asker,
            instances=tuple((str(sop_class), str(sop)) for sop_class, sop in row.instances),
            failed=row.failed,
            age_s=row.age_s,
            attempts=row.attempts + 1,
            listener=listener,
        )


def decided(ledger: Ledger, request: Request, failed: Mapping[str, int]) -> bool:
    """What of it is committed, and what is not and why; stays so, however often the asker has to be told."""
    return _move(ledger, request, "commitment_decided", CommitmentState.DECIDED, failed=dict(failed))


def told(ledger: Ledger, request: Request) -> bool:
    """The asker has taken our report."""
    return _move(ledger, request, "commitment_told", CommitmentState.TOLD, answered_at=ledger.now(), problem=None)


def given_up(ledger: Ledger, request: Request, problem: str) -> bool:
    """The asker could not be told for too long."""
    return _move(ledger, request, "commitment_given_up", CommitmentState.GIVEN_UP, problem=problem[:128])


def later(ledger: Ledger, request: Request, *, delay_s: float, problem: str) -> bool:
    """Not now: again after the delay, by this listener if it is still there."""
    table = schema.commitment_request
    with ledger.write() as conn:
        return bool(
            conn.execute(
                update(table)
                .where(table.c.id == request.id, table.c.listener == request.listener, table.c.state.in_(_OPEN))
                .values(
                    not_before=ledger.now() + delay_s, lease_until=ledger.now() + 2 * delay_s, problem=problem[:128]
                )
            ).rowcount
        )


def _move(ledger: Ledger, request: Request, kind: str, state: CommitmentState, **values: Any) -> bool:
    table = schema.commitment_request
    with ledger.write() as conn:
        changed = conn.execute(
            update(table)
            .where(table.c.id == request.id, table.c.listener == request.listener, table.c.state.in_(_OPEN))
            .values(state=state, **values)
        ).rowcount
        if changed:
            record(ledger, conn, kind, asker=request.asker, transaction_uid=request.transaction_uid)
        return bool(changed)


def places(ledger: Ledger, sop_uids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Study and series of those instances that came here, as a question to an archive needs them."""
    table = schema.instance
    found: dict[str, tuple[str, str]] = {}
    wanted = list(sop_uids)
    with ledger.read() as conn:
        for start in range(0, len(wanted), 500):
            rows = conn.execute(
                select(table.c.sop_uid, table.c.study_uid, table.c.series_uid).where(
                    table.c.sop_uid.in_(wanted[start : start + 500]), table.c.current
                )
            )
            found |= {row.sop_uid: (row.study_uid, row.series_uid) for row in rows}
    return found
