"""The deliver task: one claimed delivery, sent and its answer written down.

This is the task border. `sent` stands in the ledger before the first byte leaves; after a crash the same bytes go
again under the same UID, and the archive has one object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO

import structlog
from pydicom import dcmread
from sqlalchemy import Connection, select

from cauda.archive.protocol import open_archive
from cauda.core import (
    deliveries,
    doorbell,
    intake,
    ledger,
    log,
    retractions,
    revisions,
    schema,
    stack,
    supersession,
)
from cauda.core.deliveries import Claim
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.schema import READ, WITHDRAWING, ResultKind, RevisionKind
from cauda.core.settings import Destination
from cauda.pipeline.report_json import from_json
from cauda.worker import folder, identity, outbox
from cauda.worker.accession_numbers import accession_numbers
from cauda.worker.addressees import addressees, is_phantom
from cauda.worker.confirm import confirm_next
from cauda.worker.exchange import as_taken, proposed
from cauda.worker.heartbeat import kept, written_down
from cauda.worker.identity import Check, Verdict
from cauda.worker.post import Post
from cauda.worker.results import is_research

# What opens the destination's breaker; anything else that passes concerns this object alone.
_AWAY = {Reason.DESTINATION_DOWN, Reason.DESTINATION_REFUSED, Reason.DESTINATION_BUSY}
_MOST_NAMED = 5  # times in a row that results are made again as archives name the patient; corrections are fewer
_SPOKEN_TO = {Reason.STUDY_ABSENT, Reason.IDENTITY_MISMATCH, Reason.IDENTITY_UNKNOWN}


class _Stopped(Exception):
    """Nothing may leave: a hold, a claim that is somebody else's, the settings. ``end`` writes it down."""

    def __init__(self, end: Callable[[], bool]) -> None:
        super().__init__()
        self.end = end


def deliver_next(post: Post) -> bool:
    """Claim the next delivery and try it once, or ask about one that was accepted; False when there is neither."""
    known = {one.name: one for one in post.settings.destinations}
    lease_s = post.settings.delivery.lease_s
    claim = deliveries.claim(post.ledger, worker=post.token, lease_s=lease_s, known=tuple(known),
                             within_s=post.settings.delivery.deliver_within_s)  # fmt: skip
    if claim is None:
        return confirm_next(post)
    named = {"study": claim.study_uid, "delivery": claim.id, "attempt": claim.attempt, "to": claim.destination}
    renew = partial(deliveries.renew, post.ledger, claim, lease_s=lease_s)
    with structlog.contextvars.bound_contextvars(**named), kept(renew, lease_s / 3) as lost:
        written_down(_end_of(post, claim, known[claim.destination]), lost)
    post.bell(doorbell.DELIVER)  # the next of this study, or of those that waited for the destination
    return True


def _end_of(post: Post, claim: Claim, to: Destination) -> Callable[[], bool]:
    """Try, and return what writes the answer into the ledger."""
    logger = log.get("deliver")
    try:
        words = _send(post, claim, to)
    except _Stopped as stop:
        logger.info("delivery_stopped")
        return stop.end
    except Unavailable as error:
        logger.warning("delivery_waits", reason=error.reason)  # the archive's words may name a patient
        if error.reason in _AWAY:
            return partial(deliveries.away, post.ledger, claim, error.reason, error.message, post.backoff)
        answered = error.reason in _SPOKEN_TO
        return partial(
            deliveries.wait, post.ledger, claim, error.reason, error.message, post.backoff, answered=answered
        )
    except Rejected as error:
        logger.error("delivery_refused", reason=error.reason)
        end = retractions.refused if claim.kind is ResultKind.KO else deliveries.refused
        return partial(end, post.ledger, claim, error.reason, error.message)
    except Exception as error:  # noqa: BLE001  the task border: a bug ends this delivery, and an operator retries it
        where = stack.of(error)
        logger.error("delivery_failed", reason=Reason.BUG, stack=where)
        return partial(deliveries.refused, post.ledger, claim, Reason.BUG, where[-512:])
    logger.info("delivery_accepted", kind=claim.kind)
    confirm_in_s = 0.0 if to.commitment else post.settings.delivery.confirm_after_s
    return partial(deliveries.accepted, post.ledger, claim, words=words, confirm_in_s=confirm_in_s)


def _send(post: Post, claim: Claim, to: Destination) -> str:
    """Returns the destination's words beside a plain success."""
    content = outbox.get(post, claim.path, claim.sha256)
    _ask_settings(post, claim, to, content)
    result = dcmread(BytesIO(content))
    if to.path is not None:
        _hold_on(post, claim)
        return folder.store(to.path, str(result.StudyInstanceUID), claim.sop_uid, content)
    timeout_s = post.settings.delivery.network_timeout_s
    with open_archive(to, post.settings.node.aet, proposed(claim), timeout_s=timeout_s) as archive:
        with post.ledger.read() as conn:
            images = [one.sop_uid for one in revisions.inputs(conn, claim.revision_id)]
            ours = revisions.result_series(conn, claim.study_uid)
        numbers = partial(accession_numbers, post, claim.study_uid, claim.revision_id)
        _judge(post, claim, to, identity.check(archive, result, identity.sample(images), ours, numbers))
        chosen = claim if archive.takes is None else as_taken(post, claim, archive.takes)
        if chosen is not claim:
            content = outbox.get(post, chosen.path, chosen.sha256)
            result = dcmread(BytesIO(content))
        _hold_on(post, claim)
        return archive.store(result, content)


