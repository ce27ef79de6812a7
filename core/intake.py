"""What an arriving instance does to its study: new, duplicate, correction, other pixels, moved (CLINICAL.md 1, 3, 4).

Called by the filer, inside its transaction, in the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, and_, bindparam, exists, insert, or_, select, update

from cauda.core import identity, schema
from cauda.core.domain import Reason
from cauda.core.headers import Header, Role
from cauda.core.ledger import Ledger, record
from cauda.core.schema import StudyState

INPUT_ROLES = tuple(role for role in Role if role.is_input)
DOUBLES = frozenset({Reason.KNOWN_ELSEWHERE, Reason.MOVED})  # held since another study has the same images

# What is asked for every image is put together once: building a statement costs more than executing it.
_STUDY_UID: BindParameter[str] = bindparam("study_uid")
_SOP_UID: BindParameter[str] = bindparam("sop_uid")
_IDENTITY: BindParameter[str] = bindparam("identity")
_OF_STUDY = and_(
    schema.instance.c.study_uid == _STUDY_UID, schema.instance.c.current, schema.instance.c.role.in_(INPUT_ROLES)
)
_VERSIONS = (
    select(schema.instance)
    .where(schema.instance.c.study_uid == _STUDY_UID, schema.instance.c.sop_uid == _SOP_UID)
    .order_by(schema.instance.c.version)
)
_SEEN = select(schema.instance.c.sop_uid).where(
    schema.instance.c.sop_uid.in_(bindparam("sop_uids", expanding=True))
)  # fmt: skip
_INSERT = insert(schema.instance)
_STUDY = select(schema.study).where(schema.study.c.uid == _STUDY_UID).with_for_update()
_ELSEWHERE = (
    select(schema.study.c.uid, schema.study.c.hold, schema.study.c.first_at, schema.instance.c.stated)
    .select_from(schema.instance.join(schema.study))
    .where(schema.instance.c.sop_uid == _SOP_UID, schema.instance.c.study_uid != _STUDY_UID, schema.instance.c.current)
    .order_by(schema.study.c.uid)
)
_ACCEPTED = select(schema.event.c.id).where(
    schema.event.c.study_uid.in_(bindparam("study_uids", expanding=True)), schema.event.c.kind == "copy_accepted"
).limit(1)  # fmt: skip
_OTHER_PATIENT = select(
    or_(  # two ranges, since no index answers "other than"
        exists().where(_OF_STUDY, schema.instance.c.identity < _IDENTITY),
        exists().where(_OF_STUDY, schema.instance.c.identity > _IDENTITY),
    )
)
# One row for each identity among a study's images, each found by the index without reading the rest.
_NEXT_IDENTITY = (
    select(schema.instance.c.identity, schema.instance.c.stated)
    .where(_OF_STUDY, schema.instance.c.identity > _IDENTITY)
    .order_by(schema.instance.c.identity)
    .limit(1)
)


class Outdated(Exception):
    """Another version became current since an image was compared: it has to be compared again."""


class Outcome(StrEnum):
    """What became of an arriving instance."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CORRECTION = "correction"  # same picture, other demographics
    VARIANT = "variant"  # same picture, something else in the header differs
    PIXELS_CHANGED = "pixels_changed"
    BROKEN = "broken"  # a version without a whole picture beside one that is current: it changes nothing
    MENDED = "mended"  # the current version had no whole picture, and this one has
    MOVED = "moved"  # the SOP UID is known under another study


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """An instance as it now lies in its study's folder."""

    header: Header
    path: str  # relative to the data folder
    version: int
    sha256: str
    dataset_sha256: str
    bytes: int
    association_id: str | None
    source: str  # calling AE title, or "stow"
    compared: int | None = None  # with which version, the current one then; None when there was none
    same_picture: bool | None = None  # as that
    broken: bool = False  # it has no whole picture
    mends: bool = False  # the current version has none, and this one has


def versions(conn: Connection, study_uid: str, sop_uid: str) -> Sequence[Row[Any]]:
    """Every version kept of one instance, oldest first."""
    return conn.execute(_VERSIONS, {"study_uid": study_uid, "sop_uid": sop_uid}).all()


def opened(ledger: Ledger, conn: Connection, *, association_id: str, listener: str, calling_aet: str, called_aet: str,
           address: str) -> None:  # fmt: skip
    """An association was accepted."""
    conn.execute(
        insert(schema.association).values(
            id=association_id,
            listener=listener,
            calling_aet=calling_aet,
            called_aet=called_aet,
            address=address,
            opened_at=ledger.now(),
        )
    )


