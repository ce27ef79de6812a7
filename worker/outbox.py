"""Results on disk, durable, before the ledger knows of them."""

from __future__ import annotations

import hashlib

from cauda.core import spool
from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.core.revisions import Made
from cauda.worker.post import Post
from cauda.worker.results import Result


def put(post: Post, study_uid: str, one: Result) -> Made:
    """Store a result in the outbox."""
    sop_uid = str(one.dataset.SOPInstanceUID)
    path, digest = spool.put_result(post.spool, study_uid, sop_uid, one.encoded())
    return Made(
        kind=one.kind,
        sop_class_uid=str(one.dataset.SOPClassUID),
        sop_uid=sop_uid,
        series_uid=str(one.dataset.SeriesInstanceUID),
        path=post.spool.relative(path),
        sha256=digest,
    )


def get(post: Post, path: str, sha256: str) -> bytes:
    """A result's Part 10 file; Rejected where it is not what was made."""
    content = spool.read(post.spool, path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Rejected(Reason.DISK_FAILED, f"the outbox does not hold what was made: {path}; check the disk")
    return content
