"""Two studies that have the same images: a move, a merge, or a copy that kept its UIDs (CLINICAL.md 4).

The later one is held when it arrives (`intake`). Here somebody decides: an operator, or the configured source.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, and_, select

from cauda.core import identity, intake, retractions, schema
from cauda.core.domain import Reason
from cauda.core.ledger import Ledger, record
from cauda.core.retractions import Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What became of a held study that somebody let go."""

    withdrawn: tuple[str, ...] = ()  # studies whose images moved into it: held, their results taken back
    held_for: Reason | None = None  # why it is held nevertheless


def release(
    ledger: Ledger, conn: Connection, study_uid: str, *, double: Literal["move", "copy"] | None = "move"
) -> Released | None:
    """An operator lets a held study go on; None when it is not held.

    ``double`` says what one is that is held since its images are known under another study. A "move": that other study
    is held in its place and its results are taken back. A "copy": both go on; one whose patient's identity was removed
    is always that. None: not said, and nothing is done. A study that there is another reason to hold stays held for it.
    """
    table = schema.study
    was = conn.execute(select(table.c.hold).where(table.c.uid == study_uid).with_for_update()).scalar_one_or_none()
    if was is None or (was == Reason.KNOWN_ELSEWHERE and double is None):
        return None
    intake.release(ledger, conn, study_uid)
    if was in intake.DOUBLES:
        if was == Reason.MOVED or double == "copy" or _is_anonymous(conn, study_uid):
            _accept(ledger, conn, study_uid)
            return Released()
        return Released(withdrawn=move(ledger, conn, study_uid, others(conn, study_uid)))
    if was != Reason.IDENTITY_MIXED and intake.names_several_patients(conn, study_uid):
        words = "images of this study name more than one patient"
        intake.hold(ledger, conn, study_uid, Reason.IDENTITY_MIXED, words)
        return Released(held_for=Reason.IDENTITY_MIXED)
    first = next((uid for uid in others(conn, study_uid, active=True)), None)
    if first is not None and not _accepted(conn, (study_uid, first)):
        intake.hold(ledger, conn, study_uid, Reason.KNOWN_ELSEWHERE, intake.same_images(first))
        return Released(held_for=Reason.KNOWN_ELSEWHERE)
    return Released()


def decided(ledger: Ledger, conn: Connection, study_uid: str, holders: Collection[str]) -> bool:
    """What the configured source says: which studies it has one of the shared images under.

    Only if it has the image under this study and under none of the others, they moved here; True then. Anything else
    leaves it to an operator.
    """
    table = schema.study
    hold = conn.execute(select(table.c.hold).where(table.c.uid == study_uid).with_for_update()).scalar_one_or_none()
    if hold != Reason.KNOWN_ELSEWHERE or set(holders) != {study_uid}:
        return False
    intake.release(ledger, conn, study_uid)
    move(ledger, conn, study_uid, others(conn, study_uid))
    return True


def move(ledger: Ledger, conn: Connection, study_uid: str, left: Collection[str]) -> tuple[str, ...]:
    """The images of the ``left`` studies belong to this one: those are held and their results are taken back."""
    for uid in left:
        intake.release(ledger, conn, uid)  # whatever it was held for: this reason is the one that stays true
        because = f"its images were moved to study {study_uid}"
        intake.hold(ledger, conn, uid, Reason.MOVED, because)
        retractions.retract(ledger, conn, uid, Why.WRONG_PATIENT, because=because)
        record(ledger, conn, "images_moved", study_uid=study_uid, other=uid)
    return tuple(left)


def others(conn: Connection, study_uid: str, *, active: bool = False) -> list[str]:
    """The studies that share images with this one; ``active``: none that is held for that itself."""
    one, other, study = schema.instance.alias(), schema.instance.alias(), schema.study
    query = (
        select(other.c.study_uid)
        .select_from(
            one.join(other, and_(one.c.sop_uid == other.c.sop_uid, one.c.study_uid != other.c.study_uid)).join(
                study, study.c.uid == other.c.study_uid
            )
        )
        .where(one.c.study_uid == study_uid, one.c.current, other.c.current, one.c.role.in_(intake.INPUT_ROLES))
        .distinct()
        .order_by(other.c.study_uid)
    )
    if active:
        query = query.where(study.c.hold.is_(None) | study.c.hold.not_in(intake.DOUBLES))
    return list(conn.execute(query).scalars())


def undecided(conn: Connection) -> list[str]:
    """The studies that are held since their images are known under another, the latest first."""
    table = schema.study
    query = select(table.c.uid).where(table.c.hold == Reason.KNOWN_ELSEWHERE).order_by(table.c.hold_at.desc())
    return list(conn.execute(query.limit(1000)).scalars())


def shared_image(conn: Connection, study_uid: str) -> str | None:
    """The SOP Instance UID of one image that another study has, too; always the same."""
    one, other = schema.instance.alias(), schema.instance.alias()
    return conn.execute(
        select(one.c.sop_uid)
        .select_from(one.join(other, and_(one.c.sop_uid == other.c.sop_uid, one.c.study_uid != other.c.study_uid)))
        .where(one.c.study_uid == study_uid, one.c.current, other.c.current, one.c.role.in_(intake.INPUT_ROLES))
        .order_by(one.c.sop_uid)
        .limit(1)
    ).scalar_one_or_none()


def _accept(ledger: Ledger, conn: Connection, study_uid: str) -> None:
    """Both go on, also when more of the same images arrive."""
    record(ledger, conn, "copy_accepted", study_uid=study_uid)


def _accepted(conn: Connection, study_uids: Collection[str]) -> bool:
    event = schema.event
    query = select(event.c.id).where(event.c.study_uid.in_(study_uids), event.c.kind == "copy_accepted").limit(1)
    return conn.execute(query).first() is not None


def _is_anonymous(conn: Connection, study_uid: str) -> bool:
    table = schema.instance
    found = conn.execute(
        select(table.c.stated).where(table.c.study_uid == study_uid, table.c.current, table.c.stated.is_not(None))
    ).scalars()
    return any(identity.is_anonymous(one, study_uid) for one in found)
