"""When a study is complete: a pure rule over facts and time, with its reason (CLINICAL.md 1, 3, 4; DESIGN.md 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from cauda.core import intake, processes, revisions, schema
from cauda.core.headers import Role
from cauda.core.ledger import Ledger, record
from cauda.core.revisions import Fingerprint
from cauda.core.schema import RevisionKind, StudyState
from cauda.core.settings import Completeness


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one study. Times are the ledger's seconds."""

    receiving: bool
    opened_at: float  # the first image since the last completion
    input_at: float | None  # the last change of the gradable set
    released_at: float | None  # the last release of an association that brought gradable images
    corrected_at: float | None  # demographics changed, not yet reissued
    forced: bool
    reported: bool  # a revision of it has been reported before
    late_revisions: int
    counts: Mapping[Role, int]  # current images by role
    active: bool  # an association that brought something within the quiet time is open, its listener alive


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """It is time: freeze a revision of this kind."""

    reason: str
    kind: RevisionKind = RevisionKind.GRADE


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Not yet."""

    why: str


def decide(facts: Facts, now: float, policy: Completeness) -> Complete | Wait:
    """Whether the study is complete now."""
    if not facts.receiving:
        return _correction(facts, now, policy)
    if facts.forced:
        return Complete(reason=f"an operator said so: {_inventory(facts)}")
    if now - facts.opened_at >= policy.hard_age_s:
        return Complete(reason=f"hard age of {policy.hard_age_s:.0f} s reached: {_inventory(facts)}")
    missing = _missing(facts)
    return Wait(why=missing) if missing else _settled(facts, now, policy)


def _missing(facts: Facts) -> str:
    """What keeps the study open whatever the silence; empty when nothing does."""
    if facts.reported:
        return "late images of a reported study wait out the hard age"
    if facts.active:
        return "an association that brought images is open"
    if not (facts.counts.get(Role.AXIAL) and facts.counts.get(Role.SAGITTAL)):
        return f"sagittal and axial T2 are not both there: {_inventory(facts)}"
    return ""


def _settled(facts: Facts, now: float, policy: Completeness) -> Complete | Wait:
    """Whether the sender has been silent for long enough; a release counts only after the last image."""
    changed = facts.opened_at if facts.input_at is None else facts.input_at
    if facts.released_at is not None and facts.released_at >= changed:
        what, since, enough = "released", now - facts.released_at, policy.after_release_s
    else:
        what, since, enough = "quiet", now - changed, policy.quiet_s
    if since >= enough:
        return Complete(reason=f"{what} for {enough:.0f} s: {_inventory(facts)}")
    return Wait(why=f"{what} for {since:.0f} s of {enough:.0f} s")


def _correction(facts: Facts, now: float, policy: Completeness) -> Complete | Wait:
    """Corrected demographics of a complete study are reissued once they stop coming."""
    if facts.corrected_at is None:
        return Wait(why="complete")
    if facts.active or now - facts.corrected_at < policy.after_release_s:
        return Wait(why="demographics are being corrected")
    kind = RevisionKind.REISSUE if facts.reported else RevisionKind.GRADE
    return Complete(reason="demographics corrected", kind=kind)


def _inventory(facts: Facts) -> str:
    names = {Role.AXIAL: "axial T2-possible", Role.SAGITTAL: "sagittal T2-possible", Role.SAGITTAL_T1: "sagittal T1",
             Role.MR_OTHER: "other MR"}  # fmt: skip
    parts = [f"{facts.counts[role]} {name}" for role, name in names.items() if facts.counts.get(role)]
    return ", ".join(parts) or "no MR image"


def facts_of(ledger: Ledger, conn: Connection, study: Any, quiet_s: float) -> Facts:
    """Gather the facts of one study row."""
    images, association = schema.instance, schema.association
    counts: Counter[Role] = Counter()
    rows = conn.execute(
        select(images.c.role, func.count())
        .where(images.c.study_uid == study.uid, images.c.current, ~images.c.ours)
        .group_by(images.c.role)
    )
    for role, count in rows:
        counts[Role(role)] = count
    dead = processes.dead(ledger, conn, "listener")
    alive = select(schema.process.c.token).where(
        schema.process.c.role == "listener", schema.process.c.token.not_in(dead)
    )
    active = conn.execute(
        select(association.c.id)
        .select_from(images.join(association, images.c.association_id == association.c.id))
        .where(
            images.c.study_uid == study.uid,
            images.c.filed_at > ledger.now() - quiet_s,
            association.c.ended_at.is_(None),
            association.c.listener.in_(alive),
        )
        .limit(1)
    ).first()
    return Facts(
        receiving=study.state == StudyState.RECEIVING,
        opened_at=study.opened_at,
        input_at=study.input_at,
        released_at=study.released_at,
        corrected_at=study.corrected_at,
        forced=study.forced,
        reported=revisions.reported(conn, study.uid),
        late_revisions=study.late_revisions,
        counts=counts,
        active=active is not None,
    )


def tick(ledger: Ledger, policy: Completeness, fingerprint: Fingerprint) -> list[str]:
    """Freeze a revision of each study whose time has come; returns their UIDs."""
    with ledger.read() as conn:
        watched = intake.watched(conn)
    frozen = []
    for uid in watched:
        with ledger.read() as conn:
            if _decision(ledger, conn, uid, policy)[1] is None:
                continue
        with ledger.write() as conn:  # decide again under the lock: something may have arrived, another may be quicker
            study, complete = _decision(ledger, conn, uid, policy, lock=True)
            if complete is None:
                continue
            late = complete.kind is RevisionKind.GRADE and revisions.reported(conn, uid)
            if late and study.late_revisions and not study.forced:
                conn.execute(
                    update(schema.study)
                    .where(schema.study.c.uid == uid)
                    .values(state=StudyState.COMPLETE, corrected_at=None, forced=False)
                )
                record(ledger, conn, "late_images_not_graded", study_uid=uid, reason="requeue to grade them")
                continue
            revisions.freeze(
                ledger, conn, uid, reason=complete.reason, fingerprint=fingerprint, kind=complete.kind
            )  # fmt: skip
            if late:
                conn.execute(
                    update(schema.study)
                    .where(schema.study.c.uid == uid)
                    .values(late_revisions=schema.study.c.late_revisions + 1)
                )
            frozen.append(uid)
    return frozen


def _decision(
    ledger: Ledger, conn: Connection, uid: str, policy: Completeness, *, lock: bool = False
) -> tuple[Any, Complete | None]:
    query = select(schema.study).where(
        schema.study.c.uid == uid,
        or_(
            schema.study.c.state == StudyState.RECEIVING,
            and_(schema.study.c.corrected_at.is_not(None), schema.study.c.hold.is_(None)),
        ),
    )
    study = conn.execute(query.with_for_update() if lock else query).first()
    if study is None:
        return None, None
    decision = decide(facts_of(ledger, conn, study, policy.quiet_s), ledger.time(conn), policy)
    return study, decision if isinstance(decision, Complete) else None
