"""The Structured Report: TID 1500, in the shape that viewers hydrate (turn into measurements on the slice)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from cauda.core.domain import Report
from cauda.core.headers import MANUFACTURER
from cauda.pipeline.results import codes, words
from cauda.pipeline.results.content import (
    CONCEPT_MOD,
    CONTAINS,
    OBS_CONTEXT,
    as_container,
    code,
    container,
    text,
    uid_reference,
)
from cauda.pipeline.results.context import Reference, ResultContext
from cauda.pipeline.results.instance import (
    MODEL_NAME,
    copy_element,
    new_instance,
    referenced_study,
    sop_class_of,
)
from cauda.pipeline.results.measurement_groups import levels_without_slice, measurement_groups, series_quality
from cauda.pipeline.results.well_formed import is_well_formed

SR_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)  # best first


def structured_report(
    report: Report,
    sources: Sequence[Dataset],
    context: ResultContext,
    sop_class: str = Comprehensive3DSRStorage,
) -> Dataset:
    """The report as an SR document of one of ``SR_CLASSES``.

    ``sources`` are the headers of the study's MR images, pixel data not needed, best as read and not decoded: text
    is copied byte for byte. ValueError if the report names an image that is not among them, or lacks a level.
    """
    if sop_class not in SR_CLASSES:
        raise ValueError(f"{sop_class} is not an SR class of ours")
    by_uid = {str(source.SOPInstanceUID): source for source in sources}
    _check_evidence(report, by_uid)
    made = new_instance(sop_class, "SR", context.sr, report.study_instance_uid, sources, context)
    made.SeriesDescription = words.series_description(context)
    made.CodingSchemeIdentificationSequence = [codes.private_scheme()]
    _document_flags(made, report)
    _references(made, report, sources, context)
    made.ValueType = "CONTAINER"
    made.ConceptNameCodeSequence = [codes.coded(codes.IMAGING_MEASUREMENT_REPORT)]
    as_container(
        made,
        [
            *_observation_context(sources, context),
            *_measurements(report, by_uid, context),
            container(codes.QUALITATIVE_EVALUATIONS, _statements(report, context)),
        ],
        "1500",
    )
    return made


def _measurements(report: Report, by_uid: dict[str, Dataset], context: ResultContext) -> Iterable[Dataset]:
    groups = list(measurement_groups(report, by_uid, context))
    if groups:
        yield container(codes.IMAGING_MEASUREMENTS, groups)


def _check_evidence(report: Report, by_uid: dict[str, Dataset]) -> None:
    named = {finding.axial.sop_instance_uid for finding in report.findings if finding.axial}
    if not named <= set(by_uid):
        raise ValueError(f"{len(named - set(by_uid))} images of the report are not among the sources")


def _document_flags(made: Dataset, report: Report) -> None:
    """SR Document General: never verified, preliminary, and partial while a gradable level is missing."""
    missing = words.partial_words(report)
    made.CompletionFlag = "PARTIAL" if missing else "COMPLETE"
    if missing:
        made.CompletionFlagDescription = missing
    made.VerificationFlag = "UNVERIFIED"
    made.PreliminaryFlag = "PRELIMINARY"
    made.PerformedProcedureCodeSequence = []
    made.ReferencedPerformedProcedureStepSequence = []


def _references(made: Dataset, report: Report, sources: Sequence[Dataset], context: ResultContext) -> None:
    """The images that were used (all of them when no series was), and the documents this one replaces."""
    used = {series.series_instance_uid for series in report.series if series.reason is None}
    shown = {finding.axial.sop_instance_uid for finding in report.findings if finding.axial}
    chosen = [s for s in sources if str(s.get("SeriesInstanceUID")) in used or str(s.SOPInstanceUID) in shown]
    evidence = [
        Reference(
            sop_class_uid=sop_class_of(source),
            sop_instance_uid=str(source.SOPInstanceUID),
            series_instance_uid=str(source.SeriesInstanceUID),
        )
        for source in chosen or sources
    ]
    if evidence:
        study = referenced_study(made.StudyInstanceUID, evidence)
        made.CurrentRequestedProcedureEvidenceSequence = [study]
    replaced = [one for one in context.previous if one.sop_class_uid in SR_CLASSES]
    if replaced:
        made.PredecessorDocumentsSequence = [referenced_study(made.StudyInstanceUID, replaced)]


def _observation_context(sources: Sequence[Dataset], context: ResultContext) -> Iterable[Dataset]:
    """TID 1204, TID 1001 with a device as the observer, and the procedure that the images name."""
    yield code(CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH)
    yield code(OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE)
    yield uid_reference(OBS_CONTEXT, codes.DEVICE_UID, context.device_uid)
    yield text(OBS_CONTEXT, codes.DEVICE_NAME, MODEL_NAME)
    yield text(OBS_CONTEXT, codes.DEVICE_MANUFACTURER, MANUFACTURER)
    yield text(OBS_CONTEXT, codes.DEVICE_MODEL, MODEL_NAME)
    yield text(OBS_CONTEXT, codes.DEVICE_SERIAL, context.device_uid)
    for procedure in _procedures(sources) or (codes.IMAGING_PROCEDURE,):
        yield code(CONCEPT_MOD, codes.PROCEDURE_REPORTED, procedure)


def _procedures(sources: Sequence[Dataset]) -> list[Dataset]:
    """The images' procedure codes that are whole; some scanners send a value without a scheme."""
    found = []
    if sources and is_well_formed(sources[0], "ProcedureCodeSequence"):
        for stated in sources[0]["ProcedureCodeSequence"].value:
            item = Dataset()
            for keyword in ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"):
                copy_element(item, stated, keyword)
            found.append(item)
    return found


def _statements(report: Report, context: ResultContext) -> Iterable[Dataset]:
    """What holds for the document as a whole, in words and where there is one with its code."""
    if numbering := words.numbering_words(report):
        yield text(CONTAINS, codes.NUMBERING, numbering)
    if report.level_doubt is not None:
        yield code(CONTAINS, codes.NUMBERING_DOUBT, codes.reason_code(report.level_doubt))
        yield text(CONTAINS, codes.COMMENT, words.doubt_words(report.level_doubt))
    yield from levels_without_slice(report)
    if any(finding.axial is None for finding in words.canal_findings(report)):
        yield text(CONTAINS, codes.COMMENT, words.completeness_words(context))  # what made us stop waiting for it
    yield from series_quality(report)
    yield text(CONTAINS, codes.LIMITATIONS, words.footer(report))
    if context.research:
        yield text(CONTAINS, codes.COMMENT, words.RESEARCH)
    change = words.change_words(report, context)
    if change:
        yield text(CONTAINS, codes.COMMENT, change)
    for remark in words.remarks(report, context):
        yield text(CONTAINS, codes.COMMENT, remark)
