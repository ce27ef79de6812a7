"""The composition on a spine written down as formulas: the truth is a number, it never comes from the product."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analytic_spine import (
    T2_TAGS,
    CoreEmbedder,
    CoreGrader,
    Spine,
    axial_block,
    parts,
    sagittal,
    study,
)

from cauda.core.domain import F32, F64, GradeScale, Level, Reason, Report, SeriesRole, Status
from cauda.pipeline.analyse import Analysis, AnalysisOptions, analyse_study
from cauda.pipeline.illustrate import pictures
from cauda.pipeline.report_json import from_json, to_json
from cauda.pipeline.source import SourceImage

SPINE = Spine(dark={1: 0.1})  # Severe at L4/L5
GRADES = ["Normal/Mild", "Normal/Mild", "Normal/Mild", "Severe", "Normal/Mild"]


def _analyse(images: Sequence[SourceImage], **preprocessing: Any) -> Analysis:
    return analyse_study("1.2.3", images, parts(**preprocessing))


def _grades(report: Report) -> list[str | None]:
    return [finding.grade for finding in report.findings]


def _points_are_true(report: Report, spine: Spine = SPINE, shift: Sequence[float] = (0, 0, 0)) -> None:
    for number, finding in enumerate(reversed(report.findings)):
        assert finding.point_mm is not None
        truth = np.add(spine.disc_point(number), shift)
        assert np.linalg.norm(finding.point_mm - truth) < 4.0, finding.level  # a slice is 4 mm


def test_every_level_is_named_placed_and_graded() -> None:
    images = study(SPINE)
    analysis = _analyse(images)
    report = analysis.report
    assert report.status is Status.REPORTED
    assert report.level_doubt is None
    assert report.levels_from == "sagittal"
    assert _grades(report) == GRADES
    _points_are_true(report)
    for number, finding in enumerate(reversed(report.findings)):
        assert finding.axial is not None
        block = 1 + 5 * (4 - number)  # instance numbers of the disc's block
        assert int(finding.axial.sop_instance_uid.rsplit(".", 1)[1]) in range(block, block + 5)
        header = next(i.header for i in images if i.header.SOPInstanceUID == finding.axial.sop_instance_uid)
        directions = np.array(header.ImageOrientationPatient).reshape(2, 3)
        x, y, z = header.ImagePositionPatient + np.array(finding.axial.center_px) @ directions  # 1 mm pixels
        assert (x, y) == pytest.approx((SPINE.x, float(SPINE.canal_y(z))), abs=1.5)
    assert set(analysis.pictures.tiles) == set(Level)
    assert analysis.pictures.sagittal is not None


def test_the_canals_width_is_measured_with_its_uncertainty() -> None:
    for finding in _analyse(study(Spine())).report.findings:
        (width,) = finding.measurements
        assert (width.unit, width.uncertainty) == ("mm", 3.0)
        assert width.value == pytest.approx(16.0, abs=2.0)  # a tube of 8 mm radius in 1 mm pixels


def test_the_sagittal_picture_shows_true_points_and_true_planes() -> None:
    shown = _analyse(study(SPINE)).pictures.sagittal
    assert shown is not None
    for number, level in enumerate(reversed(Level)):
        _, y, z = SPINE.disc_point(number)
        assert shown.points_px[level] == pytest.approx((y + 70, 150 - z), abs=4)
        (x0, y0), (x1, y1) = shown.lines[level].start_px, shown.lines[level].end_px
        tilt = SPINE.tilt_of(number)
        assert x0 < x1
        assert (y1 - y0) / (x1 - x0) == pytest.approx(-tilt, abs=0.02)  # the front end lies lower
        middle = y0 + (y + 70 - x0) / (x1 - x0) * (y1 - y0)
        assert abs(middle - (150 - z)) <= 6  # a graded plane cuts within its neighbours of the disc
        assert not shown.lines[level].dashed


def test_pictures_are_made_again_from_the_stored_report_and_only_named_slices_are_read() -> None:
    images = study(SPINE)
    analysis = _analyse(images)
    read: list[str] = []
    watched = [SourceImage(header=image.header, read=_watch(image, read)) for image in images]
    again = pictures(from_json(to_json(analysis.report, 1)), watched)
    assert len(read) <= 2 * len(Level)
    for level, tile in analysis.pictures.tiles.items():
        assert np.array_equal(tile.pixels, again.tiles[level].pixels)
        assert tile.place == again.tiles[level].place
    assert again.sagittal is not None
    assert analysis.pictures.sagittal is not None
    assert again.sagittal.points_px == analysis.pictures.sagittal.points_px


def _watch(image: SourceImage, read: list[str]) -> Callable[[], Any]:
    def reader() -> Any:
        read.append(image.header.SOPInstanceUID)
        return image.read()

    return reader


def test_nothing_depends_on_uids_numbering_order_or_descriptions() -> None:
    usual = _analyse(study(SPINE)).report
    images = study(SPINE, SeriesDescription=None)
    random.Random(1).shuffle(images)
    for number, image in enumerate(images):
        image.header.InstanceNumber = number + 1
        image.header.SOPInstanceUID = f"2.25.{1000003 * (number + 1)}"
        image.header.SeriesInstanceUID = f"2.25.{image.header.SeriesInstanceUID[-1]}77"
    again = _analyse(images).report
    assert _grades(again) == _grades(usual)
    assert [f.point_mm for f in again.findings] == [f.point_mm for f in usual.findings]


def test_a_moved_origin_moves_the_points_and_nothing_else() -> None:
    images = study(SPINE)
    for image in images:
        image.header.ImagePositionPatient = [v + 50 for v in image.header.ImagePositionPatient]
    report = _analyse(images).report
    assert _grades(report) == GRADES
    _points_are_true(report, shift=(50, 50, 50))


@pytest.mark.parametrize("turned", [{"flipped": True}, {"upward": True}])
def test_stacks_in_the_other_direction_change_nothing(turned: dict[str, bool]) -> None:
    t2 = sagittal(SPINE, flipped=turned.get("flipped", False))
    blocks = [
        image
        for i, disc in enumerate((4, 3, 2, 1, 0))
        for image in axial_block(SPINE, disc, start=1 + 5 * i, upward=turned.get("upward", False))
    ]
    report = _analyse([*t2, *blocks]).report
    assert _grades(report) == GRADES
    _points_are_true(report)


def test_series_that_need_the_picture_to_be_told_apart() -> None:
    """No timing, no words: T1 and T2 sagittals are told apart by the canal, an axial T1 is not graded."""
    nameless: dict[str, Any] = {"EchoTime": None, "RepetitionTime": None, "SeriesDescription": None}
    images = [*study(SPINE, **nameless)]
    report = _analyse(images).report
    roles = {use.series_instance_uid: use.role for use in report.series}
    assert roles == {
        "1.2.3.1": SeriesRole.SAGITTAL_T2,
        "1.2.3.2": SeriesRole.AXIAL_T2,
        "1.2.3.3": SeriesRole.SAGITTAL_T1,
    }
    assert _grades(report) == GRADES
    dark = Spine(fluid=20.0)
    axial_t1 = [i for k, d in enumerate((2, 1, 0)) for i in axial_block(dark, d, start=1 + 5 * k, **nameless)]
    rejected = _analyse([*sagittal(SPINE), *axial_t1]).report
    assert rejected.status is Status.REJECTED
    assert rejected.reason is Reason.NO_AXIAL_T2


def test_a_level_without_axial_slices_is_not_imaged_and_the_rest_is_unchanged() -> None:
    whole = _analyse(study(SPINE)).report
    part = _analyse(study(SPINE, discs=(4, 3, 2, 1))).report
    assert part.findings[-1].abstained is Reason.NOT_IMAGED
    assert part.findings[-1].point_mm == whole.findings[-1].point_mm
    for before, after in zip(whole.findings[:-1], part.findings[:-1], strict=True):
        assert after == before


def test_without_a_sagittal_series_no_level_is_named() -> None:
    images = [image for image in study(SPINE) if image.header.SeriesInstanceUID == "1.2.3.2"]
    report = _analyse(images).report
    assert report.status is Status.REPORTED
    assert report.levels_from is None
    assert {finding.abstained for finding in report.findings} == {Reason.NO_SAGITTAL}


def test_a_sagittal_t1_names_the_levels_where_there_is_no_t2_and_none_is_graded() -> None:
    """Its points were seen 15 mm beside the canal: until a crop is checked, none comes from T1 alone."""
    images = [image for image in study(SPINE) if image.header.SeriesInstanceUID != "1.2.3.1"]
    report = _analyse(images).report
    _points_are_true(report)
    assert {(one.grade, one.abstained) for one in report.findings} == {(None, Reason.LEVELS_FROM_T1)}


def test_other_frames_of_reference_are_allowed_when_the_picture_agrees_and_said() -> None:
    images = study(SPINE)
    for image in images:
        image.header.FrameOfReferenceUID = f"1.2.3.4.{image.header.SeriesInstanceUID}"
    report = _analyse(images).report
    assert report.frame_of_reference_assumed
    assert _grades(report) == GRADES
    for image in images:
        if image.header.SeriesInstanceUID == "1.2.3.2":
            x, y, z = image.header.ImagePositionPatient
            image.header.ImagePositionPatient = [x + 18, y, z]
    moved = _analyse(images).report
    assert {finding.abstained for finding in moved.findings} == {Reason.POSITION_NOT_SHARED}


def test_the_same_shift_within_one_frame_of_reference_is_believed() -> None:
    assert not _analyse(study(SPINE)).report.frame_of_reference_assumed


@pytest.mark.parametrize(
    ("spine", "doubt"),
    [
        (Spine(lowest=-160.0), Reason.SACRUM_NOT_SHOWN),  # the picture ends above L5/S1
        (Spine(tilt=0.2), Reason.SACRUM_NOT_SHOWN),  # too little lordosis: not what it seems
        (Spine(count=4), Reason.LEVELS_INCOMPLETE),
        (Spine(remnant=25.0), Reason.TRANSITIONAL),
        (Spine(remnant=35.0), Reason.SIXTH_SEGMENT),
    ],
)
def test_doubt_about_the_count_is_said(spine: Spine, doubt: Reason) -> None:
    report = _analyse(study(spine)).report
    assert report.level_doubt is doubt
    assert report.level_name(Level.L5_S1) == "lowest disc"


def test_an_ordinary_remnant_between_s1_and_s2_raises_no_doubt() -> None:
    assert _analyse(study(Spine(remnant=12.0))).report.level_doubt is None


def test_t1_and_t2_that_name_different_levels_raise_doubt() -> None:
    t2 = study(SPINE)
    moved = replace(SPINE, lowest=SPINE.lowest + SPINE.spacing, fluid=150.0)
    t1 = sagittal(moved, "1.2.3.3", EchoTime=11.0, RepetitionTime=600.0)
    report = _analyse([i for i in t2 if i.header.SeriesInstanceUID != "1.2.3.3"] + t1).report
    assert report.level_doubt is Reason.SERIES_DISAGREE


@pytest.mark.parametrize(
    "spine",
    [
        Spine(spacing=18.0, depth=16.0, count=9),  # cervical: small and close together
        Spine(spacing=20.0, depth=22.0, count=9),  # upper thoracic
        Spine(spacing=25.0, depth=28.0, count=12, tilt=0.0, lowest=-160.0),  # lower thoracic: nearly as large
    ],
)
def test_a_spine_of_another_size_is_not_lumbar_whatever_the_tags_say(spine: Spine) -> None:
    report = _analyse(study(spine)).report
    assert report.status is Status.REJECTED
    assert report.reason is Reason.NOT_LUMBAR
    assert "discs" in report.reason_text


def test_no_spine_at_all_is_not_lumbar() -> None:
    report = _analyse(study(Spine(y=500.0))).report
    assert (report.status, report.reason) == (Status.REJECTED, Reason.NOT_LUMBAR)


def test_the_lumbar_check_by_picture_has_a_veto() -> None:
    class No:
        def lumbar_probability(self, slices: F32, spacing_mm: tuple[float, float]) -> float:  # noqa: ARG002  # the protocol's
            return 0.1

    report = analyse_study("1.2.3", study(SPINE), replace(parts(), lumbar_check=No())).report
    assert report.reason is Reason.NOT_LUMBAR


@pytest.mark.parametrize("place", [1, 3])
def test_the_worst_of_the_neighbours_counts(place: int) -> None:
    """Darkness that only the slice 4 mm above or below the disc's middle shows, not the one through it."""
    disc = 3  # not tilted: its point lies in the block's middle plane, slice 2
    assert SPINE.disc_point(disc) == SPINE.plane_point(disc)
    block = axial_block(SPINE, disc)
    beside = axial_block(replace(SPINE, dark={disc: 0.05}), disc)[place]
    images = [*sagittal(SPINE), *block[:place], beside, *block[place + 1 :]]
    finding = _analyse(images).report.findings[1]
    assert finding.grade == "Severe"
    assert finding.axial is not None
    assert finding.axial.sop_instance_uid == beside.header.SOPInstanceUID
    usual = _analyse([*sagittal(SPINE), *block]).report.findings[1]
    assert usual.grade == "Normal/Mild"


