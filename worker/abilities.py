"""What a destination takes: asked before results are made, and remembered for while it is away (CLINICAL.md 27)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cauda.archive.dimse import open_dimse
from cauda.archive.find import question_of
from cauda.archive.web import open_web
from cauda.core import deliveries
from cauda.core.errors import Misconfigured, Rejected, Unavailable
from cauda.core.settings import Destination
from cauda.worker import numbers
from cauda.worker.post import Post


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What an archive said when it was asked."""

    can_find: bool
    sop_classes: frozenset[str]
    series_numbers: Collection[int] = ()  # that it has in use in the study


def negotiated(post: Post, to: Destination, sop_classes: Sequence[str], study_uid: str) -> Abilities | None:
    """Which of the classes it takes, whether it can be asked whose study it is, and the study's series numbers there.

    None while nobody knows.
    """
    timeout_s = post.settings.delivery.network_timeout_s
    if to.kind == "stow":
        return _web(to, study_uid, timeout_s)
    answer = _dimse(to, to.calling_aet or post.settings.node.aet, sop_classes, study_uid, timeout_s)
    if answer is not None:
        with post.ledger.write() as conn:
            deliveries.takes(post.ledger, conn, to.name, sorted(answer.sop_classes), can_find=answer.can_find)
        return answer
    with post.ledger.read() as conn:
        known = deliveries.taken(conn, to.name)
    return known and Abilities(can_find=known[1], sop_classes=frozenset(known[0]))


def numbers_in_use(post: Post, kept: Sequence[str], archives: Sequence[Abilities | None]) -> Collection[int]:
    """The series numbers of what the archives list and of what is ``kept`` here, as `revisions.numbered` says."""
    return {*numbers.written(post, kept), *(number for one in archives if one for number in one.series_numbers)}


def _dimse(
    to: Destination, calling_aet: str, sop_classes: Sequence[str], study_uid: str, timeout_s: float
) -> Abilities | None:
    try:
        with open_dimse(to, calling_aet, sop_classes, timeout_s=timeout_s) as peer:
            return Abilities(
                can_find=peer.can_find, sop_classes=peer.takes, series_numbers=numbers.listed(peer, study_uid)
            )
    except Rejected:
        return Abilities(can_find=False, sop_classes=frozenset())
    except Unavailable:
        return None


def _web(to: Destination, study_uid: str, timeout_s: float) -> Abilities | None:
    """STOW-RS negotiates nothing; whether questions are answered shows when one is asked."""
    question = question_of("STUDY", StudyInstanceUID="2.25.1")
    try:
        with open_web(to, timeout_s=timeout_s) as archive:
            can_find = archive.find(question) is not None
            listed = numbers.listed(archive, study_uid) if can_find else ()
            return Abilities(can_find=can_find, sop_classes=frozenset(), series_numbers=listed)
    except (Misconfigured, Unavailable):
        return None
