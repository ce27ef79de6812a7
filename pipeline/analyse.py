"""The one composition: a study's images in, a report and its pictures out (DESIGN.md 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby

from cauda.core.domain import (
    Finding,
    Level,
    Measurement,
    Reason,
    Report,
    SagittalEvidence,
    SeriesRole,
    SeriesUse,
    Status,
    Volume,
)
from cauda.core.errors import Rejected
from cauda.pipeline import exclusions, grade
from cauda.pipeline.axial import AxialSlice, slices_at
from cauda.pipeline.canal import refined
from cauda.pipeline.counting import Count, count
from cauda.pipeline.discs import Disc
from cauda.pipeline.illustrate import pictures
from cauda.pipeline.levels import Levels
from cauda.pipeline.parts import Parts
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.placing import Placed, place
from cauda.pipeline.series import MIN_SLICES, Series, preference, series, what_was_found
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import series_volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    """What a site decides."""

    denied_exams: tuple[str, ...] = ()  # regular expressions on exam description, procedure and body part
    clock: Callable[[], float] | None = None  # seconds; None leaves timings_ms empty


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """What came out."""

    report: Report
    pictures: Pictures = field(default_factory=Pictures)


def analyse_study(
    study_instance_uid: str,
    images: Sequence[SourceImage],
    parts: Parts | None,
    options: AnalysisOptions | None = None,
) -> Analysis:
    """Grade a study. Never raises for what the images are: that is a REJECTED report.

    ``parts`` None reports every level as not graded (no_bundle). Raises what ``SourceImage.read`` raises.
    """
    options = options or AnalysisOptions()
    found = series(images)
    base = Report(
        study_instance_uid=study_instance_uid,
        status=Status.REPORTED,
        bundle=parts.info if parts else None,
        series=tuple(one.use() for one in found),
    )
    try:
        return _analyse(base, images, found, parts, options)
    except Rejected as rejected:
        return Analysis(
            report=replace(base, status=Status.REJECTED, reason=rejected.reason, reason_text=rejected.message)
        )


def _analyse(
    base: Report, images: Sequence[SourceImage], found: Sequence[Series], parts: Parts | None, options: AnalysisOptions
) -> Analysis:
    timings: dict[str, float] = {}
    _check_study(images, found, options)
    with _timed("axial", timings, options.clock):
        axial, uses = _first_readable(_wanted(found, SeriesRole.AXIAL_T2))
    if not axial:
        raise Rejected(Reason.UNDECODABLE, f"axial T2 cannot be decoded; found: {what_was_found(found)}")
    report = replace(base, series=_updated(base.series, uses), flags=exclusions.flags([one.header for one, _ in axial]))
    if parts is None:
        return Analysis(report=replace(report, findings=_ungraded(Reason.NO_BUNDLE)))
    with _timed("levels", timings, options.clock):
        counted = count(found, parts)
    report = replace(report, series=_updated(report.series, counted.uses))
    if counted.levels is None or counted.series is None:
        return Analysis(report=replace(report, findings=_ungraded(Reason.LEVELS_NOT_COUNTED), timings_ms=timings))
    with _timed("grade", timings, options.clock):
        report = _graded(report, axial, counted, counted.series, counted.levels, parts)
    with _timed("pictures", timings, options.clock):
        shown = pictures(report, images)
    return Analysis(report=replace(report, timings_ms=timings), pictures=shown)


@contextmanager
def _timed(name: str, timings: dict[str, float], clock: Callable[[], float] | None) -> Iterator[None]:
    start = clock() if clock else 0.0
    yield
    if clock:
        timings[name] = round((clock() - start) * 1000, 1)


def _graded(
    report: Report,
    axial: Sequence[tuple[Series, Sequence[Volume]]],
    counted: Count,
    sagittal: Series,
    levels: Levels,
    parts: Parts,
) -> Report:
    placed = [place(one, volumes, sagittal, levels.canal_mm) for one, volumes in axial]
    if all(one.reason is Reason.NOT_T2 for one in placed):
        raise Rejected(Reason.NO_AXIAL_T2, f"{Reason.NO_AXIAL_T2.text}: the axial images look T1-weighted")
    usable = [one for one in placed if one.reason is None]
    used: set[str] = set()
    slices: dict[Level, list[AxialSlice]] = {}
    for level, disc in levels.discs.items():
        for one in usable:
            if here := slices_at(one.volumes, disc.point_mm, levels.canal_mm):
                slices[level] = [replace(found, center_mm=refined(found)) for found in here]
                used.add(one.series.uid)
                break
    looks = {level: grade.looks(level, here, parts) for level, here in slices.items()}
    findings = grade.findings(looks, parts)
    nowhere = Reason.NOT_IMAGED if usable else Reason.POSITION_NOT_SHARED
    return replace(
        report,
        findings=tuple(_located(findings.get(level) or _missing(level, levels, nowhere), levels) for level in Level),
        levels_from="sagittal",
        level_doubt=counted.doubt,
        frame_of_reference_assumed=any(one.assumed and one.series.uid in used for one in placed),
        series=_updated(report.series, {one.series.uid: _use(one, used) for one in placed}),
    )


def _missing(level: Level, levels: Levels, nowhere: Reason) -> Finding:
    return Finding(level=level, abstained=nowhere if level in levels.discs else Reason.LEVELS_NOT_COUNTED)


def _use(one: Placed, used: set[str]) -> SeriesUse:
    return one.series.use(one.reason or (None if one.series.uid in used else Reason.NOT_BEST))


def _located(finding: Finding, levels: Levels) -> Finding:
    """The finding with its level's point, and that point on the sagittal slice nearest to it."""
    disc = levels.discs.get(finding.level)
    if disc is None:
        return finding
    col, row, index = levels.source.voxel(disc.point_mm)
    ref = levels.source.slices[min(max(round(index), 0), len(levels.source.slices) - 1)]
    on_slice = SagittalEvidence(sop_instance_uid=ref.sop_instance_uid, frame=ref.frame, point_px=(col, row))
    return replace(finding, point_mm=disc.point_mm, sagittal=on_slice, measurements=_measured(disc))


