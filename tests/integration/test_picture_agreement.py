"""Position, scale and contrast of axial images are checked against the sagittal picture, whatever headers say.

The phantom's truth comes from its own geometry: what is changed here is what a header claims, never the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

import cauda.models.manifest
from cauda.core.domain import Level, Reason, Report, Status
from cauda.models.bundle import load_bundle
from cauda.models.phantom.kinds import Kind
from cauda.models.phantom.protocol import QUICK, Protocol
from cauda.models.phantom.study import Study, make_study
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.levels import Levels, locate
from cauda.pipeline.parts import Parts
from cauda.pipeline.placing import Placed, place
from cauda.pipeline.series import Acquisition, series
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import series_volumes

Change = Callable[[Dataset], object]


@dataclass(frozen=True, eq=False)
class _Given:
    """A phantom study, its levels, and its series as the pipeline reads them."""

    study: Study
    parts: Parts
    sagittal: Acquisition
    levels: Levels

    def images(self, *kinds: Kind) -> list[Dataset]:
        return [deepcopy(one) for one in self.study.images if self.study.kinds[one.SeriesInstanceUID] in kinds]

    def placed(self, change: Change, *, own_frame: bool = False, kind: Kind = Kind.AXIAL_T2) -> Placed:
        """The axial series after a change of every image of it."""
        images = self.images(kind)
        for image in images:
            change(image)
            if own_frame:
                image.FrameOfReferenceUID = "2.25.7"
        ((one,),) = (found.acquisitions for found in series(_sources(images)))
        return place(one, series_volumes(one.frames)[0], self.sagittal, self.levels)

    def report(self, change: Change, kind: Kind = Kind.AXIAL_T2) -> Report:
        """What the whole pipeline says of sagittal T2 and T1, and one changed axial series."""
        images = self.images(Kind.SAGITTAL_T2, Kind.SAGITTAL_T1)
        axial = self.images(kind)
        for image in axial:
            change(image)
        return analyse_study("1.2.3", _sources([*images, *axial]), self.parts).report


def _source(image: Dataset) -> SourceImage:
    return SourceImage(header=image, read=lambda: image)


def _sources(images: Sequence[Dataset]) -> list[SourceImage]:
    return [_source(image) for image in images]


@pytest.fixture(scope="module")
def given() -> _Given:
    protocol = Protocol(kinds=(*QUICK, Kind.AXIAL_T1), axial="stack", axial_spacing_mm=5.0, vendor="ge", balanced=True,
                        syntax="1.2.840.10008.1.2.1")  # fmt: skip
    made = make_study(302, 0, protocol, threads=1)
    parts = load_bundle(Path(cauda.models.manifest.__file__).parent / "starter")
    of_t2 = [one for one in made.images if made.kinds[one.SeriesInstanceUID] is Kind.SAGITTAL_T2]
    ((sagittal,),) = (found.acquisitions for found in series(_sources(of_t2)))
    levels = locate(series_volumes(sagittal.frames)[0][0], parts.localiser)
    assert levels is not None
    return _Given(study=made, parts=parts, sagittal=sagittal, levels=levels)


def _moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Change:
    def change(image: Dataset) -> None:
        image.ImagePositionPatient = [
            float(v) + by for v, by in zip(image.ImagePositionPatient, (x, y, z), strict=True)
        ]

    return change


def _spaced(row: float, column: float) -> Change:
    """Spacing said to be so many times the true one."""

    def change(image: Dataset) -> None:
        true_row, true_column = image.PixelSpacing
        image.PixelSpacing = [float(true_row) * row, float(true_column) * column]

    return change


def _centred(scale: float) -> Change:
    """Spacing that is not true, with the image's middle where it belongs."""

    def change(image: Dataset) -> None:
        right, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        row, column = (float(v) for v in image.PixelSpacing)
        half = right * column * (image.Columns - 1) / 2 + down * row * (image.Rows - 1) / 2
        image.ImagePositionPatient = (np.array(image.ImagePositionPatient, float) + half * (1 - scale)).tolist()
        image.PixelSpacing = [row * scale, column * scale]

    return change


