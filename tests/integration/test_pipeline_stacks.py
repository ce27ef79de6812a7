"""Which images are graded when series hold more than one plane or contrast, or one stack lies in several series.

The spine is written down as formulas. Each test's right value is the grade of the same spine in ordinary series.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analytic_spine import T1_TAGS, T2_TAGS, Spine, axial_block, multi_frame, parts, sagittal, slice_image
from pydicom import Dataset

from cauda.core.domain import Level, Reason, Report, SeriesRole, Status
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.source import SourceImage

SPINE = Spine(dark={1: 0.1})  # Severe at L4/L5
T1 = replace(SPINE, fluid=20.0, dark={})
GRADES = ["Normal/Mild", "Normal/Mild", "Normal/Mild", "Severe", "Normal/Mild"]
SERIES = "1.2.3.2"
DISCS = (4, 3, 2, 1, 0)
NAMELESS: dict[str, Any] = {"EchoTime": None, "RepetitionTime": None, "SeriesDescription": "Axial T2"}


def _report(images: Sequence[SourceImage]) -> Report:
    return analyse_study("1.2.3", images, parts()).report


def _grades(images: Sequence[SourceImage]) -> list[str | None]:
    return [finding.grade for finding in _report(images).findings]


def _axial(spine: Spine = SPINE, discs: Sequence[int] = DISCS, **tags: Any) -> list[SourceImage]:
    return [i for k, disc in enumerate(discs) for i in axial_block(spine, disc, SERIES, 1 + 5 * k, **tags)]


def _changed(images: Sequence[SourceImage], **tags: Any) -> list[SourceImage]:
    for image in images:
        for keyword, value in tags.items():
            setattr(image.header, keyword, value)
    return list(images)


def _in_one_series(*groups: Sequence[SourceImage], order: str) -> list[SourceImage]:
    """The images of several axial stacks under one Series Instance UID, with UIDs drawn at random."""
    draw = random.Random(7)
    images = [image for pair in zip(*groups, strict=True) for image in pair]
    if order == "appended":
        images = [image for group in groups for image in group]
    for number, image in enumerate(images, start=1):
        image.header.InstanceNumber = number
        image.header.SOPInstanceUID = f"2.25.{draw.getrandbits(90)}"
    return images


# --- planes


@pytest.mark.parametrize("strays", [1, 3])
@pytest.mark.parametrize("turned_deg", [0.0, 2.0])
@pytest.mark.parametrize("discs", [DISCS, (2, 1, 0)])
def test_sagittal_images_in_the_axial_series_are_no_axial_slices(
    strays: int, turned_deg: float, discs: Sequence[int]
) -> None:
    turn = np.radians(turned_deg)
    back = np.array([np.sin(turn), np.cos(turn), 0.0])
    pictures = [
        slice_image(
            SPINE, origin=(SPINE.x + 4.0 * k, -70, 150), right=back, down=(0, 0, -1), uid=f"9.{k}", series=SERIES,
            number=100 + k, shape=(300, 160), **T2_TAGS,
        )
        for k in range(strays)
    ]  # fmt: skip
    report = _report([*sagittal(SPINE), *_axial(discs=discs), *pictures])
    missing = len(DISCS) - len(discs)
    assert [finding.grade for finding in report.findings] == [None] * missing + GRADES[missing:]
    assert {finding.abstained for finding in report.findings[:missing]} <= {Reason.NOT_IMAGED}
    (use,) = [use for use in report.series if use.series_instance_uid == SERIES]
    assert {(stack.plane, stack.slices) for stack in use.stacks} == {("axial", 5 * len(discs)), ("sagittal", strays)}


def test_axial_reformats_in_the_sagittal_series_are_axial_images() -> None:
    series, description = "1.2.3.1", "t2_space_sag"
    reformats = _changed(
        _axial(), SeriesInstanceUID=series, SeriesDescription=description, ImageType=["DERIVED", "SECONDARY", "MPR"]
    )
    assert _grades([*sagittal(SPINE, SeriesDescription=description), *reformats]) == GRADES


def test_a_block_angled_to_a_steep_disc_is_axial() -> None:
    steep = Spine(tilt=1.15, dark={0: 0.1})  # L5/S1 lies 49 degrees off the table's plane
    report = _report([*sagittal(steep), *_axial(steep)])
    assert report.findings[-1].grade == "Severe"


def test_coronal_images_that_lean_are_graded_at_no_level() -> None:
    leaning = [
        slice_image(
            SPINE, origin=(-77, y, 40), right=(1, 0, 0), down=(0, np.sin(0.5), -np.cos(0.5)), uid=f"8.{k}", series="8",
            number=k, **T2_TAGS,
        )
        for k, y in enumerate(np.arange(-40.0, 60.0, 4.0))
    ]  # fmt: skip
    report = _report([*sagittal(SPINE), *_axial(discs=(1, 0)), *leaning])
    assert [finding.grade for finding in report.findings] == [None, None, None, "Severe", "Normal/Mild"]


@pytest.mark.parametrize("slices", [3, 4])
def test_a_series_for_each_disc_is_graded_as_one_series_of_all(slices: int) -> None:
    images = sagittal(SPINE)
    for disc in DISCS:
        block = axial_block(SPINE, disc, f"1.2.3.2{disc}")
        images += _changed(block[1 : 1 + slices], SeriesDescription=f"T2 TRA L{5 - disc}")
    report = _report(images)
    assert [finding.grade for finding in report.findings] == GRADES
    assert all(use.reason is None for use in report.series if use.role is SeriesRole.AXIAL_T2)


# --- contrasts


@pytest.mark.parametrize("disc_words", ["Axial T2", "t2_tse_tra", "T2W"])
@pytest.mark.parametrize("keyword", ["SeriesDescription", "ProtocolName"])
def test_t1_that_words_call_t2_is_rejected_by_picture(keyword: str, disc_words: str) -> None:
    axial = _axial(T1, **{**NAMELESS, "SeriesDescription": None, keyword: disc_words})
    report = _report([*sagittal(SPINE), *axial])
    assert (report.status, report.reason) == (Status.REJECTED, Reason.NO_AXIAL_T2)
    assert "look T1-weighted" in report.reason_text


def test_t1_that_states_the_echo_time_of_t2_is_rejected_by_picture() -> None:
    report = _report([*sagittal(SPINE), *_axial(T1)])
    assert (report.status, report.reason) == (Status.REJECTED, Reason.NO_AXIAL_T2)


def test_a_sagittal_t1_that_words_call_t2_is_none() -> None:
    dark = sagittal(replace(SPINE, fluid=150.0), "1.2.3.3", EchoTime=None, RepetitionTime=None, SeriesDescription="T2")
    report = _report([*dark, *sagittal(SPINE), *_axial()])
    roles = {use.series_instance_uid: use.role for use in report.series}
    assert (roles["1.2.3.1"], roles["1.2.3.3"]) == (SeriesRole.SAGITTAL_T2, SeriesRole.SAGITTAL_T1)


TELLING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "echo time": ({"EchoTime": 11.0}, {"EchoTime": 100.0}),
    "echo time, T2 first": ({"EchoTime": 100.0}, {"EchoTime": 11.0}),
    "acquisition number": ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
    "echo number": ({"EchoNumbers": 1}, {"EchoNumbers": 2}),
    "temporal position": ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
    "image type": ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "A"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "B"]}),
}  # fmt: skip


@pytest.mark.parametrize("telling", TELLING.values(), ids=TELLING)
@pytest.mark.parametrize("order", ["interleaved", "appended"])
def test_of_two_contrasts_in_one_series_the_t2_images_are_graded(
    telling: tuple[dict[str, Any], dict[str, Any]], order: str
) -> None:
    first, second = telling
    spines = (SPINE, T1) if first.get("EchoTime") == 100.0 else (T1, SPINE)
    images = _in_one_series(
        _changed(_axial(spines[0], **NAMELESS), **first), _changed(_axial(spines[1], **NAMELESS), **second), order=order
    )
    assert _grades([*sagittal(SPINE), *images]) == GRADES


@pytest.mark.parametrize("order", ["interleaved", "appended"])
@pytest.mark.parametrize("tags", [NAMELESS, {}], ids=["no timing", "one echo time"])
def test_of_two_contrasts_that_nothing_tells_apart_neither_is_graded(order: str, tags: dict[str, Any]) -> None:
    report = _report([*sagittal(SPINE), *_in_one_series(_axial(T1, **tags), _axial(**tags), order=order)])
    assert {finding.grade for finding in report.findings} <= {None}
    assert Reason.CONTRASTS_NOT_TOLD_APART.text in report.reason_text
    (use,) = [use for use in report.series if use.series_instance_uid == SERIES]
    assert use.reason is Reason.CONTRASTS_NOT_TOLD_APART


def test_t1_of_another_matrix_in_the_series_is_not_graded() -> None:
    """Nothing else tells them apart, and their slices share the T2 images' places."""
    other = [
        slice_image(
            replace(T1, dark={}), origin=image.header.ImagePositionPatient,
            right=image.header.ImageOrientationPatient[:3], down=image.header.ImageOrientationPatient[3:],
            uid=f"3.{number}", series=SERIES, number=number, shape=(200, 200), spacing=(0.8, 0.8), **NAMELESS,
        )
        for number, image in enumerate(_axial())
    ]  # fmt: skip
    report = _report([*sagittal(SPINE), *other, *_axial(**NAMELESS)])
    assert [finding.grade for finding in report.findings] == GRADES
    assert not any(finding.axial and finding.axial.sop_instance_uid.startswith("3.") for finding in report.findings)
    (use,) = [use for use in report.series if use.series_instance_uid == SERIES]
    assert {stack.reason for stack in use.stacks} == {None, Reason.NOT_T2}