def _measured(disc: Disc) -> tuple[Measurement, ...]:
    """A cross-check, not a grader: two trainings of the localiser differed by 3 mm at a severe level (LEVELS.md)."""
    if disc.canal_ap_mm is None:
        return ()
    value = round(disc.canal_ap_mm, 2)
    return (Measurement(name="canal AP diameter", value=value, unit="mm", uncertainty=3.0, evidence="sagittal mask"),)


def _ungraded(reason: Reason) -> tuple[Finding, ...]:
    return tuple(Finding(level=level, abstained=reason) for level in Level)


def _check_study(images: Sequence[SourceImage], found: Sequence[Series], options: AnalysisOptions) -> None:
    """Rejected when no picture needs to be looked at to know that nothing can be graded."""
    if not found:
        broken = any(len(image.header) == 0 or "SOPInstanceUID" not in image.header for image in images)
        reason = Reason.UNDECODABLE if broken else Reason.NO_MR_IMAGES
        raise Rejected(reason, f"{reason.text}; needed: axial and sagittal T2 of the lumbar spine")
    if len(images) < MIN_SLICES and not _any_readable(found):
        raise Rejected(Reason.UNDECODABLE, f"{Reason.UNDECODABLE.text}; found: {what_was_found(found)}")
    if excluded := exclusions.study_exclusion([one.header for one in found], options.denied_exams):
        raise Rejected(*excluded)
    if not _wanted(found, SeriesRole.AXIAL_T2):
        few = any(one.reason is Reason.TOO_FEW_SLICES and one.role is SeriesRole.AXIAL_T2 for one in found)
        reason = Reason.TOO_FEW_SLICES if few else Reason.NO_AXIAL_T2
        raise Rejected(reason, f"{reason.text}; found: {what_was_found(found)}; needed: axial T2 of the lumbar spine")


def _any_readable(found: Sequence[Series]) -> bool:
    """Whether a handful of images is a handful of images: truncated files may read as empty without an error."""
    for one in found:
        try:
            if not one.frames or series_volumes(one.frames):
                return True
        except Rejected:
            continue
    return False


def _wanted(found: Sequence[Series], role: SeriesRole) -> list[Series]:
    return [one for one in found if one.reason is None and one.role is role]


def _first_readable(wanted: Sequence[Series]) -> tuple[list[tuple[Series, list[Volume]]], dict[str, SeriesUse]]:
    """The most wanted kind of series that can be decoded; less wanted ones are not decoded at all."""
    volumes: list[tuple[Series, list[Volume]]] = []
    uses = {one.uid: one.use(Reason.NOT_BEST) for one in wanted}
    for _, alike in groupby(wanted, key=preference):
        for one in alike:
            try:
                read, broken = series_volumes(one.frames)
            except Rejected as problem:
                uses[one.uid] = one.use(problem.reason, problem.message)
                continue
            volumes.append((one, read))
            uses[one.uid] = one.use(note=f"{broken} slices cannot be decoded" if broken else "")
        if volumes:
            break
    return volumes, uses


def _updated(series_uses: Sequence[SeriesUse], newer: dict[str, SeriesUse]) -> tuple[SeriesUse, ...]:
    return tuple(newer.get(use.series_instance_uid, use) for use in series_uses)
