"""What a reader is told, in words: the same in the SR's text and on the SC's page. No number is a probability here."""

from __future__ import annotations

import re

from anyascii import anyascii

from cauda.core.domain import BundleInfo, Condition, Finding, GradeScale, Level, Reason, Report
from cauda.pipeline.results.context import ResultContext

NUMBERING = "Levels counted up from the sacrum, assuming five lumbar vertebrae; check against your own count."
FOOTER = (
    "Central canal only. Not assessed: lateral recess, foramen, herniation, fracture, tumour, infection, "
    "conus, alignment. No result is not a normal result. Cauda sends no alerts."
)
NO_GRADES = "No level was graded. This says nothing about the spine."
RESEARCH = "RESEARCH: NOT FOR DIAGNOSIS"
_DISCS = {
    level: re.compile(rf"(?i)(?<![a-z0-9]){upper} ?[/-]? ?(?:{lower}|(?<=[/-]){lower[1:]})(?![a-z0-9])")
    for level in Level
    for upper, lower in [level.value.split("/")]
}
_VERTEBRA = re.compile(r"(?i)(?<![a-z0-9])L[1-6](?![0-9])")
DESCRIPTION = "CAUDA AI canal unverified"  # hanging protocols match words: no sequence, plane or region in it


def numbering_words(report: Report) -> str | None:
    """How levels were counted; None where they were not, or where the count is in doubt (CLINICAL.md 9)."""
    return NUMBERING if report.levels_from is not None and report.level_doubt is None else None


def canal_findings(report: Report) -> tuple[Finding, ...]:
    """The central canal at every level, cranial to caudal; ValueError unless each has exactly one finding."""
    found = [finding for finding in report.findings if finding.condition is Condition.CANAL]
    by_level = {finding.level: finding for finding in found}
    if len(found) != len(Level) or set(by_level) != set(Level):
        raise ValueError(f"one canal finding per level is needed, got {[f.level.value for f in found]}")
    return tuple(by_level[level] for level in Level)


def scale_of(report: Report) -> GradeScale:
    """The bundle's scale; without a bundle nothing is graded and the scale does not matter."""
    return report.bundle.scale if report.bundle else GradeScale.RSNA_3


def grade_words(scale: GradeScale, grade: str) -> str:
    """A grade that stands alone: a bare letter says nothing."""
    return grade if scale is GradeScale.RSNA_3 else f"Schizas {grade}"


def severity_step(scale: GradeScale, grade: str) -> int:
    """1 mild, 2 moderate, 3 severe: Schizas A, B, and C with D, as the literature relates the scales."""
    if scale is GradeScale.RSNA_3:
        return scale.grades.index(grade) + 1
    return {"A": 1, "B": 2}.get(grade[0], 3)


def also_possible(finding: Finding) -> tuple[str, ...]:
    """The other grades of the prediction set."""
    return tuple(grade for grade in finding.possible if grade != finding.grade)


def finding_words(finding: Finding, scale: GradeScale) -> str:
    """``Moderate (Severe possible)``, ``Not imaged: ...`` or ``NOT GRADED: ...`` (CLINICAL.md 13, 14)."""
    if finding.grade is None:
        return not_graded_words(finding)
    words = grade_words(scale, finding.grade)
    others = also_possible(finding)
    return f"{words} ({' or '.join(others)} possible)" if others else words


def not_graded_words(finding: Finding) -> str:
    """The reason; a level that was not imaged is no alarm."""
    reason = finding.abstained
    if reason is None:
        raise ValueError(f"{finding.level.value} has neither a grade nor a reason")
    if reason is Reason.NOT_IMAGED:
        return f"Not imaged: {reason.text}"
    return f"NOT GRADED: {reason.text}"


def tracking_text(report: Report, finding: Finding) -> str:
    """What a viewer shows beside a measurement: ``AI unverified L4/L5 canal: Severe``."""
    scale = scale_of(report)
    said = grade_words(scale, finding.grade) if finding.grade else not_graded_words(finding)
    return f"AI unverified {report.level_name(finding.level)} canal: {said}"


def doubt_words(doubt: Reason) -> str:
    """The banner over doubted level names (CLINICAL.md 9)."""
    if doubt is Reason.SACRUM_NOT_SHOWN:
        return f"NUMBERING UNCERTAIN: {doubt.text}. S-1 is the lowest disc shown."
    return f"NUMBERING UNCERTAIN: {doubt.text}. S-1 is the first disc above the sacrum."


def partial_words(report: Report) -> str | None:
    """Which levels could have been graded and were not, in 64 characters; None when none is missing."""
    missing = [
        finding
        for finding in canal_findings(report)
        if finding.grade is None and finding.abstained is not Reason.NOT_IMAGED
    ]
    if not missing:
        return None
    names = "all levels" if len(missing) == len(Level) else ", ".join(report.level_name(f.level) for f in missing)
    reasons = sorted({f.abstained.value for f in missing if f.abstained})
    full = f"Not graded: {names} ({', '.join(reasons)})"
    return full if len(full) <= 64 else f"Not graded: {names}"


def series_description(context: ResultContext) -> str:
    """The name of the series in the viewer's list (CLINICAL.md 16, 26)."""
    return f"RESEARCH {DESCRIPTION}" if context.research else DESCRIPTION


def footer(report: Report) -> str:
    """What was not looked at: the bundle's own words when it has some (CLINICAL.md 15)."""
    return guarded(report, anyascii(report.bundle.footer)) if report.bundle and report.bundle.footer else FOOTER


def bundle_name(report: Report, bundle: BundleInfo) -> str:
    """How the bundle calls itself; its digest, not its name, says which one it is."""
    return guarded(report, anyascii(bundle.name))


def calibration_words(report: Report, bundle: BundleInfo) -> str:
    """How the probabilities were calibrated, as far as the bundle says."""
    return guarded(report, f"calibration {bundle.calibration or 'not stated by the bundle'}")


def guarded(report: Report, text: str) -> str:
    """Free text without L-names while numbering is in doubt: none leaves the node then (CLINICAL.md 9).

    A disc, however it is spelt (``L4/L5``, ``L4-5``), becomes its ``S-2``; a vertebra has no such name: ``L?``.
    """
    if report.level_doubt is None:
        return text
    text = anyascii(text)  # dashes of one kind
    for level, spelt in _DISCS.items():
        text = spelt.sub(level.above_sacrum, text)
    return _VERTEBRA.sub("L?", text)


def completeness_words(context: ResultContext) -> str:
    """Why the study was taken as complete."""
    return f"complete because {context.completeness}"


def change_words(report: Report, context: ResultContext) -> str | None:
    """What this revision replaces and why; None for a first one."""
    if not context.change_text:
        return None
    return guarded(report, f"REVISION {context.revision} {context.change_text}")


def remarks(report: Report, context: ResultContext) -> tuple[str, ...]:
    """Statements that change no grade: how positions were matched, what was not checked, the flags."""
    said: list[str] = []
    if report.frame_of_reference_assumed:
        said.append("Series have different frames of reference; positions were matched by geometry and picture.")
    if not context.identity_checked:
        said.append("Identity not checked against the archive.")
    return (*said, *(guarded(report, flag) for flag in report.flags))