def test_two_bright_contrasts_that_only_a_number_tells_apart_are_both_left() -> None:
    """Proton density shows bright fluid, too: which of the two is T2 cannot be known."""
    density = replace(SPINE, dark={}, marker=None)
    images = _in_one_series(
        _changed(_inverted_round_the_canal(_axial(density)), AcquisitionNumber=1),
        _changed(_axial(), AcquisitionNumber=2),
        order="appended",
    )
    report = _report([*sagittal(SPINE), *images])
    assert {finding.abstained for finding in report.findings} == {Reason.CONTRASTS_NOT_TOLD_APART}


def _inverted_round_the_canal(images: Sequence[SourceImage]) -> list[SourceImage]:
    """Other tissue contrast, the same bright fluid."""

    def inverted(image: SourceImage) -> SourceImage:
        def read() -> Dataset:
            whole = image.read()
            grey = np.frombuffer(whole.PixelData, dtype=np.uint16).astype(int)
            whole.PixelData = np.where(grey > 800, grey, 800 - grey).astype(np.uint16).tobytes()
            return whole

        return SourceImage(header=image.header, read=read)

    return [inverted(image) for image in images]


def test_images_that_were_stored_twice_are_one_contrast() -> None:
    assert _grades([*sagittal(SPINE), *_in_one_series(_axial(), _axial(), order="appended")]) == GRADES