def ended(ledger: Ledger, conn: Connection, association_id: str, how: str) -> None:
    """An association ended: ``released``, ``aborted`` or ``lost``. Only a release says that a sender was done."""
    first = conn.execute(
        update(schema.association)
        .where(schema.association.c.id == association_id, schema.association.c.ended_at.is_(None))
        .values(ended_at=ledger.now(), ended_how=how)
    ).rowcount
    if not first or how != "released":
        return
    brought = (
        select(schema.instance.c.study_uid)
        .where(schema.instance.c.association_id == association_id, schema.instance.c.role.in_(INPUT_ROLES))
        .distinct()
    )
    conn.execute(update(schema.study).where(schema.study.c.uid.in_(brought)).values(released_at=ledger.now()))


def lose_dead(ledger: Ledger, conn: Connection, dead_listeners: Iterable[str]) -> None:
    """End the associations of listeners that died without a word."""
    conn.execute(
        update(schema.association)
        .where(schema.association.c.listener.in_(list(dead_listeners)), schema.association.c.ended_at.is_(None))
        .values(ended_at=ledger.now(), ended_how="lost")
    )


def file_instances(ledger: Ledger, conn: Connection, filed: Sequence[Filed]) -> list[Outcome]:
    """Enter filed instances in their order and move their studies; returns what each was. Raises Outdated.

    Those that nobody has seen are entered together, study by study: a burst of images is many of these.
    """
    seen = set(conn.execute(_SEEN, {"sop_uids": [one.header.sop_uid for one in filed]}).scalars()) if filed else set()
    outcomes, new = [], []
    for one in filed:
        if one.header.sop_uid not in seen:
            seen.add(one.header.sop_uid)
            new.append(one)
            outcomes.append(Outcome.NEW)
        else:
            _enter_new(ledger, conn, new)
            new = []
            outcomes.append(_enter_seen(ledger, conn, one))
    _enter_new(ledger, conn, new)
    return outcomes


def file_instance(ledger: Ledger, conn: Connection, filed: Filed) -> Outcome:
    """Enter one filed instance and move its study; returns what it was."""
    (outcome,) = file_instances(ledger, conn, [filed])
    return outcome


def _enter_new(ledger: Ledger, conn: Connection, filed: Sequence[Filed]) -> None:
    """Enter instances whose SOP UIDs differ and are new to the ledger."""
    studies: dict[str, list[Filed]] = {}
    for one in filed:
        studies.setdefault(one.header.study_uid, []).append(one)
    for arrived in studies.values():
        study = _study(ledger, conn, arrived[0])
        at = ledger.time(conn)
        conn.execute(_INSERT, [_row(one, at, current=True) for one in arrived])
        _date(conn, study, arrived)
        usable = [one.header for one in arrived if one.header.role.is_input and not one.header.ours]
        if usable:
            _move_study(ledger, conn, study, Outcome.NEW)
            _check_identity(ledger, conn, study, usable[0].identity)


def _enter_seen(ledger: Ledger, conn: Connection, filed: Filed) -> Outcome:
    """Enter an instance whose SOP UID is known, in this study or another."""
    header = filed.header
    study = _study(ledger, conn, filed)  # first: who has locked it sees all that is entered
    kept = versions(conn, header.study_uid, header.sop_uid)
    if any(row.dataset_sha256 == filed.dataset_sha256 for row in kept):
        return Outcome.DUPLICATE
    current = next((row for row in kept if row.current), None)
    if filed.compared != (current.version if current is not None else None):
        raise Outdated
    outcome = Outcome.NEW
    if current is not None:
        outcome = _difference(filed, current)
    elif header.role.is_input and not header.ours and _known_elsewhere(ledger, conn, study, header):
        outcome = Outcome.MOVED
    # the picture that was graded stays the current one
    stands = outcome not in {Outcome.PIXELS_CHANGED, Outcome.BROKEN}
    if current is not None and stands:
        conn.execute(update(schema.instance).where(schema.instance.c.id == current.id).values(current=False))
    conn.execute(_INSERT, [_row(filed, ledger.time(conn), current=stands)])
    _date(conn, study, [filed])
    if outcome is Outcome.BROKEN:
        record(ledger, conn, "image_broken", study_uid=study.uid, sop_uid=header.sop_uid)
    if outcome is Outcome.MENDED:
        record(ledger, conn, "image_mended", study_uid=study.uid, sop_uid=header.sop_uid)
    if header.role.is_input and not header.ours:
        _move_study(ledger, conn, study, outcome)
        if stands:
            _check_identity(ledger, conn, study, header.identity)
    return outcome


