"""Results on disk, durable, before the ledger knows of them."""

from __future__ import annotations

from cauda.core import spool
from cauda.core.claims import Claim
from cauda.core.revisions import Made
from cauda.worker.post import Post
from cauda.worker.results import Result


def put(post: Post, claim: Claim, one: Result) -> Made:
    """Store a result in the outbox."""
    sop_uid = str(one.dataset.SOPInstanceUID)
    path, digest = spool.put_result(post.spool, claim.study_uid, sop_uid, one.encoded())
    return Made(
        kind=one.kind,
        sop_class_uid=str(one.dataset.SOPClassUID),
        sop_uid=sop_uid,
        series_uid=str(one.dataset.SeriesInstanceUID),
        path=post.spool.relative(path),
        sha256=digest,
    )