@pytest.mark.parametrize("tags", [{"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, {"ComplexImageComponent": "PHASE"},
                                  {"ImageType": ["ORIGINAL", "PRIMARY", "I", "SE"]}])  # fmt: skip
def test_phase_real_and_imaginary_images_are_not_graded(tags: dict[str, Any]) -> None:
    phase = replace(SPINE, dark={4: 0.1, 3: 0.1, 2: 0.1, 1: 0.1, 0: 0.1}, fluid=2000.0)
    images = _in_one_series(_changed(_axial(phase), **tags), _axial(), order="interleaved")
    assert _grades([*sagittal(SPINE), *images]) == GRADES
    alone = _report([*sagittal(SPINE), *_changed(_axial(phase), **tags)])
    assert {finding.grade for finding in alone.findings} <= {None}


def test_the_frames_of_one_enhanced_image_are_told_apart_by_their_own_echo_time() -> None:
    frames = [image for pair in zip(_axial(T1), _axial(), strict=True) for image in pair]
    enhanced = multi_frame(frames)
    del enhanced.header.EchoTime
    for index, groups in enumerate(enhanced.header.PerFrameFunctionalGroupsSequence):
        echo = Dataset()
        echo.EffectiveEchoTime = 100.0 if index % 2 else 11.0
        groups.MREchoSequence = [echo]
    report = _report([*sagittal(SPINE), enhanced])
    assert [finding.grade for finding in report.findings] == GRADES
    assert all(finding.axial and finding.axial.frame % 2 == 0 for finding in report.findings)


@pytest.mark.parametrize("echo_ms", [11.0, 0.0])
def test_t1_slices_between_the_t2_slices_of_one_series_are_not_graded(echo_ms: float) -> None:
    """They lie on no T2 slice. Without an echo time they are images whose contrast is not known, and look dark."""
    shifted = replace(T1, lowest=T1.lowest + 2.0)
    between = _axial(shifted, EchoTime=echo_ms, RepetitionTime=600.0)
    images = _in_one_series(_axial(), between, order="interleaved")
    report = _report([*sagittal(SPINE), *images])
    assert [finding.grade for finding in report.findings] == GRADES
    shown = {image.header.SOPInstanceUID for image in images if image.header.EchoTime == 100.0}
    assert {finding.axial.sop_instance_uid for finding in report.findings if finding.axial} <= shown


def test_a_level_that_only_reformats_show_is_graded_from_them_and_they_are_stated() -> None:
    reformats = [
        image
        for disc in (1, 0)
        for image in axial_block(SPINE, disc, "7", 10 * disc, ImageType=["DERIVED", "SECONDARY", "MPR"])
    ]
    report = _report([*sagittal(SPINE), *_axial(discs=(4, 3, 2)), *reformats])
    assert [finding.grade for finding in report.findings] == GRADES
    assert any("reformats" in flag for flag in report.flags)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (T1_TAGS, Reason.NOT_T2),
        ({"ScanningSequence": "GR"}, Reason.GRADIENT_ECHO),
        (NAMELESS, Reason.NOT_T2),  # by picture
    ],
)
def test_a_level_whose_images_were_set_aside_says_why_and_is_not_called_not_imaged(
    tags: dict[str, Any], reason: Reason
) -> None:
    other = axial_block(T1, 0, "7", **tags)
    report = _report([*sagittal(SPINE), *_axial(discs=(3, 2, 1)), *other])
    assert [finding.abstained for finding in report.findings] == [Reason.NOT_IMAGED, None, None, None, reason]