def test_a_distant_crop_and_an_uncertain_answer_are_not_graded() -> None:
    far = replace(parts(max_distance=1.0), grader=CoreGrader(lambda f: np.full(len(f), 2.0)))
    report = analyse_study("1.2.3", study(SPINE), far).report
    assert {finding.abstained for finding in report.findings} == {Reason.OUT_OF_DISTRIBUTION}
    unsure = _analyse(study(SPINE), uncertain_below=1.01).report
    assert {finding.abstained for finding in unsure.findings} == {Reason.UNCERTAIN}


@pytest.mark.parametrize("scale", [GradeScale.SCHIZAS_4, GradeScale.SCHIZAS_7, GradeScale.RSNA_3])
def test_schizas_grades_no_level_at_the_conus_and_rsna_does(scale: GradeScale) -> None:
    """CLINICAL.md 11, on a spine whose canal is dark at L1/L2, which RSNA calls Severe."""

    class Sure(CoreGrader):
        def predict_proba(self, features: F32, levels: Sequence[Level]) -> F64:  # noqa: ARG002  # the protocol's
            return np.repeat(np.eye(len(scale.grades))[-1:], len(levels), axis=0)

    used = replace(parts(), grader=Sure(), info=replace(parts().info, scale=scale))
    first, *others = analyse_study("1.2.3", study(Spine(dark={4: 0.1})), used).report.findings
    assert first.level is Level.L1_L2
    assert first.axial is not None, "it has its slice, to be looked at"
    schizas = scale is not GradeScale.RSNA_3
    assert (first.grade, first.abstained) == ((None, Reason.CORD_ON_SLICE) if schizas else ("Severe", None))
    assert (first.probabilities == {}) is schizas
    assert {one.grade for one in others} == {scale.grades[-1]}


