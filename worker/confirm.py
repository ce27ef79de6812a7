"""The second half of a delivery: whether the archive has what it accepted (CLINICAL.md 28, 31; DESIGN.md 7).

This is a task border. A rejection note is confirmed when the archive lists none of what it rejects any more; otherwise
the page that warns is let go.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from functools import partial

import structlog
from pydicom import dcmread

from cauda.archive.commitment import Report, request_commitment
from cauda.archive.find import holds
from cauda.archive.protocol import open_archive
from cauda.core import commitments, log, retractions, stack, uids
from cauda.core.commitments import Claim
from cauda.core.errors import Rejected, Unavailable
from cauda.core.schema import ResultKind
from cauda.core.settings import Destination
from cauda.worker import folder
from cauda.worker.heartbeat import written_down
from cauda.worker.post import Post


def confirm_next(post: Post) -> bool:
    """Ask about the next accepted object; False when there is none."""
    known = {one.name: one for one in post.settings.destinations}
    lease_s = post.settings.delivery.lease_s + 3 * post.settings.delivery.network_timeout_s
    claim = commitments.claim(post.ledger, lease_s=lease_s, known=tuple(known))
    if claim is None:
        return False
    to = known[claim.destination]
    with structlog.contextvars.bound_contextvars(study=claim.study_uid, delivery=claim.id, to=to.name):
        written_down(_end_of(post, claim, to), threading.Event())
    return True


def _end_of(post: Post, claim: Claim, to: Destination) -> Callable[[], bool]:
    """Ask, and return what writes the answer into the ledger."""
    delay_s = post.settings.delivery.confirm_after_s
    try:
        if claim.kind is ResultKind.KO:
            return _hidden(post, claim, to)
        if to.commitment and not claim.asked:
            return _commit(post, claim, to)
        return _read_back(post, claim, to)
    except Unavailable as error:
        log.get("confirm").info("confirmation_waits", reason=error.reason)
        return partial(commitments.later, post.ledger, claim, delay_s=max(delay_s, claim.since_s))
    except Exception as error:  # noqa: BLE001  the task border: nobody can say whether it is there
        log.get("confirm").error("confirmation_failed", stack=stack.of(error))
        return partial(commitments.unanswerable, post.ledger, claim)


def _commit(post: Post, claim: Claim, to: Destination) -> Callable[[], bool]:
    delivery = post.settings.delivery
    transaction_uid = uids.derived("transaction", secrets.token_hex(16))
    if not commitments.asked(post.ledger, claim, transaction_uid, wait_s=delivery.confirm_within_s):
        return lambda: False

    def answered(report: Report) -> bool:
        return commitments.answered(post.ledger, report.transaction_uid, report.committed, report.failed)

    not_asked = partial(commitments.not_asked, post.ledger, claim, transaction_uid)
    try:
        request_commitment(to, to.calling_aet or post.settings.node.aet, claim, transaction_uid, answered,
                           timeout_s=delivery.network_timeout_s, wait_s=delivery.report_wait_s)  # fmt: skip
    except Rejected as error:
        log.get("confirm").warning("no_commitment_there", reason=error.reason)
        return partial(not_asked, delay_s=0, read_back=True)
    except Unavailable as error:
        log.get("confirm").info("commitment_waits", reason=error.reason)
        return partial(not_asked, delay_s=max(delivery.confirm_after_s, claim.since_s), read_back=False)
    return lambda: True


def _read_back(post: Post, claim: Claim, to: Destination) -> Callable[[], bool]:
    delivery = post.settings.delivery
    if to.path is not None:
        there: bool | None = folder.holds(to.path, claim.study_uid, claim.sop_uid)
    else:
        result = dcmread(post.spool.absolute(claim.path), stop_before_pixels=True)
        with open_archive(to, post.settings.node.aet, (), timeout_s=delivery.network_timeout_s) as archive:
            there = holds(archive, str(result.StudyInstanceUID), claim.series_uid, claim.sop_uid)
    if there is None:
        return partial(commitments.unanswerable, post.ledger, claim)
    if there:
        return partial(commitments.found, post.ledger, claim)
    return partial(
        commitments.not_found, post.ledger, claim, delay_s=delivery.confirm_after_s, within_s=delivery.confirm_within_s
    )


def _hidden(post: Post, claim: Claim, to: Destination) -> Callable[[], bool]:
    """Whether what a rejection note points at has gone from sight."""
    note = dcmread(post.spool.absolute(claim.path))
    study_uid = str(note.StudyInstanceUID)
    rejected = [
        (str(series.SeriesInstanceUID), str(one.ReferencedSOPInstanceUID))
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]
    if to.path is not None:
        seen: list[bool | None] = [folder.holds(to.path, study_uid, sop_uid) for _, sop_uid in rejected]
    else:
        timeout_s = post.settings.delivery.network_timeout_s
        with open_archive(to, post.settings.node.aet, (), timeout_s=timeout_s) as archive:
            seen = [holds(archive, study_uid, *one) for one in rejected]
    if not any(one is None or one for one in seen):
        return partial(retractions.hidden, post.ledger, claim)
    if any(seen):
        return partial(retractions.still_visible, post.ledger, claim, sum(map(bool, seen)))
    return partial(retractions.not_checkable, post.ledger, claim)
