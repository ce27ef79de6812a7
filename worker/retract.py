"""A rejection note for results that archives have, and the page that warns where they stay visible (CLINICAL.md 31)."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

from pydicom import Dataset, dcmread

from cauda.core import retractions, revisions, spool, uids
from cauda.core.claims import Claim
from cauda.core.domain import Level, Reason
from cauda.core.errors import Unavailable
from cauda.core.retractions import Why
from cauda.core.revisions import Made
from cauda.core.schema import ResultKind, RevisionState
from cauda.pipeline.report_json import from_json
from cauda.pipeline.results.context import ObjectIds
from cauda.pipeline.results.retraction import RetractionReason, retraction
from cauda.pipeline.results.secondary_capture import retracted
from cauda.pipeline.results.structured_report import SR_CLASSES
from cauda.worker import results
from cauda.worker.abilities import negotiated, numbers_in_use
from cauda.worker.outbox import put
from cauda.worker.post import Post
from cauda.worker.results import Origin, Result
from cauda.worker.revision import Graded

_REASONS = {
    Why.WRONG_LEVEL: RetractionReason.WRONG_RESULT,
    Why.WRONG_GRADE: RetractionReason.WRONG_RESULT,
    Why.WRONG_PATIENT: RetractionReason.WRONG_PATIENT,
    Why.POOR_IMAGES: RetractionReason.POOR_IMAGES,
}


def take_back(post: Post, claim: Claim) -> Graded:
    """Put note and page into the outbox; they name patient and study as the results did, byte for byte."""
    with post.ledger.read() as conn:
        standing = retractions.sent(conn, claim.study_uid)
        why = retractions.why(conn, claim.id)
        numbered = revisions.numbered(conn, claim.study_uid)
    if standing is None:
        return Graded(state=RevisionState.RETRACTED, reason=None, text="nothing was sent", report={}, to=())
    reason = _REASONS[why]
    report = from_json(standing.report)
    sources = [_sent(post, one) for one in standing.made]
    study_uid = str(sources[-1].StudyInstanceUID)
    archives = [
        negotiated(post, one, SR_CLASSES, study_uid)
        for one in post.settings.destinations
        if one.name in standing.destinations and one.kind != "folder"
    ]
    origin = Origin(
        code_version=post.fingerprint.code_version,
        site_timezone=post.settings.site.timezone,
        tracking_uids=dict.fromkeys(Level, ""),
        identity_checked=True,
        series_numbers=numbers_in_use(post, numbered, archives),
        page_modality=post.settings.grading.page_modality,
    )
    context, _ = results.result_context(claim, report, sources, origin)
    context = replace(context, identity={"StudyInstanceUID": study_uid})
    ids = ObjectIds(
        sop_instance_uid=uids.derived("instance", ResultKind.KO, claim.study_uid, str(claim.number)),
        series_instance_uid=uids.derived("series", ResultKind.KO, claim.study_uid, str(claim.number)),
        series_number=context.sr.series_number,
    )
    rejected = [results.reference(one) for one in standing.made]
    note = retraction(report, rejected, reason, ids, sources[-1:], context)
    page = retracted(report, sources[-1:], context, reason.text)
    made = (Result(kind=ResultKind.KO, dataset=note), Result(kind=ResultKind.WARNING, dataset=page))
    return Graded(
        state=RevisionState.RETRACTED,
        reason=None,
        text=f"taken back: {reason.text}",
        report=standing.report,
        made=tuple(put(post, claim.study_uid, one) for one in made),
        to=standing.destinations,
    )


def _sent(post: Post, one: Made) -> Dataset:
    """A result's header, values not yet decoded; Unavailable when the outbox has lost it."""
    try:
        return dcmread(BytesIO(spool.read(post.spool, one.path)), stop_before_pixels=True)
    except FileNotFoundError as error:
        raise Unavailable(Reason.FILE_MISSING, f"file not there: {one.path}") from error
