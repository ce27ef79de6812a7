"""When a study is complete: a pure rule over facts and time, with its reason (CLINICAL.md 1, 3, 4; DESIGN.md 4)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, and_, func, or_, select, update

from cauda.core import gaps, processes, revisions, schema
from cauda.core.domain import Reason
from cauda.core.gaps import Gap
from cauda.core.headers import Role
from cauda.core.ledger import Ledger, record
from cauda.core.listings import Counts, Listing
from cauda.core.revisions import Fingerprint
from cauda.core.schema import RevisionKind, StudyState
from cauda.core.settings import Completeness

_LONGEST = 2  # hard ages that a study waits for a listener that lives and does not get on with filing
AT_ONCE = 16  # studies frozen in one transaction: on SQLite filing waits for it

_NAMES = {
    Role.AXIAL: "axial T2-possible",
    Role.SAGITTAL: "sagittal T2-possible",
    Role.SAGITTAL_T1: "sagittal T1",
    Role.MR_OTHER: "other MR",
}


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
    series: Mapping[str, Mapping[Role, int]]  # current MR images, not ours, by Series UID and role
    active: bool  # an association that brought something within the quiet time is open, its listener alive
    listing: Listing | None = None  # what the archive said last, however long ago
    study_date: str | None = None  # YYYYMMDD
    let_through: bool = False  # it has been graded before, or is about to be
    filed_until: float = math.inf  # all that listeners acknowledged before is filed, but for those that are lost
    watched_since: float = -math.inf  # all listeners have been there without a gap since; before is not silence
    behind: str = ""  # who has not filed for long, in words
    lost: tuple[processes.Lost, ...] = ()  # listeners that ended and may have had images of it
    refused: tuple[Gap, ...] = ()  # images that were refused for a passing reason and did not come since

    @property
    def counts(self) -> Counter[Role]:
        """Images by role."""
        return sum((Counter(roles) for roles in self.series.values()), Counter())

    @property
    def kinds(self) -> Counter[Role]:
        """Series by role; one that holds several counts for each."""
        return Counter(role for roles in self.series.values() for role in roles)

    @property
    def changed_at(self) -> float:
        """When the set of gradable images last changed."""
        return self.opened_at if self.input_at is None else self.input_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """It is time: freeze a revision of this kind."""

    reason: str
    kind: RevisionKind = RevisionKind.GRADE
    gaps: tuple[Gap, ...] = ()  # what is known to be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Not yet."""

    why: str


def decide(facts: Facts, now: float, policy: Completeness) -> Complete | Wait:
    """Whether the study is complete now.

    Silence is measured up to where all listeners have filed what they acknowledged: what came since is not known yet.
    """
    if not facts.receiving:
        return _correction(facts, now, policy)
    missed = _gaps(facts, now)
    if facts.forced:
        return Complete(reason=f"an operator said so: {_inventory(facts)}", gaps=missed)
    known = min(now, facts.filed_until)
    if known - facts.opened_at >= policy.hard_age_s or now - facts.opened_at >= _LONGEST * policy.hard_age_s:
        lacking = [*filter(None, [_lacking(facts, now, policy)]), *(gap.text for gap in missed)]
        reason = f"hard age of {policy.hard_age_s:.0f} s reached: {_inventory(facts)}"
        return Complete(reason="; ".join([reason, *lacking]), gaps=missed)
    missing = _missing(facts, policy) or _lacking(facts, now, policy)
    if missing:
        return Wait(why=missing)
    if _agreed(facts, now, policy):
        return Complete(reason=f"archive lists {_listed(facts)} MR series, all here: {_inventory(facts)}")
    return _settled(facts, known, policy)


def _gaps(facts: Facts, now: float) -> tuple[Gap, ...]:
    """What is known to be missing, were the study completed now."""
    missed = list(facts.refused)
    if facts.lost:
        missed.append(Gap(reason=Reason.ARRIVALS_LOST, count=sum(one.unfiled for one in facts.lost)))
    if facts.behind and facts.filed_until < now:
        missed.append(Gap(reason=Reason.NOT_FILED))
    return tuple(missed)


