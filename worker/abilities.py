"""What a destination takes: asked before results are made, and remembered for while it is away (CLINICAL.md 27)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from cauda.core import deliveries
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.settings import Destination
from cauda.worker.dimse import Abilities, abilities
from cauda.worker.post import Post
from cauda.worker.stow import open_web


def negotiated(post: Post, to: Destination, sop_classes: Sequence[str]) -> Abilities | None:
    """Which of the classes it takes, and whether it can be asked whose study it is; None while nobody knows."""
    timeout_s = post.settings.delivery.network_timeout_s
    if to.kind == "stow":
        return _web(to, timeout_s)
    answer = abilities(to, to.calling_aet or post.settings.node.aet, sop_classes, timeout_s=timeout_s)
    if answer is not None:
        with post.ledger.write() as conn:
            deliveries.takes(post.ledger, conn, to.name, sorted(answer.sop_classes), can_find=answer.can_find)
        return answer
    with post.ledger.read() as conn:
        known = deliveries.taken(conn, to.name)
    return known and Abilities(can_find=known[1], sop_classes=frozenset(known[0]))


def _web(to: Destination, timeout_s: float) -> Abilities | None:
    """STOW-RS negotiates nothing; whether questions are answered shows when one is asked."""
    question = Dataset()
    question.QueryRetrieveLevel, question.StudyInstanceUID = "STUDY", "2.25.1"
    try:
        with open_web(to, timeout_s=timeout_s) as archive:
            return Abilities(can_find=archive.find(question) is not None, sop_classes=frozenset())
    except (Misconfigured, Unavailable):
        return None
