"""What a destination takes: asked before results are made, and remembered for while it is away (CLINICAL.md 27)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cauda.archive.find import question_of
from cauda.archive.protocol import Archive, open_archive
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
    answer = _asked(post, to, sop_classes, study_uid)
    if to.kind == "stow":
        return answer
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


def _asked(
    post: Post, to: Destination, sop_classes: Sequence[str], study_uid: str
) -> Abilities | None:  # fmt: skip
    """What it says now; None while it is away. STOW-RS negotiates nothing; whether it answers shows when asked."""
    timeout_s = post.settings.delivery.network_timeout_s
    try:
        with open_archive(to, post.settings.node.aet, sop_classes, timeout_s=timeout_s) as archive:
            can_find = archive.can_find and (archive.takes is not None or _answers(archive))
            return Abilities(
                can_find=can_find,
                sop_classes=archive.takes or frozenset(),
                series_numbers=numbers.listed(archive, study_uid) if can_find else (),
            )
    except Rejected:
        return Abilities(can_find=False, sop_classes=frozenset())
    except (Misconfigured, Unavailable):
        return None


def _answers(archive: Archive) -> bool:
    return archive.find(question_of("STUDY", StudyInstanceUID="2.25.1")) is not None