def too_old(facts: Facts, now: float, policy: Completeness) -> str:
    """Why a complete study waits for an operator's word (CLINICAL.md 29); empty when it does not.

    StudyDate has no time zone: the age may be a day off. A study without a date, or from the future, is not old.
    """
    limit = policy.max_study_age_days
    if limit is None or facts.study_date is None or facts.forced or facts.let_through:
        return ""
    age = datetime.fromtimestamp(now, UTC).date() - date.fromisoformat(facts.study_date)
    if age.days <= limit:
        return ""
    return f"{Reason.STUDY_TOO_OLD.text}: {age.days} days old, the limit here is {limit}"


def _missing(facts: Facts, policy: Completeness) -> str:
    """What keeps the study open whatever the silence; empty when nothing does."""
    if facts.reported:
        return "late images of a reported study wait out the hard age"
    if coming := _coming(facts):
        return coming
    if not (facts.counts.get(Role.AXIAL) and facts.counts.get(Role.SAGITTAL)):
        return f"sagittal and axial T2 are not both there: {_inventory(facts)}"
    wanted = {Role.AXIAL: policy.expected.axial, Role.SAGITTAL: policy.expected.sagittal,
              Role.SAGITTAL_T1: policy.expected.sagittal_t1}  # fmt: skip
    for role, count in wanted.items():
        if facts.kinds[role] < count:
            return f"{count} {_NAMES[role]} series are expected, {facts.kinds[role]} here"
    return ""


def _coming(facts: Facts) -> str:
    """Why images may be on their way, or lie somewhere; empty when there is no sign of it."""
    if facts.lost:
        return "a listener ended and what it acknowledged cannot be read; see `cauda doctor`"
    if facts.behind:
        return facts.behind
    if facts.active:
        return "an association that brought images is open"
    return "; ".join(f"{gap.text} yet" for gap in facts.refused)


def _fresh(facts: Facts, now: float, policy: Completeness) -> Counts:
    """The archive's series, unless it said nothing, knows none, or said it too long ago."""
    listing = facts.listing
    return listing.series if listing is not None and now - listing.answered_at <= policy.stale_s else {}


def _lacking(facts: Facts, now: float, policy: Completeness) -> str:
    """What the archive has and we do not; empty when it is silent. A series without a count is here with one image."""
    listed = _fresh(facts, now, policy)
    lacks = {uid: (count or 1) - _here(facts, uid) for uid, count in listed.items()}
    lacks = {uid: lack for uid, lack in lacks.items() if lack > 0}
    if not lacks:
        return ""
    return f"archive lists {len(listed)} MR series, {len(lacks)} not all here: {sum(lacks.values())} images missing"


def _agreed(facts: Facts, now: float, policy: Completeness) -> bool:
    """Whether the archive and we hold the same, and have done so for long enough.

    It may be receiving too: only an answer that was given twice counts, with nothing arriving here in between, and
    only when it lists every series here that can be graded.
    """
    listed, listing = _fresh(facts, now, policy), facts.listing
    if listing is None or not listed:
        return False
    whole = all(count is not None and count == _here(facts, uid) for uid, count in listed.items())
    known = all(uid in listed for uid, roles in facts.series.items() if any(role.is_input for role in roles))
    stood = min(listing.answered_at, facts.filed_until) - max(listing.since, facts.changed_at, facts.watched_since)
    return whole and known and stood >= policy.agree_s


def _here(facts: Facts, series_uid: str) -> int:
    return sum(facts.series.get(series_uid, {}).values())


def _listed(facts: Facts) -> int:
    return len(facts.listing.series) if facts.listing else 0