def _row(filed: Filed, at: float, *, current: bool) -> dict[str, Any]:
    header = filed.header
    return {
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "sop_uid": header.sop_uid,
        "sop_class_uid": header.sop_class_uid,
        "version": filed.version,
        "current": current,
        "path": filed.path,
        "sha256": filed.sha256,
        "dataset_sha256": filed.dataset_sha256,
        "bytes": filed.bytes,
        "role": header.role,
        "ours": header.ours,
        "identity": header.identity,
        "demographics": header.demographics,
        "stated": header.stated,
        "association_id": filed.association_id,
        "filed_at": at,
    }


def _study(ledger: Ledger, conn: Connection, filed: Filed) -> Row[Any]:
    table = schema.study
    wanted = {"study_uid": filed.header.study_uid}
    row = conn.execute(_STUDY, wanted).first()
    if row is None:
        conn.execute(
            insert(table).values(
                uid=filed.header.study_uid,
                state=StudyState.RECEIVING,
                source=filed.source[:16],
                first_at=ledger.now(),
                opened_at=ledger.now(),
            )
        )
        record(ledger, conn, "study_opened", study_uid=filed.header.study_uid, source=filed.source)
        row = conn.execute(_STUDY, wanted).one()
    return row


def _date(conn: Connection, study: Row[Any], arrived: Iterable[Filed]) -> None:
    """The latest date of its images is the study's: one image with an old date keeps nothing from being graded."""
    images = [one.header for one in arrived if one.header.role is not Role.INERT and not one.header.ours]
    latest = max((header.study_date or "" for header in images), default="")
    if latest > (study.study_date or ""):
        conn.execute(update(schema.study).where(schema.study.c.uid == study.uid).values(study_date=latest))


def _difference(filed: Filed, current: Row[Any]) -> Outcome:
    if filed.broken:
        return Outcome.BROKEN
    if filed.mends:
        return Outcome.MENDED
    if not filed.same_picture:
        return Outcome.PIXELS_CHANGED
    header = filed.header
    if header.demographics == current.demographics:
        return Outcome.VARIANT
    if header.stated and current.stated and identity.says_no_more(header.stated, current.stated):
        return Outcome.VARIANT  # what an image does not state is not "another"
    return Outcome.CORRECTION


def _known_elsewhere(ledger: Ledger, conn: Connection, study: Row[Any], header: Header) -> bool:
    """Whether another study has this SOP UID; then the one that was opened later is held, and the original goes on.

    It may be a move, a merge, or a copy that kept its UIDs: an operator or the configured source decides (`doubles`).
    A copy that states that its patient's identity was removed, or how, never holds the clinical study, whichever came
    first. Where nothing tells the two apart, a copy that came first holds the original until somebody decides.
    """
    others = conn.execute(_ELSEWHERE, {"study_uid": header.study_uid, "sop_uid": header.sop_uid}).all()
    for other in others:
        if study.hold in DOUBLES or other.hold in DOUBLES:
            continue  # one of the two is held for it
        if conn.execute(_ACCEPTED, {"study_uids": [study.uid, other.uid]}).first() is not None:
            continue
        later, first = study.uid, other.uid
        anonymous = identity.is_anonymous(header.stated, study.uid)
        other_is = identity.is_anonymous(other.stated, other.uid)
        # while it arrives, the image of a study may come after the copy's; one that was complete takes no other's image
        opened_first = study.complete_at is None and study.first_at < other.first_at
        if other_is and not anonymous:
            later, first = first, later
        elif opened_first and anonymous == other_is:
            later, first = other.uid, study.uid
        hold(ledger, conn, later, Reason.KNOWN_ELSEWHERE, same_images(first, is_copy=anonymous != other_is))
    return bool(others)


def same_images(other: str, *, is_copy: bool = False) -> str:
    """Why a study is held that has images of another one; ``is_copy``: its images say that they are one."""
    if is_copy:
        return f"has images of study {other}, and states that its patient's identity was removed: a copy"
    return f"study {other} has the same images; nothing says which of the two is the original"