def test_noise_withholds_the_grade_and_keeps_the_slice() -> None:
    images = study(SPINE)
    noise = np.random.default_rng(5)
    noisy = [
        SourceImage(header=image.header, read=_noisy(image, noise))
        if image.header.SeriesInstanceUID == "1.2.3.2"
        else image
        for image in images
    ]
    report = _analyse(noisy).report
    assert {finding.abstained for finding in report.findings} == {Reason.NOISE}
    assert all(finding.axial and finding.quality and not finding.quality.passed for finding in report.findings)


def _noisy(image: SourceImage, noise: np.random.Generator) -> Callable[[], Any]:
    def read() -> Any:
        whole = image.read()
        pixels = np.frombuffer(whole.PixelData, dtype=np.uint16).astype(np.float64)
        pixels += noise.normal(0, 400, pixels.shape)
        whole.PixelData = pixels.clip(0, 4095).astype(np.uint16).tobytes()
        return whole

    return read


def test_only_series_that_matter_are_decoded() -> None:
    read: list[str] = []
    flair = sagittal(SPINE, "1.2.3.7", SeriesDescription="localizer")
    watched = [SourceImage(header=i.header, read=_watch(i, read)) for i in [*study(SPINE), *flair]]
    assert _grades(_analyse(watched).report) == GRADES
    assert not any(uid.startswith("1.2.3.7") for uid in read)


