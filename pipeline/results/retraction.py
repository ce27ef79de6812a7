"""Taking a result back or replacing it: a Key Object Selection that rejects it (IHE RAD IOCM, PS3.16 TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from cauda.core.domain import Report
from cauda.pipeline.results import codes, words
from cauda.pipeline.results.content import (
    CONTAINS,
    OBS_CONTEXT,
    as_container,
    code,
    composite,
    image,
    text,
    uid_reference,
)
from cauda.pipeline.results.context import ObjectIds, Reference, ResultContext
from cauda.pipeline.results.instance import new_instance, referenced_study

_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
_WORKLIST = Code("113038", "DCM", "Incorrect Modality Worklist Entry")
_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")


class RetractionReason(StrEnum):
    """Why a result is taken back, as the operator says it (CLINICAL.md 31), or why a revision replaces it (23)."""

    WRONG_RESULT = "wrong_result"
    WRONG_PATIENT = "wrong_patient"
    POOR_IMAGES = "poor_images"
    NOT_GRADABLE = "not_gradable"
    OTHER_FINDINGS = "other_findings"
    OTHER_ATTRIBUTES = "other_attributes"
    OTHER_STATEMENT = "other_statement"

    @property
    def text(self) -> str:
        """The reason in words, for the document and the page that warns."""
        return _REASONS[self][1]

    @property
    def code(self) -> Code:
        """The document title by which archives hide what it points at (CID 7010)."""
        return _REASONS[self][0]


_REASONS = {
    RetractionReason.WRONG_RESULT: (_SAFETY, "wrong level or grade"),
    RetractionReason.WRONG_PATIENT: (_WORKLIST, "wrong patient or order"),
    RetractionReason.POOR_IMAGES: (_QUALITY, "poor images"),
    RetractionReason.NOT_GRADABLE: (_SAFETY, "the study as it is now cannot be graded"),
    RetractionReason.OTHER_FINDINGS: (_SAFETY, "replaced, a level or grade changed"),
    RetractionReason.OTHER_ATTRIBUTES: (_WORKLIST, "replaced, patient or study attributes were corrected"),
    RetractionReason.OTHER_STATEMENT: (_QUALITY, "replaced, findings unchanged"),
}


def retraction(
    report: Report,
    rejected: Sequence[Reference],
    reason: RetractionReason,
    ids: ObjectIds,
    sources: Sequence[Dataset],
    context: ResultContext,
) -> Dataset:
    """A rejection note pointing at earlier results; ``ids`` are the note's own. ValueError if nothing is rejected."""
    if not rejected:
        raise ValueError("a rejection note points at one object at least")
    made = new_instance(KeyObjectSelectionDocumentStorage, "KO", ids, report.study_instance_uid, sources, context)
    made.SeriesDescription = words.series_description(context)
    made.ReferencedPerformedProcedureStepSequence = []
    made.CurrentRequestedProcedureEvidenceSequence = [referenced_study(made.StudyInstanceUID, rejected)]
    made.ValueType = "CONTAINER"
    made.ConceptNameCodeSequence = [codes.coded(reason.code)]
    as_container(
        made,
        [
            code(OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE),
            uid_reference(OBS_CONTEXT, codes.DEVICE_UID, context.device_uid),
            text(CONTAINS, codes.KEY_OBJECT_DESCRIPTION, f"Cauda result withdrawn: {reason.text}"),
            *(_pointer(one) for one in rejected),
        ],
        "2010",
    )
    return made


def _pointer(one: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = one.sop_class_uid
    item.ReferencedSOPInstanceUID = one.sop_instance_uid
    is_image = one.sop_class_uid == SecondaryCaptureImageStorage
    return (image if is_image else composite)(CONTAINS, codes.SOURCE, item)