def _inverted(image: Dataset) -> None:
    pixels = np.frombuffer(image.PixelData, np.int16)
    image.PixelData = (pixels.max() - pixels).astype(np.int16).tobytes()


def _called_t2(image: Dataset) -> None:
    image.SeriesDescription, image.ProtocolName = "Ax T2 frFSE", "Ax T2"
    image.EchoTime, image.RepetitionTime = 102, 3600


def _unchanged(_: Dataset) -> None:
    pass


@pytest.mark.parametrize("own_frame", [False, True])
@pytest.mark.parametrize("change", [_unchanged, _moved(z=3.0), _moved(x=3.0, y=-3.0)])
def test_images_in_their_place_are_used_and_a_few_millimetres_are_no_fault(
    given: _Given, change: Change, own_frame: bool
) -> None:
    placed = given.placed(change, own_frame=own_frame)
    assert placed.reason is None
    assert placed.assumed is own_frame


@pytest.mark.parametrize("own_frame", [False, True])
@pytest.mark.parametrize("mm", [-33, -16, -8, 10, 12, 40])
def test_images_displaced_along_the_spine_are_not_used(given: _Given, mm: float, own_frame: bool) -> None:
    """33 mm is a level: each would get its neighbour's grade. 8 mm shows the right level beside its disc."""
    assert given.placed(_moved(z=mm), own_frame=own_frame).reason is Reason.POSITION_NOT_SHARED


@pytest.mark.parametrize("own_frame", [False, True])
@pytest.mark.parametrize("change", [_moved(x=15.0), _moved(y=-12.0)])
def test_images_displaced_beside_the_spine_are_not_used(given: _Given, change: Change, own_frame: bool) -> None:
    assert given.placed(change, own_frame=own_frame).reason is Reason.POSITION_NOT_SHARED


def test_a_picture_that_verifies_no_position_is_not_taken_on_its_own_frame_of_reference(given: _Given) -> None:
    """Pixels in any order: nothing says where they lie."""
    draw = np.random.default_rng(8)

    def scattered(image: Dataset) -> None:
        image.PixelData = draw.permutation(np.frombuffer(image.PixelData, np.int16)).tobytes()

    assert given.placed(scattered, own_frame=True).reason is Reason.POSITION_NOT_SHARED


@pytest.mark.parametrize(
    "change",
    [_spaced(s, s) for s in (0.6, 1.3, 1.67)]
    + [_spaced(1.3, 1 / 1.3), _spaced(1 / 1.3, 1.3), *(_centred(s) for s in (0.6, 0.86, 1.16, 1.67))],
)
def test_axial_pixels_of_another_size_than_stated_are_not_graded_and_it_is_said(given: _Given, change: Change) -> None:
    assert given.placed(change).reason is Reason.PIXEL_SIZE_DOUBTFUL


def test_sagittal_pixels_of_another_size_than_stated_are_named(given: _Given) -> None:
    images = given.images(Kind.SAGITTAL_T2)
    for image in images:
        _spaced(0.88, 0.88)(image)
    ((sagittal,),) = (found.acquisitions for found in series(_sources(images)))
    levels = locate(series_volumes(sagittal.frames)[0][0], given.parts.localiser)
    assert levels is not None
    ((axial,),) = (found.acquisitions for found in series(_sources(given.images(Kind.AXIAL_T2))))
    placed = place(axial, series_volumes(axial.frames)[0], sagittal, levels)
    assert placed.reason is Reason.SAGITTAL_PIXEL_SIZE_DOUBTFUL


def test_t1_that_every_header_calls_t2_is_rejected(given: _Given) -> None:
    report = given.report(_called_t2, Kind.AXIAL_T1)
    assert (report.status, report.reason) == (Status.REJECTED, Reason.NO_AXIAL_T2)
    assert "T1-weighted" in report.reason_text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_inverted, Reason.GREY_VALUES_INVERTED),
        (_moved(z=33.0), Reason.POSITION_NOT_SHARED),
        (_spaced(1.3, 1.3), Reason.PIXEL_SIZE_DOUBTFUL),
    ],
)
def test_every_level_says_why_it_is_not_graded(given: _Given, change: Change, reason: Reason) -> None:
    report = given.report(change)
    assert report.status is Status.REPORTED
    assert {(finding.grade, finding.abstained) for finding in report.findings} == {(None, reason)}