# --- words of the exam


@pytest.mark.parametrize(
    "name",
    ["L SPINE ROUTINE + MYELO", "LUMBAR W/WO DWI", "L SPINE BIOPSY", "POST CONTRAST", "LWS NATIV + KM FS", "IRM MYELO",
     "Punktion LWS", "腰椎 造影", "L SPINE - AX MERGE OPTIONAL", "RM COLUMNA DIFUSION"],
)  # fmt: skip
def test_a_protocol_name_that_all_series_share_says_nothing_of_one(name: str) -> None:
    t1 = sagittal(replace(SPINE, fluid=150.0), "1.2.3.3", **T1_TAGS)
    images = _changed([*sagittal(SPINE), *t1, *_axial()], ProtocolName=name)
    report = _report(images)
    assert [finding.grade for finding in report.findings] == GRADES
    assert not any("contrast" in flag for flag in report.flags)


def test_words_of_its_own_still_exclude_a_series() -> None:
    images = _changed([*sagittal(SPINE), *_axial()], ProtocolName="L SPINE T2")
    for image in images:
        if image.header.SeriesInstanceUID == SERIES:
            image.header.ProtocolName = "L SPINE HASTE MYELO"
    report = _report(images)
    assert (report.status, report.reason) == (Status.REJECTED, Reason.NO_AXIAL_T2)


# --- uneven stacks


def _lost(*numbers: int) -> Callable[[list[SourceImage]], list[SourceImage]]:
    return lambda images: [image for n, image in enumerate(images) if n not in numbers]


def _stepped(mm: float) -> Callable[[list[SourceImage]], list[SourceImage]]:
    """Every other slice moved, with the picture that belongs there."""
    return lambda images: [
        slice_image(
            SPINE, origin=np.add(image.header.ImagePositionPatient, (mm * (n % 2), 0, 0)), right=(0, 1, 0),
            down=(0, 0, -1), uid=image.header.SOPInstanceUID, series="1.2.3.1", number=n, shape=(300, 160), **T2_TAGS,
        )
        for n, image in enumerate(images)
    ]  # fmt: skip


