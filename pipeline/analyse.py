"""The one composition: a study's images in, a report and its pictures out (DESIGN.md 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from cauda.core.domain import Finding, Level, Reason, Report, SeriesRole, SeriesUse, Status, Volume
from cauda.core.errors import Rejected
from cauda.pipeline import exclusions
from cauda.pipeline.parts import Parts
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.series import Series, series, what_was_found
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
    _check_study(images, found, options)
    axial, uses = _decoded(_wanted(found, SeriesRole.AXIAL_T2))
    if not axial:
        raise Rejected(Reason.UNDECODABLE, f"axial T2 cannot be decoded; found: {what_was_found(found)}")
    used = [one.header for one, _ in axial]
    report = replace(base, series=_updated(base.series, uses), flags=exclusions.flags(used))
    return Analysis(report=replace(report, findings=_ungraded(Reason.NO_BUNDLE)))


def _ungraded(reason: Reason) -> tuple[Finding, ...]:
    return tuple(Finding(level=level, abstained=reason) for level in Level)


def _check_study(images: Sequence[SourceImage], found: Sequence[Series], options: AnalysisOptions) -> None:
    """Rejected when no picture needs to be looked at to know that nothing can be graded."""
    if not found:
        broken = any(len(image.header) == 0 or "SOPInstanceUID" not in image.header for image in images)
        reason = Reason.UNDECODABLE if broken else Reason.NO_MR_IMAGES
        raise Rejected(reason, f"{reason.text}; needed: axial and sagittal T2 of the lumbar spine")
    if excluded := exclusions.study_exclusion([one.header for one in found], options.denied_exams):
        raise Rejected(*excluded)
    if not _wanted(found, SeriesRole.AXIAL_T2):
        few = any(one.reason is Reason.TOO_FEW_SLICES and one.role is SeriesRole.AXIAL_T2 for one in found)
        reason = Reason.TOO_FEW_SLICES if few else Reason.NO_AXIAL_T2
        raise Rejected(reason, f"{reason.text}; found: {what_was_found(found)}; needed: axial T2 of the lumbar spine")


def _wanted(found: Sequence[Series], role: SeriesRole) -> list[Series]:
    return [one for one in found if one.reason is None and one.role is role]


def _decoded(wanted: Sequence[Series]) -> tuple[list[tuple[Series, list[Volume]]], dict[str, SeriesUse]]:
    """The volumes of each series that can be decoded, and what is to be said of each."""
    volumes, uses = [], {}
    for one in wanted:
        try:
            read, broken = series_volumes(one.frames)
        except Rejected as problem:
            uses[one.uid] = one.use(problem.reason, problem.message)
            continue
        volumes.append((one, read))
        uses[one.uid] = one.use(note=f"{broken} slices cannot be decoded" if broken else "")
    return volumes, uses


def _updated(series_uses: Sequence[SeriesUse], newer: dict[str, SeriesUse]) -> tuple[SeriesUse, ...]:
    return tuple(newer.get(use.series_instance_uid, use) for use in series_uses)