def test_no_level_is_graded_at_a_point_that_came_from_t1_alone(given: _Given) -> None:
    images = given.images(Kind.SAGITTAL_T1, Kind.AXIAL_T2)
    report = analyse_study("1.2.3", _sources(images), given.parts).report
    assert report.status is Status.REPORTED
    assert {(finding.grade, finding.abstained) for finding in report.findings} == {(None, Reason.LEVELS_FROM_T1)}


def test_the_same_study_unchanged_is_graded(given: _Given) -> None:
    assert all(finding.grade for finding in given.report(_unchanged).findings)


@pytest.fixture(scope="module")
def blocks(given: _Given) -> _Given:
    """The same with an angled block of six slices at each disc."""
    protocol = Protocol(kinds=QUICK, vendor="siemens", balanced=True, syntax="1.2.840.10008.1.2.1")
    made = make_study(303, 0, protocol, threads=1)
    return _Given(study=made, parts=given.parts, sagittal=given.sagittal, levels=given.levels)


def _block(images: Sequence[Dataset], point_mm: Sequence[float]) -> list[Dataset]:
    """The images parallel to the one whose plane lies nearest to a point of the truth."""

    def away(image: Dataset) -> float:
        right, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        off = np.array(image.ImagePositionPatient, float) + 90 * (right + down) - point_mm  # about its middle
        return abs(float(np.cross(right, down) @ off)) + (1e3 if np.linalg.norm(off) > 60 else 0)

    turned = min(images, key=away).ImageOrientationPatient
    return [one for one in images if np.allclose(one.ImageOrientationPatient, turned, atol=1e-4)]


def _with_one_block(blocks: _Given, level: Level, change: Change) -> dict[Level, tuple[str | None, Reason | None]]:
    """Grade and reason of each level where one block of the axial series was changed."""
    axial = blocks.images(Kind.AXIAL_T2)
    some = _block(axial, blocks.study.points_mm[level])
    assert len(some) == 6
    for image in some:
        change(image)
    images = [*blocks.images(Kind.SAGITTAL_T2, Kind.SAGITTAL_T1), *axial]
    report = analyse_study("1.2.3", _sources(images), blocks.parts).report
    assert report.status is Status.REPORTED
    return {finding.level: (finding.grade, finding.abstained) for finding in report.findings}


@pytest.mark.parametrize(("level", "onto"), [(Level.L4_L5, Level.L3_L4), (Level.L2_L3, Level.L3_L4)])
def test_a_block_that_lies_elsewhere_than_the_others_gives_no_level_its_grade(
    blocks: _Given, level: Level, onto: Level
) -> None:
    """Said to be a segment away: it would give the neighbour its grade, and its own level is not "not imaged"."""
    as_it_is = _with_one_block(blocks, level, _unchanged)
    assert all(grade for grade, _ in as_it_is.values())
    by = np.subtract(blocks.study.points_mm[onto], blocks.study.points_mm[level])
    got = _with_one_block(blocks, level, _moved(*by))
    assert got == as_it_is | {level: (None, Reason.POSITION_NOT_SHARED)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_spaced(1.35, 1.35), Reason.PIXEL_SIZE_DOUBTFUL),
        (_centred(0.7), Reason.PIXEL_SIZE_DOUBTFUL),
        (_inverted, Reason.GREY_VALUES_INVERTED),
    ],
    ids=["larger", "smaller", "inverted"],
)
def test_one_block_that_is_not_what_it_says_is_not_graded(blocks: _Given, change: Change, reason: Reason) -> None:
    as_it_is = _with_one_block(blocks, Level.L3_L4, _unchanged)
    got = _with_one_block(blocks, Level.L3_L4, change)
    assert got == as_it_is | {Level.L3_L4: (None, reason)}