def _ask_settings(post: Post, claim: Claim, to: Destination, content: bytes) -> None:
    """They may have been others when the results were made; what takes results back follows what was sent."""
    if claim.kind not in READ:
        return
    table = schema.revision
    with post.ledger.read() as conn:
        report = from_json(conn.execute(select(table.c.report).where(table.c.id == claim.revision_id)).scalar_one())
    patient = dcmread(BytesIO(content), specific_tags=["PatientName", "PatientID"])  # what is sent stays undecoded
    (now,) = addressees([to], research=is_research(report), phantom=is_phantom(patient))
    if now.parked is not None:
        raise _Stopped(partial(deliveries.park, post.ledger, claim, now.parked))


def _hold_on(post: Post, claim: Claim) -> None:
    """The last look before something leaves the house."""
    if not deliveries.renew(post.ledger, claim, lease_s=post.settings.delivery.lease_s):
        raise _Stopped(partial(_stand_back, post, claim))


def _stand_back(post: Post, claim: Claim) -> bool:
    """Nothing was sent: a held study's object is due again when the study is let go; a lost claim changes nothing."""
    with post.ledger.read() as conn:
        hold = conn.execute(select(schema.study.c.hold).where(schema.study.c.uid == claim.study_uid)).scalar_one()
    reason = Reason(hold) if hold else Reason.OPERATOR
    return deliveries.wait(post.ledger, claim, reason, "study held", post.backoff, answered=False)


def _judge(post: Post, claim: Claim, to: Destination, check: Check) -> None:
    """Whether the object may go to the study that the archive has; raises where it may not."""
    match check.verdict:
        case Verdict.SAME:
            return
        case Verdict.UNKNOWN:
            _unchecked(post, claim, to)
        case Verdict.ABSENT if check.foreign:
            raise Unavailable(
                Reason.STUDY_ABSENT,
                "the archive answers about other studies or images, or leaves out the UIDs asked: it ignores keys",
            )
        case Verdict.ABSENT | Verdict.OTHER if claim.kind in WITHDRAWING:  # what was sent is not there any more
            raise Rejected(Reason.IDENTITY_MISMATCH, "the archive has no such study of this patient")
        case Verdict.ABSENT:
            raise Unavailable(Reason.STUDY_ABSENT, "the archive does not have the study yet")
        case Verdict.OTHER:
            words = f"the archive has this study with another {', '.join(check.differing)}"
            if check.ambiguous:
                words = f"the archive has several studies or patients for it: {', '.join(check.differing)} differs"
            with post.ledger.write() as conn:
                # since it was claimed: the later ones are asked about. No later note names what a note names.
                if claim.kind in READ and supersession.is_outdated(conn, claim.sop_uid):
                    raise _Stopped(partial(deliveries.supersede, post.ledger, claim))
                if not revisions.coming(conn, claim.study_uid):
                    _settle(post, conn, claim, to, check, words)
            raise Unavailable(Reason.IDENTITY_MISMATCH, words)


def _unchecked(post: Post, claim: Claim, to: Destination) -> None:
    """An archive that cannot be asked gets results that say so; those that do not are made again."""
    with post.ledger.write() as conn:
        unsaid = bool(_checked(conn, claim)) and claim.kind in READ  # a note says nothing of it
        if unsaid and not revisions.coming(conn, claim.study_uid):
            reason = "the archive cannot be asked whose study it is"
            revisions.freeze(post.ledger, conn, claim.study_uid, reason=reason, fingerprint=post.fingerprint,
                             kind=RevisionKind.REISSUE, identity_checked=False)  # fmt: skip
        if not unsaid:
            ledger.record(post.ledger, conn, "identity_not_checked", study_uid=claim.study_uid,
                          delivery_id=claim.id, destination=to.name)  # fmt: skip
    if unsaid:
        raise Unavailable(Reason.IDENTITY_UNKNOWN, "the archive does not answer whose study it is")


def _settle(post: Post, conn: Connection, claim: Claim, to: Destination, check: Check, words: str) -> None:
    """Have the results made again with the archive's values, or hold the study where a person has to decide.

    That is so where the site wants it, where the archive has the study more than once, where results were made with
    just these values before (made so again, they would be another archive's other patient, and so on for ever), and
    where archives say something else each time.
    """
    named = revisions.named(conn, claim.study_uid) if check.archive else {}
    made = [
        key
        for key, identity in named.items()
        if all(identity.get(keyword) == check.archive[keyword] for keyword in check.differing)
    ]
    settled = len(named) < _MOST_NAMED
    if to.demographics == "archive" and check.archive and not made and settled:
        reason = "the archive names the study otherwise"
        unchecked = False if _checked(conn, claim) is False else None  # another archive cannot be asked, still
        frozen = revisions.freeze(post.ledger, conn, claim.study_uid, reason=reason, fingerprint=post.fingerprint,
                                  kind=RevisionKind.REISSUE, identity=check.archive,
                                  identity_checked=unchecked)  # fmt: skip
        if frozen is not None:
            return
    if any(key > claim.revision_id for key in made):
        return  # those are to go instead, once somebody has them made
    if any(key < claim.revision_id for key in made):
        words += ", and earlier results had just that: the archives disagree, or this one changed back; correct them"
    if not settled:
        words += f", after {len(named)} other answers that results were made with; look into the archive"
    intake.hold(post.ledger, conn, claim.study_uid, Reason.IDENTITY_MISMATCH, words)


def _checked(conn: Connection, claim: Claim) -> bool | None:
    """What the claim's results say of their identity; None where they are notes alone."""
    table = schema.revision
    checked: bool | None = conn.execute(
        select(table.c.identity_checked).where(table.c.id == claim.revision_id)
    ).scalar_one()
    return checked
