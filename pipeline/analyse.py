"""The one composition: a study's images in, a report and its pictures out (DESIGN.md 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cauda.core.domain import (
    Finding,
    Level,
    Measurement,
    Reason,
    Report,
    SagittalEvidence,
    SeriesUse,
    StackUse,
    Status,
)
from cauda.core.errors import Rejected
from cauda.pipeline import exclusions, grade
from cauda.pipeline.canal import located
from cauda.pipeline.choosing import AxialImages, Choice, choose
from cauda.pipeline.counting import Count, count
from cauda.pipeline.discs import Disc
from cauda.pipeline.illustrate import pictures
from cauda.pipeline.levels import Levels
from cauda.pipeline.parts import Parts
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.series import (
    MIN_SLICES,
    Acquisition,
    Series,
    series,
    shared_words,
    wanted,
    what_was_found,
)
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
    uses: dict[Acquisition, StackUse] = {}
    try:
        return _analyse(base, images, found, uses, parts, options)
    except Rejected as rejected:
        rejection = replace(base, status=Status.REJECTED, reason=rejected.reason, reason_text=rejected.message)
        return Analysis(report=replace(rejection, series=_updated(found, uses)))


def _analyse(
    base: Report,
    images: Sequence[SourceImage],
    found: Sequence[Series],
    uses: dict[Acquisition, StackUse],
    parts: Parts | None,
    options: AnalysisOptions,
) -> Analysis:
    """``uses`` is filled while the images are read, so that a rejected study says it, too."""
    timings: dict[str, float] = {}
    _check_study(images, found, uses, options)
    axial = AxialImages(found, uses)
    with _timed("axial", timings, options.clock):
        axial.read_until_one_is_readable()
    if not axial.read:
        raise Rejected(*_why_unreadable(uses, found))
    report = replace(base, series=_updated(found, uses), flags=_flags(found, [one.acquisition for one in axial.read]))
    if parts is None:
        return Analysis(report=replace(report, findings=_ungraded(Reason.NO_BUNDLE)))
    with _timed("levels", timings, options.clock):
        counted = count(found, parts, uses)
    report = replace(report, series=_updated(found, uses))
    if counted.levels is None or counted.series is None:
        planes = [{one.plane for one in each.acquisitions} for each in found]
        seen = any("sagittal" in shown or not shown for shown in planes)  # a series without a place may be sagittal
        why = Reason.LEVELS_NOT_COUNTED if seen else Reason.NO_SAGITTAL
        return Analysis(report=replace(report, findings=_ungraded(why), timings_ms=timings))
    with _timed("grade", timings, options.clock):
        report = _graded(report, found, uses, axial, counted, counted.series, counted.levels, parts)
    with _timed("pictures", timings, options.clock):
        shown = pictures(report, images)
    return Analysis(report=replace(report, timings_ms=timings), pictures=shown)


def _why_unreadable(uses: Mapping[Acquisition, StackUse], found: Sequence[Series]) -> tuple[Reason, str]:
    if any(use.reason is Reason.CONTRASTS_NOT_TOLD_APART for use in uses.values()):
        return Reason.NO_AXIAL_T2, f"{Reason.NO_AXIAL_T2.text}: {Reason.CONTRASTS_NOT_TOLD_APART.text}"
    why = next((f" ({use.note})" for use in uses.values() if use.reason is Reason.UNDECODABLE and use.note), "")
    return Reason.UNDECODABLE, f"axial T2 cannot be decoded{why}; found: {what_was_found(found)}"


@contextmanager
def _timed(name: str, timings: dict[str, float], clock: Callable[[], float] | None) -> Iterator[None]:
    start = clock() if clock else 0.0
    yield
    if clock:
        timings[name] = round((clock() - start) * 1000, 1)


def _graded(
    report: Report,
    found: Sequence[Series],
    uses: dict[Acquisition, StackUse],
    axial: AxialImages,
    counted: Count,
    sagittal: Acquisition,
    levels: Levels,
    parts: Parts,
) -> Report:
    if not counted.fluid_bright:
        none = tuple(_located(Finding(level=level, abstained=Reason.LEVELS_FROM_T1), levels) for level in Level)
        return replace(report, findings=none, levels_from="sagittal", level_doubt=counted.doubt)
    chosen = choose(axial, levels, sagittal)
    uses |= chosen.uses
    if all(one.reason is Reason.NOT_T2 for one in chosen.placed):
        raise Rejected(Reason.NO_AXIAL_T2, f"{Reason.NO_AXIAL_T2.text}: the axial images look T1-weighted, or inverted")
    slices = {level: [located(one, levels.line) for one in here] for level, here in chosen.slices.items()}
    looks = {level: grade.looks(level, here, parts) for level, here in slices.items()}
    findings = grade.findings(looks, parts)
    return replace(
        report,
        findings=tuple(_located(findings.get(level) or _missing(level, levels, chosen), levels) for level in Level),
        levels_from="sagittal",
        level_doubt=counted.doubt,
        frame_of_reference_assumed=any(one.assumed for one in chosen.used),
        series=_updated(found, uses),
        flags=_flags(found, [one.series for one in chosen.used] or [one.acquisition for one in axial.read]),
    )


def _missing(level: Level, levels: Levels, chosen: Choice) -> Finding:
    if level not in levels.discs:
        return Finding(level=level, abstained=Reason.LEVELS_NOT_COUNTED)
    return Finding(level=level, abstained=chosen.reasons.get(level, Reason.NOT_IMAGED))


def _flags(found: Sequence[Series], used: Sequence[Acquisition]) -> tuple[str, ...]:
    shared = shared_words({one.uid: one.frames for one in found})
    reformatted = (
        ("Axial images are reformats of another acquisition.",) if any(one.reformatted for one in used) else ()
    )
    return (*reformatted, *exclusions.flags([member.header for one in used for member in one.each], shared))


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


def _check_study(
    images: Sequence[SourceImage],
    found: Sequence[Series],
    uses: dict[Acquisition, StackUse],
    options: AnalysisOptions,
) -> None:
    """Rejected when no picture needs to be looked at to know that nothing can be graded."""
    if not found:
        broken = any(len(image.header) == 0 or "SOPInstanceUID" not in image.header for image in images)
        reason = Reason.UNDECODABLE if broken else Reason.NO_MR_IMAGES
        raise Rejected(reason, f"{reason.text}; needed: axial and sagittal T2 of the lumbar spine")
    if len(images) < MIN_SLICES and not _any_readable(found):
        raise Rejected(Reason.UNDECODABLE, f"{Reason.UNDECODABLE.text}; found: {what_was_found(found)}")
    axial = wanted(found, "axial")
    few = sum(one.slices for one in axial) < MIN_SLICES
    uses |= {one: one.use(Reason.TOO_FEW_SLICES) for one in axial if few}
    shared = shared_words({one.uid: one.frames for one in found})
    if excluded := exclusions.study_exclusion([one.header for one in found], options.denied_exams, shared):
        raise Rejected(*excluded)
    if few:
        reason = Reason.TOO_FEW_SLICES if axial else Reason.NO_AXIAL_T2
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


def _updated(found: Sequence[Series], uses: Mapping[Acquisition, StackUse]) -> tuple[SeriesUse, ...]:
    return tuple(one.use(uses) for one in found)
