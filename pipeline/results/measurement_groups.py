"""The SR's measurement groups: for each level where it lies (TID 1410), what was found and how good it shows (1501).

Region and numbers stand in groups of their own under one Tracking UID, because viewers turn only a group without
numbers into a measurement that jumps to its slice. Every Tracking UID has a region: OHIF 3.13.2 reads the first
coordinate of each tracked thing unasked, and one without keeps it from showing the whole report (docs/viewers.md).
A level without a slice is therefore no measurement, but a qualitative evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from cauda.core.domain import AxialEvidence, Finding, Quality, Report
from cauda.core.headers import MANUFACTURER
from cauda.pipeline.results import codes, words
from cauda.pipeline.results.content import (
    CONCEPT_MOD,
    CONTAINS,
    OBS_CONTEXT,
    code,
    container,
    image,
    number,
    polyline,
    text,
    uid_reference,
)
from cauda.pipeline.results.context import ResultContext
from cauda.pipeline.results.instance import MODEL_NAME, referenced

_SSIM = (
    ("noise_ssim", codes.NOISE_SSIM),
    ("continuity_ssim", codes.CONTINUITY_SSIM),
    ("template_ssim", codes.TEMPLATE_SSIM),
)


def measurement_groups(report: Report, sources: Mapping[str, Dataset], context: ResultContext) -> Iterable[Dataset]:
    """The groups of every level with a slice, cranial to caudal; ``sources`` by SOP Instance UID."""
    for finding in words.canal_findings(report):
        if finding.axial is not None:
            source = sources[finding.axial.sop_instance_uid]
            yield _region_group(report, finding, finding.axial, source, context)
            yield _finding_group(report, finding, context)
            if finding.quality is not None:
                shown = referenced(source, finding.axial.frame)
                yield _quality_group(report, finding, finding.quality, shown, context)


def levels_without_slice(report: Report) -> Iterable[Dataset]:
    """What is said of levels that no slice shows or that no slice was chosen for: in words, and as codes."""
    for finding in words.canal_findings(report):
        if finding.axial is None:
            yield text(CONTAINS, codes.COMMENT, words.tracking_text(report, finding))
            for item in _evaluation(report, finding):
                item.ContentSequence = [
                    text(CONCEPT_MOD, codes.LEVEL, report.level_name(finding.level)),
                    *(code(CONCEPT_MOD, codes.FINDING_SITE, site) for site in _sites(report, finding)),
                ]
                yield item


def _region_group(
    report: Report, finding: Finding, axial: AxialEvidence, source: Dataset, context: ResultContext
) -> Dataset:
    region = polyline(codes.IMAGE_REGION, _outline(axial, source), referenced(source, axial.frame))
    # Viewers take a group's comment as the measurement's label.
    label = text(CONTAINS, codes.COMMENT, words.tracking_text(report, finding))
    items = [*_head(report, finding, _findings(report, finding), context), region, *_evaluation(report, finding), label]
    return container(codes.MEASUREMENT_GROUP, items, "1410")


def _finding_group(report: Report, finding: Finding, context: ResultContext) -> Dataset:
    scale = words.scale_of(report)
    numbers = [
        number(
            codes.PROBABILITY,
            finding.probabilities[grade],
            code(CONCEPT_MOD, codes.SEVERITY, codes.grade_code(scale, grade)),
        )
        for grade in scale.grades
        if finding.grade is not None and grade in finding.probabilities
    ]
    items = [*_head(report, finding, _findings(report, finding), context), *numbers, *_evaluation(report, finding)]
    return container(codes.MEASUREMENT_GROUP, items, "1501")


def _head(report: Report, finding: Finding, found: Iterable[Code], context: ResultContext) -> list[Dataset]:
    """Tracking, finding, site and algorithm; tracking, site and algorithm are alike in all groups of a level."""
    return [
        text(OBS_CONTEXT, codes.TRACKING_IDENTIFIER, words.tracking_text(report, finding)),
        uid_reference(OBS_CONTEXT, codes.TRACKING_UID, context.tracking_uids[finding.level]),
        *(code(CONTAINS, codes.FINDING, one) for one in found),
        *(code(CONCEPT_MOD, codes.FINDING_SITE, site) for site in _sites(report, finding)),
        *_algorithm(report, context),
    ]


def _findings(report: Report, finding: Finding) -> list[Code]:
    if finding.grade and words.severity_step(words.scale_of(report), finding.grade) > 1:
        return [codes.CANAL_ASSESSMENT, codes.STENOSIS]
    return [codes.CANAL_ASSESSMENT]


def _sites(report: Report, finding: Finding) -> list[Code]:
    return [codes.SPINAL_CANAL] if report.level_doubt else [codes.SPINAL_CANAL, codes.DISCS[finding.level]]


def _algorithm(report: Report, context: ResultContext) -> list[Dataset]:
    """TID 4019. The parameters say what must be equal for two results to be comparable."""
    bundle = report.bundle
    parameters = [
        *([f"bundle digest {bundle.digest}", words.calibration_words(report, bundle)] if bundle else ["no bundle"]),
        f"configuration {context.configuration_digest}",
        f"code {context.code_version}",
        words.completeness_words(context),
    ]
    return [
        text(CONCEPT_MOD, codes.ALGORITHM_NAME, words.bundle_name(report, bundle) if bundle else MODEL_NAME),
        text(CONCEPT_MOD, codes.ALGORITHM_VERSION, bundle.version if bundle else context.code_version),
        *(text(CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, value) for value in parameters),
        text(CONCEPT_MOD, codes.ALGORITHM_MANUFACTURER, MANUFACTURER),
        code(CONCEPT_MOD, codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE),
    ]


def _evaluation(report: Report, finding: Finding) -> list[Dataset]:
    scale = words.scale_of(report)
    if finding.grade is None:
        reasons = [finding.abstained] if finding.abstained else []
        return [
            code(CONTAINS, codes.SEVERITY, codes.UNDETERMINED),
            *(code(CONTAINS, codes.NOT_GRADED, codes.reason_code(reason)) for reason in reasons),
        ]
    return [
        code(CONTAINS, codes.SEVERITY, codes.grade_code(scale, finding.grade)),
        *(
            code(CONTAINS, codes.ALSO_POSSIBLE, codes.grade_code(scale, grade))
            for grade in words.also_possible(finding)
        ),
    ]


def _outline(axial: AxialEvidence, source: Dataset) -> list[tuple[float, float]]:
    """The box as a closed rectangle inside the image. SCOORD counts from the corner, the box from pixel centres."""
    columns, rows = float(source.get("Columns") or "inf"), float(source.get("Rows") or "inf")
    col0, row0, col1, row1 = (value + 0.5 for value in axial.box_px)
    left, right = max(col0, 0.0), min(col1, columns)
    top, bottom = max(row0, 0.0), min(row1, rows)
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _quality_group(
    report: Report, finding: Finding, quality: Quality, shown: Dataset, context: ResultContext
) -> Dataset:
    measured = ((name, getattr(quality, attribute)) for attribute, name in _SSIM)
    items = [
        *_head(report, finding, [codes.IMAGE_QUALITY], context),
        image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, shown),
        *(number(name, value) for name, value in measured if value is not None),
    ]
    return container(codes.MEASUREMENT_GROUP, items, "1501")


def series_quality(report: Report) -> Iterable[Dataset]:
    """How good the graded slices are taken together; nothing where none was measured."""
    passed = [one.quality.passed for one in words.canal_findings(report) if one.quality is not None]
    if passed:
        some = codes.LIMITED if any(passed) else codes.NON_DIAGNOSTIC
        yield code(CONTAINS, codes.SERIES_QUALITY, codes.DIAGNOSTIC if all(passed) else some)
