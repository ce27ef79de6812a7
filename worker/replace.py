"""The rejection note for what a revision's results replace (CLINICAL.md 23)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydicom import Dataset

from cauda.core import uids
from cauda.core.claims import Claim
from cauda.core.domain import Report
from cauda.core.revisions import Made
from cauda.core.schema import ResultKind
from cauda.pipeline.results.context import ObjectIds, ResultContext
from cauda.pipeline.results.retraction import RetractionReason, retraction
from cauda.worker import results
from cauda.worker.outbox import put
from cauda.worker.post import Post


def rejecting(
    post: Post,
    claim: Claim,
    report: Report,
    sources: Sequence[Dataset],
    context: ResultContext,
    reason: RetractionReason,
) -> Callable[[Sequence[Made]], Made]:
    """What makes a note that rejects given results, and puts it into the outbox.

    It names patient and study as the new results do: there the archive has the study now.
    """

    def note(replaced: Sequence[Made]) -> Made:
        same = (context.sc.sop_instance_uid, *(one.sop_uid for one in replaced))
        ids = ObjectIds(
            sop_instance_uid=uids.derived("instance", ResultKind.REPLACES, *same),
            series_instance_uid=uids.derived("series", ResultKind.REPLACES, *same),
            series_number=context.note_series_number,
        )
        made = retraction(report, [results.reference(one) for one in replaced], reason, ids, sources, context)
        return put(post, claim.study_uid, results.Result(kind=ResultKind.REPLACES, dataset=made))

    return note
