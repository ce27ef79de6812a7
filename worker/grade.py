"""The grade task: one claimed revision, to results in the outbox and an end in the ledger.

This is the task border. What the images are is REJECTED, what the world lacks is put back, a bug is FAILED.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from cauda.core import claims, doorbell, log, stack
from cauda.core.claims import Addressee, Claim
from cauda.core.domain import Reason, Report, Status
from cauda.core.errors import CaudaError, Misconfigured, Rejected, Unavailable
from cauda.core.ledger import record
from cauda.core.revisions import Made
from cauda.core.schema import RevisionKind
from cauda.worker.addressees import addressees
from cauda.worker.child import is_out_of_memory
from cauda.worker.heartbeat import kept, written_down
from cauda.worker.post import Post
from cauda.worker.retract import take_back
from cauda.worker.revision import Graded, LostClaim, grade_revision, outcome


def grade_next(post: Post) -> bool:
    """Claim the next revision and bring it to an end; False when there is none."""
    grading = post.settings.grading
    claim = claims.claim(post.ledger, worker=post.token, lease_s=grading.lease_s, max_deaths=grading.max_deaths)
    if claim is None:
        return False
    named = {"study": claim.study_uid, "revision": claim.id, "attempt": claim.attempt}
    renew = partial(claims.renew, post.ledger, claim, lease_s=grading.lease_s)
    with structlog.contextvars.bound_contextvars(**named), kept(renew, grading.lease_s / 3) as lost:
        end = _end_of(post, claim, lost)
        if end is not None and written_down(end, lost):
            post.bell(doorbell.DELIVER)
    post.bell(doorbell.GRADE)  # the next one
    return True


def _end_of(post: Post, claim: Claim, lost: threading.Event) -> Callable[[], bool] | None:
    """Grade, and return what writes its end into the ledger; None when the claim is lost."""
    logger = log.get("grade")
    started = time.monotonic()

    def going_on() -> None:
        if lost.is_set():
            raise LostClaim

    try:
        retract = claim.kind is RevisionKind.RETRACT
        graded = take_back(post, claim) if retract else grade_revision(post, claim, going_on)
    except LostClaim:
        logger.info("claim_lost")
        return None
    except Unavailable as error:
        delay_s = post.backoff.wait_s(claim.attempt)
        logger.warning("revision_put_back", reason=error.reason, text=error.message, delay_s=round(delay_s, 1))
        return partial(claims.put_back, post.ledger, claim, delay_s=delay_s, reason=error.reason, text=error.message)
    except Rejected as error:  # met while the results were made
        logger.info("revision_rejected", reason=error.reason)
        report = Report(study_instance_uid=claim.study_uid, status=Status.REJECTED, reason=error.reason,
                        reason_text=error.message)  # fmt: skip
        return partial(_report, post, claim, outcome(claim, report))
    except Exception as error:  # noqa: BLE001  the task border: a bug ends this revision and nothing else
        if is_out_of_memory(error):
            logger.error("revision_failed", reason=Reason.OUT_OF_MEMORY, stack=stack.of(error))
            most = post.settings.grading.memory_bytes >> 20
            text = f"grading takes more than {most} MiB (grading.memory_bytes)"
            return partial(claims.fail, post.ledger, claim, Reason.OUT_OF_MEMORY, text)
        reason = error.reason if isinstance(error, Misconfigured) else Reason.BUG
        where = stack.of(error)
        logger.error("revision_failed", reason=reason, stack=where)
        return partial(claims.fail, post.ledger, claim, reason, where)
    seconds = round(time.monotonic() - started, 2)
    logger.info("revision_graded", state=graded.state, reason=graded.reason, results=len(graded.made), seconds=seconds)
    return partial(_report, post, claim, graded)


def _report(post: Post, claim: Claim, graded: Graded) -> bool:
    ours = claims.report(
        post.ledger,
        claim,
        state=graded.state,
        reason=graded.reason,
        reason_text=graded.text,
        report_json=graded.report,
        made=graded.made,
        identity_checked=graded.identity_checked,
        note=graded.note and partial(_note, graded.note),
        only_to_replace=graded.only_to_replace,
        addressees=addressees(post.settings.destinations, research=graded.research, phantom=graded.phantom)
        if graded.to is None
        else [Addressee(name=name) for name in graded.to],
    )
    if ours and graded.replaces is not None:
        with post.ledger.write() as conn:
            record(post.ledger, conn, "result_changed", study_uid=claim.study_uid, revision_id=claim.id,
                   replaces=graded.replaces)  # fmt: skip
    return ours


def _note(make: Callable[[Sequence[Made]], Made], replaced: Sequence[Made]) -> Made | None:
    """A note that rejects earlier results, or None: a bug in it keeps no result back."""
    try:
        return make(replaced)
    except CaudaError:
        raise
    except Exception as error:  # noqa: BLE001  the task border: the results are made and go without it
        log.get("grade").error("rejection_not_made", reason=Reason.BUG, stack=stack.of(error))
        return None