def test_without_a_bundle_series_are_chosen_and_every_level_says_so() -> None:
    report = analyse_study("1.2.3", study(SPINE), None).report
    assert report.status is Status.REPORTED
    assert {finding.abstained for finding in report.findings} == {Reason.NO_BUNDLE}
    assert len(report.findings) == len(Level)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([], Reason.NO_MR_IMAGES),
        (sagittal(SPINE), Reason.NO_AXIAL_T2),
        ([*sagittal(SPINE), *axial_block(SPINE, 0)[:3]], Reason.TOO_FEW_SLICES),
        (study(SPINE, PatientAge="012Y"), Reason.UNDER_18),
        (study(SPINE, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), Reason.NO_MR_IMAGES),
    ],
)
def test_a_study_that_cannot_be_graded_says_why_with_and_without_a_bundle(
    images: Sequence[SourceImage], reason: Reason
) -> None:
    for bundle in (None, parts()):
        report = analyse_study("1.2.3", images, bundle).report
        assert (report.status, report.reason) == (Status.REJECTED, reason)
        assert report.reason_text
        assert report.findings == ()


def test_timings_come_from_the_given_clock_only() -> None:
    ticks = iter(np.arange(100.0))
    report = analyse_study("1.2.3", study(SPINE), parts(), AnalysisOptions(clock=lambda: float(next(ticks)))).report
    assert report.timings_ms == {"axial": 1000.0, "levels": 1000.0, "grade": 1000.0, "pictures": 1000.0}
    assert _analyse(study(SPINE)).report.timings_ms == {}