def _settled(facts: Facts, known: float, policy: Completeness) -> Complete | Wait:
    """Whether the sender has been silent for long enough, up to ``known``; a release counts only after the last image.

    Time in which a listener or the ledger was away is not silence.
    """
    changed = facts.changed_at
    if facts.released_at is not None and facts.released_at >= changed:
        what, began, enough = "released", facts.released_at, policy.after_release_s
    else:
        what, began, enough = "quiet", changed, policy.quiet_s
    since = max(0.0, known - max(began, facts.watched_since))
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
    counts = facts.counts
    parts = [f"{counts[role]} {name}" for role, name in _NAMES.items() if counts[role]]
    return ", ".join(parts) or "no MR image"


_STUDY = schema.study.c
_RECEIVING: ColumnElement[bool] = _STUDY.state == StudyState.RECEIVING
_CORRECTED = and_(_STUDY.state == StudyState.COMPLETE, _STUDY.corrected_at.is_not(None), _STUDY.hold.is_(None))
_TO_DECIDE = or_(_RECEIVING, _CORRECTED)


def facts_of(
    ledger: Ledger, conn: Connection, which: ColumnElement[bool], policy: Completeness, own: processes.Own | None
) -> tuple[dict[str, Facts], float]:
    """The facts of the studies for which ``which`` holds, by Study UID, and the time: in few statements for any number.

    ``own``: the listener that asks.
    """
    study, images, listing = schema.study, schema.instance, schema.listing
    now = ledger.time(conn)
    filing = processes.filing(conn, now, own)  # first: what is filed later than that is not counted on
    series: dict[str, dict[str, dict[Role, int]]] = {}
    counted = conn.execute(
        select(images.c.study_uid, images.c.series_uid, images.c.role, func.count())
        .where(images.c.study_uid.in_(select(_STUDY.uid).where(which)))
        .where(images.c.current, ~images.c.ours, images.c.role != Role.INERT)
        .group_by(images.c.study_uid, images.c.series_uid, images.c.role)
    )
    for study_uid, series_uid, role, count in counted:
        series.setdefault(study_uid, {}).setdefault(series_uid, {})[Role(role)] = count
    rows = conn.execute(
        select(
            study,
            _active(now, filing.dead, policy.quiet_s).label("active"),
            revisions.reported(_STUDY.uid).label("reported"),
            revisions.let_through(_STUDY.uid).label("let_through"),
            listing.c.series.label("listed"),
            listing.c.since,
            listing.c.answered_at,
        )
        .select_from(study.outerjoin(listing, listing.c.study_uid == _STUDY.uid))
        .where(which)
    )
    facts = {row.uid: _facts(row, series.get(row.uid, {}), filing, policy) for row in rows}
    for uid, refused in gaps.outstanding(conn, select(_STUDY.uid).where(which)).items():
        facts[uid] = replace(facts[uid], refused=refused)
    return facts, now


def _facts(
    row: Any, series: Mapping[str, Mapping[Role, int]], filing: processes.Filing, policy: Completeness
) -> Facts:  # fmt: skip
    answered = row.answered_at is not None
    filed_until, behind = filing.of(row.uid)
    return Facts(
        receiving=row.state == StudyState.RECEIVING,
        opened_at=row.opened_at,
        input_at=row.input_at,
        released_at=row.released_at,
        corrected_at=row.corrected_at,
        forced=row.forced,
        reported=row.reported is not None,
        late_revisions=row.late_revisions,
        series=series,
        active=row.active is not None,
        listing=Listing(series=row.listed, since=row.since, answered_at=row.answered_at) if answered else None,
        study_date=row.study_date,
        let_through=row.let_through is not None,
        filed_until=filed_until,
        watched_since=filing.since,
        behind=behind,
        # a study that began so much later has no image among what that listener had
        lost=tuple(one for one in filing.lost if row.opened_at < one.seen_at + policy.hard_age_s),
    )