def _move_study(ledger: Ledger, conn: Connection, study: Row[Any], outcome: Outcome) -> None:
    table = schema.study
    where = table.c.uid == study.uid
    if outcome in {Outcome.NEW, Outcome.MOVED, Outcome.MENDED}:
        if study.state == StudyState.PURGED:
            hold(ledger, conn, study.uid, Reason.IMAGES_PURGED, "images no longer here: resend or retrieve all")
        elif study.state == StudyState.COMPLETE:
            conn.execute(update(table).where(where).values(state=StudyState.RECEIVING, opened_at=ledger.now()))
            record(ledger, conn, "study_reopened", study_uid=study.uid)
        # the hard age of CLINICAL.md 3 counts from the first image that can be graded
        if study.input_at is None:
            conn.execute(update(table).where(where).values(opened_at=ledger.now()))
        conn.execute(update(table).where(where).values(input_at=ledger.now()))
    elif outcome is Outcome.CORRECTION:
        if study.corrected_at is None:
            record(ledger, conn, "demographics_corrected", study_uid=study.uid)
        conn.execute(update(table).where(where).values(corrected_at=ledger.now()))
    elif outcome is Outcome.PIXELS_CHANGED:
        hold(ledger, conn, study.uid, Reason.PIXELS_CHANGED, "an image came again with other pixels")


def _check_identity(ledger: Ledger, conn: Connection, study: Row[Any], one: str) -> None:
    """Hold while the study's images name more than one patient; let go when they do no longer.

    ``one`` is the identity of one of them. All of them decide, so the order in which they arrive does not matter.
    """
    if not conn.execute(_OTHER_PATIENT, {"study_uid": study.uid, "identity": one}).scalar_one():
        mixed = False
    else:
        mixed = names_several_patients(conn, study.uid)
    if mixed:
        hold(ledger, conn, study.uid, Reason.IDENTITY_MIXED, "images of this study name more than one patient")
    elif study.hold == Reason.IDENTITY_MIXED:
        release(ledger, conn, study.uid, only=Reason.IDENTITY_MIXED)


def names_several_patients(conn: Connection, study_uid: str) -> bool:
    """Whether a study's current images state two patient IDs, issuers or birth dates."""
    identities: list[str] = []
    stated: list[str] = []
    last = ""
    while (row := conn.execute(_NEXT_IDENTITY, {"study_uid": study_uid, "identity": last}).first()) is not None:
        last = row.identity
        identities.append(last)
        stated += [row.stated] if row.stated else []
        whole = len(identities) > len(stated) and len(identities) > 1  # an image of before says only "other"
        if whole or identity.conflict(stated):
            return True
    return False


def hold(ledger: Ledger, conn: Connection, study_uid: str, reason: Reason, text: str) -> bool:
    """Stop grading and delivery of a study at once; False when it is held already, whose first reason stays.

    Only a hold that images lift by themselves gives way to one that somebody has to decide.
    """
    table = schema.study
    free = or_(table.c.hold.is_(None), and_(table.c.hold == Reason.IDENTITY_MIXED, table.c.hold != reason))
    changed = conn.execute(
        update(table)
        .where(table.c.uid == study_uid, free)
        .values(hold=reason, hold_text=text[:256], hold_at=ledger.now())
    ).rowcount
    if changed:
        record(ledger, conn, "study_held", study_uid=study_uid, reason=reason, text=text)
    return bool(changed)


def release(ledger: Ledger, conn: Connection, study_uid: str, *, only: Reason | None = None) -> bool:
    """Let a held study go on; with ``only``, just if that was the reason."""
    table = schema.study
    where = and_(table.c.uid == study_uid, table.c.hold.is_not(None))
    if only is not None:
        where = and_(where, table.c.hold == only)
    changed = conn.execute(update(table).where(where).values(hold=None, hold_text=None, hold_at=None)).rowcount
    if changed:
        record(ledger, conn, "study_released", study_uid=study_uid)
    return bool(changed)


def force_complete(ledger: Ledger, conn: Connection, study_uid: str) -> bool:
    """An operator says the study is complete; False when there is no such study receiving."""
    table = schema.study
    changed = conn.execute(
        update(table).where(table.c.uid == study_uid, table.c.state == StudyState.RECEIVING).values(forced=True)
    ).rowcount
    if changed:
        record(ledger, conn, "study_forced", study_uid=study_uid)
    return bool(changed)