def _rounded(decimals: int) -> Callable[[list[SourceImage]], list[SourceImage]]:
    def change(images: list[SourceImage]) -> list[SourceImage]:
        for n, image in enumerate(images):
            x, y, z = image.header.ImagePositionPatient
            image.header.ImagePositionPatient = [round(x + 0.13 * n, decimals), round(y, decimals), round(z, decimals)]
        return images

    return change


UNEVEN = {
    "middle lost": _lost(6), "two lost": _lost(4, 8), "three lost": _lost(3, 6, 9), "two neighbours lost": _lost(6, 7),
    "0.6 mm": _stepped(0.6), "0.35 mm": _stepped(0.35), "whole mm": _rounded(0), "tenths": _rounded(1),
}  # fmt: skip


@pytest.mark.parametrize("change", UNEVEN.values(), ids=UNEVEN)
def test_an_uneven_sagittal_stack_names_the_levels_where_the_even_one_does(
    change: Callable[[list[SourceImage]], list[SourceImage]],
) -> None:
    report = _report([*change(sagittal(SPINE)), *_axial()])
    assert report.level_doubt is None
    assert [finding.grade for finding in report.findings] == GRADES
    for number, finding in enumerate(reversed(report.findings)):
        assert finding.point_mm is not None
        assert np.linalg.norm(np.subtract(finding.point_mm, SPINE.disc_point(number))) < 5.0, finding.level


@pytest.mark.parametrize("lost", [{1}, {3}, {1, 3}])
def test_axial_blocks_with_lost_slices_are_graded(lost: set[int]) -> None:
    axial = [i for disc in DISCS for n, i in enumerate(axial_block(SPINE, disc, SERIES, 10 * disc)) if n not in lost]
    assert _grades([*sagittal(SPINE), *axial]) == GRADES


# --- storage


def _stored(image: SourceImage, how: str) -> SourceImage:
    """The same picture with its rows or columns in the other order, or exchanged, and a header that says so."""
    header = copy.deepcopy(image.header)
    right, down = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    origin = np.array(header.ImagePositionPatient, dtype=float)
    row_mm, col_mm = header.PixelSpacing
    if how == "rows":
        header.ImagePositionPatient = list(origin + down * row_mm * (header.Rows - 1))
        header.ImageOrientationPatient = [*right, *-down]
    elif how == "columns":
        header.ImagePositionPatient = list(origin + right * col_mm * (header.Columns - 1))
        header.ImageOrientationPatient = [*-right, *down]
    else:
        header.ImageOrientationPatient = [*down, *right]
        header.PixelSpacing = [col_mm, row_mm]
        header.Rows, header.Columns = header.Columns, header.Rows

    def read() -> Dataset:
        whole = image.read()
        grey = np.frombuffer(whole.PixelData, dtype=np.uint16).reshape(image.header.Rows, image.header.Columns)
        turned = {"rows": grey[::-1], "columns": grey[:, ::-1]}.get(how, grey.T)
        whole.update(header)
        whole.PixelData = np.ascontiguousarray(turned).tobytes()
        return whole

    return SourceImage(header=header, read=read)


@pytest.mark.parametrize("which", ["sagittal", "axial", "both"])
@pytest.mark.parametrize("how", ["rows", "columns", "exchanged"])
def test_mirrored_and_transposed_storage_changes_no_point_and_no_grade(how: str, which: str) -> None:
    # An even number of slices, none of them in the canal's middle: no slice is nearest.
    spine = replace(SPINE, x=-2.0)
    sag, axial = sagittal(spine)[:12], _axial(spine)
    usual = _report([*sag, *axial])
    if which != "axial":
        sag = [_stored(image, how) for image in sag]
    if which != "sagittal":
        axial = [_stored(image, how) for image in axial]
    turned = _report([*sag, *axial])
    assert [f.grade for f in turned.findings] == [f.grade for f in usual.findings] == GRADES
    for before, after in zip(usual.findings, turned.findings, strict=True):
        assert before.axial is not None
        assert after.axial is not None
        assert after.point_mm == pytest.approx(before.point_mm, abs=1e-6)
        assert after.axial.sop_instance_uid == before.axial.sop_instance_uid
        assert list(after.probabilities.values()) == pytest.approx(list(before.probabilities.values()), abs=1e-4)
    assert set(Level) == {finding.level for finding in turned.findings}