def _active(now: float, dead: Sequence[str], quiet_s: float) -> ScalarSelect[Any]:
    """Of each study: an open association of a living listener that brought something within the quiet time."""
    images, association, process = schema.instance, schema.association, schema.process
    alive = select(process.c.token).where(process.c.role == "listener", process.c.token.not_in(dead))
    return (
        select(association.c.id)
        .join(images, images.c.association_id == association.c.id)
        .where(association.c.ended_at.is_(None), association.c.listener.in_(alive))
        .where(images.c.study_uid == _STUDY.uid, images.c.filed_at > now - quiet_s)
        .limit(1)
        .scalar_subquery()
    )


def tick(
    ledger: Ledger, policy: Completeness, fingerprint: Fingerprint, own: processes.Own | None = None
) -> list[str]:  # fmt: skip
    """Freeze a revision of each study whose time has come; returns the UIDs of those to be graded.

    One that is too old to be graded by itself is frozen too, and set aside.
    """
    with ledger.read() as conn:
        due = sorted(_due(ledger, conn, _TO_DECIDE, policy, own))
    frozen = []
    for start in range(0, len(due), AT_ONCE):
        with ledger.write() as conn:
            # decide again under the lock: something may have arrived; who holds a study is changing or freezing it
            wanted = select(_STUDY.uid).where(_TO_DECIDE, _STUDY.uid.in_(due[start : start + AT_ONCE]))
            locked = conn.execute(wanted.with_for_update(skip_locked=True)).scalars().all()
            for uid, decision in _due(ledger, conn, _STUDY.uid.in_(locked), policy, own).items():
                if _freeze(ledger, conn, uid, decision, fingerprint):
                    frozen.append(uid)
    return frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    facts: Facts
    complete: Complete
    too_old: str
    known_at: float  # up to when it is known what was acknowledged


def _due(
    ledger: Ledger, conn: Connection, which: ColumnElement[bool], policy: Completeness, own: processes.Own | None
) -> dict[str, _Due]:  # fmt: skip
    """Of the studies for which ``which`` holds, those that are complete now."""
    known, now = facts_of(ledger, conn, which, policy, own)
    due = {}
    for uid, facts in known.items():
        decision = decide(facts, now, policy)
        if isinstance(decision, Complete):
            due[uid] = _Due(facts=facts, complete=decision, too_old=too_old(facts, now, policy),
                            known_at=min(now, facts.filed_until))  # fmt: skip
    return due


def _freeze(ledger: Ledger, conn: Connection, uid: str, due: _Due, fingerprint: Fingerprint) -> bool:
    """Freeze a locked study; False when there is nothing to be graded."""
    late = due.complete.kind is RevisionKind.GRADE and due.facts.reported
    if late and due.facts.late_revisions and not due.facts.forced:
        closed = conn.execute(
            update(schema.study)
            .where(_STUDY.uid == uid, _RECEIVING)
            .values(state=StudyState.COMPLETE, corrected_at=None, forced=False)
        ).rowcount
        if closed:
            record(ledger, conn, "late_images_not_graded", study_uid=uid, reason="requeue to grade them")
        return False
    gaps.forget_healed(conn, uid)
    key = revisions.freeze(
        ledger, conn, uid, reason=due.complete.reason, fingerprint=fingerprint, kind=due.complete.kind,
        missing=due.complete.gaps, known_at=due.known_at,
    )  # fmt: skip
    if key is not None and due.too_old:
        revisions.set_aside(ledger, conn, key, Reason.STUDY_TOO_OLD, due.too_old)
        return False
    if late:
        conn.execute(update(schema.study).where(_STUDY.uid == uid).values(late_revisions=_STUDY.late_revisions + 1))
    return True


def waits_for(ledger: Ledger, conn: Connection, uids: Sequence[str], policy: Completeness) -> dict[str, str]:
    """Of these studies those that are being received, and why each is not complete yet."""
    known, now = facts_of(ledger, conn, and_(_RECEIVING, _STUDY.uid.in_(uids)), policy, None)
    decisions = {uid: decide(facts, now, policy) for uid, facts in known.items()}
    return {uid: one.why if isinstance(one, Wait) else "nothing: it completes within a second"
            for uid, one in decisions.items()}  # fmt: skip