def test_the_worse_repeat_is_named_and_not_used() -> None:
    images = [*study(SPINE, SeriesTime="100000"), *axial_block(SPINE, 1, "1.2.3.8", SeriesTime="090000", **T2_TAGS)]
    report = _analyse(images).report
    reasons = {use.series_instance_uid: use.reason for use in report.series}
    assert reasons["1.2.3.8"] is Reason.NOT_BEST
    assert reasons["1.2.3.2"] is None


def test_a_second_axial_series_fills_in_the_levels_the_first_does_not_show() -> None:
    upper = [i for k, d in enumerate((4, 3)) for i in axial_block(SPINE, d, "1.2.3.8", start=1 + 5 * k)]
    report = _analyse([*study(SPINE, discs=(2, 1, 0)), *upper]).report
    assert _grades(report) == GRADES


def test_a_grade_that_one_of_nine_crops_gives_alone_is_not_the_grade() -> None:
    """The canal's centre is known to about a millimetre; what is said at one place and at none beside it is chance."""

    class Fickle(CoreGrader):
        def predict_proba(self, features: F32, levels: Sequence[Level]) -> F64:  # noqa: ARG002  # the protocol's
            p = np.repeat(np.array([[1.0, 0.0, 0.0]]), len(features), axis=0)
            p[4::9] = (0.0, 0.0, 1.0)  # the middle one of each slice
            return p

    findings = analyse_study("1.2.3", study(Spine()), replace(parts(), grader=Fickle())).report.findings
    assert [one.grade for one in findings] == ["Normal/Mild"] * 5
    assert [one.probabilities["Severe"] for one in findings] == pytest.approx([1 / 9] * 5)


def test_the_nine_crops_lie_a_millimetre_apart() -> None:
    class Watching(CoreEmbedder):
        def embed(self, crops: F32) -> F32:
            seen.extend(crops)
            return super().embed(crops)

    seen: list[F32] = []
    used = parts()
    analyse_study("1.2.3", study(Spine()), replace(used, embedder=Watching()))
    px = round(used.preprocessing.crop_px / used.preprocessing.crop_mm)
    assert px >= 1
    for number in range(0, len(seen), 9):
        first, middle, last = seen[number], seen[number + 4], seen[number + 8]
        assert np.median(np.abs(first[px:, px:] - middle[:-px, :-px])) < 0.02, "up and to the viewer's left"
        assert np.median(np.abs(last[:-px, :-px] - middle[px:, px:])) < 0.02
        assert np.abs(first[px:, px:] - middle[:-px, :-px]).mean() < 0.5 * np.abs(first - middle).mean()
