"""The SR in a class that an archive takes: negotiated where it is delivered, archive by archive (CLINICAL.md 27)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID

from cauda.core import exchange, uids
from cauda.core.deliveries import Claim
from cauda.core.schema import ResultKind
from cauda.pipeline.results.structured_report import SR_CLASSES
from cauda.worker import outbox
from cauda.worker.post import Post
from cauda.worker.results import Result


def proposed(claim: Claim) -> tuple[str, ...]:
    """The classes of which an archive says what it takes before the claim's object goes there, best first."""
    return SR_CLASSES if claim.kind is ResultKind.SR else (claim.sop_class_uid,)


def as_taken(post: Post, claim: Claim, taken: Collection[str]) -> Claim:
    """The claim; where the archive takes its SR only in another class, of the SR in the best one that it takes.

    From then on the delivery is of that one: it goes again after a crash, and is what later notes reject.
    """
    if claim.sop_class_uid in taken:
        return claim
    sop_class = next((one for one in proposed(claim) if one in taken), None)
    if sop_class is None:
        return claim
    with post.ledger.read() as conn:
        made = exchange.reports(conn, claim.revision_id)
    other = next((one for one in made if one.sop_class_uid == sop_class), None)
    if other is None:
        first = dcmread(BytesIO(outbox.get(post, made[0].path, made[0].sha256)))
        other = outbox.put(post, claim.study_uid, Result(kind=ResultKind.SR, dataset=in_class(first, sop_class)))
    exchange.exchange(post.ledger, claim, other)  # who has lost the claim is stopped before anything leaves
    return replace(
        claim, sop_class_uid=other.sop_class_uid, sop_uid=other.sop_uid, path=other.path, sha256=other.sha256
    )


def in_class(sr: Dataset, sop_class: str) -> Dataset:
    """The document, which says the same in each of our classes, with UIDs of its own; the data set is changed.

    What is not a UID stays the bytes it was, and the same document gives the same UIDs.
    """
    first = str(sr.SOPInstanceUID)
    sr.SOPClassUID = UID(sop_class)
    sr.SOPInstanceUID = UID(uids.derived("instance", first, sop_class))
    sr.SeriesInstanceUID = UID(uids.derived("series", first, sop_class))
    return sr
