"""What a reader is told, in words: the same in the SR's text and on the SC's page. No number is a probability here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from anyascii import anyascii

from cauda.core.domain import BundleInfo, Condition, Finding, GradeScale, Level, Reason, Report, SeriesUse
from cauda.pipeline.pictures import Place
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
_WHY_LEFT_OUT = {Reason.UNDECODABLE: "cannot be decoded"}
_SERIES_NAMED = 6  # in lines of their own; a page of them would not be read
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
        return f"NUMBERING UNCERTAIN: {doubt.text}. Discs counted from the lowest one shown."
    return f"NUMBERING UNCERTAIN: {doubt.text}. Discs counted from the first one above the sacrum."


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

    A disc, however it is spelt (``L4/L5``, ``L4-5``), becomes ``2nd from lowest``; a vertebra has no such name: ``L?``.
    """
    if report.level_doubt is None:
        return text
    text = anyascii(text)  # dashes of one kind
    for level, spelt in _DISCS.items():
        text = spelt.sub(level.from_lowest, text)
    return _VERTEBRA.sub("L?", text)


def completeness_words(context: ResultContext) -> str:
    """Why the study was taken as complete."""
    return f"complete because {context.completeness}"


def change_words(report: Report, context: ResultContext) -> str | None:
    """What this revision replaces and why; None for a first one."""
    if not context.change_text:
        return None
    return guarded(report, f"REVISION {context.revision} {context.change_text}")


def place_words(place: Place, *, short: bool = False) -> str:
    """Where to find a slice, in the viewer's words: ``Se 7 Im 25``, ``Se 7 Im 4, 2nd of 5 from head``.

    Short: without the series, and without the side from which it is counted.
    """
    parts = [] if short else [_series_words(place)]
    if place.instance_number is not None:
        parts.append(f"Im {place.instance_number}")
    if place.frame is not None:
        parts.append(f"Fr {place.frame}")
    if place.location_mm is not None:
        parts.append(f"Loc {place.location_mm:.1f}")
    said = " ".join(parts)
    if place.rank is None:
        return said
    number, count, side = place.rank
    counted = f"{_ordinal(number)} of {count}" + ("" if short else f" from {side}")
    return f"{said}, {counted}" if said else counted


def _series_words(place: Place) -> str:
    named = "no Se" if place.series_number is None else f"Se {place.series_number}"
    if place.series_images is None:
        return named
    return f"{named} ({place.series_images} images{'' if place.echo_ms is None else f', TE {place.echo_ms:.0f}'})"


def place_remarks(places: Sequence[Place]) -> tuple[str, ...]:
    """How to find images that their numbers do not name; nothing where they do."""
    said = (
        ("Loc: Slice Location in mm; several images of the series have that number, or none.",
         any(one.location_mm is not None for one in places)),
        ("2nd of 5 from head (right, front): counted among the series' images of the same number, or without number.",
         any(one.rank is not None for one in places)),
        ("(30 images): so many has the series; its number is missing, or another series has it too.",
         any(one.series_images is not None for one in places)),
    )  # fmt: skip
    return tuple(sentence for sentence, needed in said if needed)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def left_out_words(report: Report) -> tuple[str, ...]:
    """A line for each series of which images were left out: ``Series 5: 1 of 30 images left out: no position.``."""
    series = [one for one in report.series if one.left_out]
    series.sort(key=lambda one: (one.series_number is None, one.series_number or 0))
    shown, rest = series[:_SERIES_NAMED], series[_SERIES_NAMED:]
    said = [_left_out(one) for one in shown]
    if rest:
        said.append(f"{len(rest)} more series: {sum(sum(one.left_out.values()) for one in rest)} images left out.")
    return tuple(said)


def _left_out(one: SeriesUse) -> str:
    name = "A series without number" if one.series_number is None else f"Series {one.series_number}"
    left = sum(one.left_out.values())
    many = len(one.left_out) > 1
    reasons = [
        _WHY_LEFT_OUT.get(reason, reason.text) + (f" ({count})" if many else "")
        for reason, count in sorted(one.left_out.items())
    ]
    return f"{name}: {left} of {one.images} image{'s'[: one.images > 1]} left out: {', '.join(reasons)}."


def remarks(report: Report, context: ResultContext) -> tuple[str, ...]:
    """Statements that change no grade: what was left out, how positions were matched, what was not checked, flags."""
    said = list(left_out_words(report))
    if report.frame_of_reference_assumed:
        said.append("Series have different frames of reference; positions were matched by geometry and picture.")
    if not context.identity_checked:
        said.append("Identity not checked against the archive.")
    return (*said, *(guarded(report, flag) for flag in report.flags))
