"""One real study, changed as archives and scanners change studies: each level keeps its grade, or says truly why not.

No rule and no limit was set on this study.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from cauda.core.domain import F64, Reason, Report, Status
from cauda.models.bundle import load_bundle
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.parts import Parts
from cauda.pipeline.source import SourceImage

pytestmark = pytest.mark.realdata

Images = list[SourceImage]
NEAR_MM = 7.0  # about a sagittal slice, its gap and the error in the slice's plane


def _study(folder: Path) -> Images:
    return [
        SourceImage(header=dcmread(path, stop_before_pixels=True), read=lambda path=path: dcmread(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _normal(image: SourceImage) -> F64:
    right, down = np.array(image.header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    return np.cross(right, down)


def _is_sagittal(image: SourceImage) -> bool:
    return bool(np.abs(_normal(image)).argmax() == 0)


def _sagittal_stacks(images: Images) -> list[Images]:
    uids = sorted({str(image.header.SeriesInstanceUID) for image in images if _is_sagittal(image)})
    stacks = [[image for image in images if image.header.SeriesInstanceUID == uid] for uid in uids]
    return [sorted(stack, key=lambda image: float(image.header.ImagePositionPatient[0])) for stack in stacks]


def _rounded(decimals: int) -> Callable[[Images], Images]:
    def change(images: Images) -> Images:
        for image in images:
            image.header.ImagePositionPatient = [round(float(v), decimals) for v in image.header.ImagePositionPatient]
        return images

    return change


def _alternating(mm: float) -> Callable[[Images], Images]:
    def change(images: Images) -> Images:
        for stack in _sagittal_stacks(images):
            for image in stack[1::2]:
                moved = np.array(image.header.ImagePositionPatient, dtype=float) + mm * np.abs(_normal(image))
                image.header.ImagePositionPatient = [round(float(v), 4) for v in moved]
        return images

    return change


def _without(places: Sequence[float]) -> Callable[[Images], Images]:
    """Without the sagittal slices at these shares of each stack."""

    def change(images: Images) -> Images:
        lost = {id(stack[round(share * (len(stack) - 1))]) for stack in _sagittal_stacks(images) for share in places}
        return [image for image in images if id(image) not in lost]

    return change


def _with_strays(count: int) -> Callable[[Images], Images]:
    """With sagittal pictures from the middle of a stack at the end of the axial series."""

    def change(images: Images) -> Images:
        axial = next(image for image in images if not _is_sagittal(image)).header
        stack = _sagittal_stacks(images)[0]
        strays = []
        for number, image in enumerate(stack[len(stack) // 2 :][:count]):
            header = copy.deepcopy(image.header)
            for keyword in ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "FrameOfReferenceUID"):
                if keyword in axial:
                    setattr(header, keyword, axial[keyword].value)
            header.SOPInstanceUID, header.InstanceNumber = f"2.25.{77000 + number}", 300 + number
            strays.append(SourceImage(header=header, read=image.read))
        return [*images, *strays]

    return change


def _mirrored(how: str) -> Callable[[Images], Images]:
    def turned(image: SourceImage) -> SourceImage:
        header = copy.deepcopy(image.header)
        right, down = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        origin = np.array(header.ImagePositionPatient, dtype=float)
        row_mm, col_mm = map(float, header.PixelSpacing)
        if how == "rows":
            origin, down = origin + down * row_mm * (header.Rows - 1), -down
        elif how == "columns":
            origin, right = origin + right * col_mm * (header.Columns - 1), -right
        else:
            right, down = down, right
            header.Rows, header.Columns = header.Columns, header.Rows
            header.PixelSpacing = [col_mm, row_mm]
        header.ImagePositionPatient = [float(v) for v in origin]
        header.ImageOrientationPatient = [float(v) for v in (*right, *down)]

        def read() -> Dataset:
            whole = image.read()
            whole.decompress()
            pixels = whole.pixel_array
            new = {"rows": pixels[::-1], "columns": pixels[:, ::-1]}.get(how, pixels.T)
            whole.Rows, whole.Columns = header.Rows, header.Columns
            whole.PixelData = np.ascontiguousarray(new).tobytes()
            return whole

        return SourceImage(header=header, read=read)

    return lambda images: [turned(image) for image in images]


def _analysed(images: Images, starter: Parts) -> Report:
    return analyse_study("1.2.3", images, starter).report


@pytest.fixture(scope="module")
def starter() -> Parts:
    """The bundle that is shipped."""
    return load_bundle(Path(str(files("cauda.models"))) / "starter")


@pytest.fixture(scope="module")
def usual(scanner_study: Path, starter: Parts) -> Report:
    report = _analysed(_study(scanner_study), starter)
    assert sum(finding.grade is not None for finding in report.findings) >= 4
    return report


CHANGES: dict[str, Callable[[Images], Images]] = {
    "positions in whole mm": _rounded(0),
    "positions in tenths of a mm": _rounded(1),
    "steps that differ by 1.2 mm": _alternating(0.6),
    "steps that differ by 0.7 mm": _alternating(0.35),
    "the middle slice lost": _without([0.5]),
    "two slices lost": _without([0.4, 0.6]),
    "three slices lost": _without([0.25, 0.45, 0.7]),
    "a sagittal picture among the axial ones": _with_strays(1),
    "three of them": _with_strays(3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_study_keeps_its_grades_and_points(
    change: Callable[[Images], Images], usual: Report, scanner_study: Path, starter: Parts
) -> None:
    report = _analysed(change(_study(scanner_study)), starter)
    assert report.status is Status.REPORTED
    assert report.level_doubt is usual.level_doubt
    for before, after in zip(usual.findings, report.findings, strict=True):
        # The only reasons that can be true of an image that is no worse than before.
        assert after.grade == before.grade or after.abstained in {Reason.UNCERTAIN, before.abstained}, before.level
        assert before.point_mm is not None
        assert after.point_mm is not None
        assert np.linalg.norm(np.subtract(after.point_mm, before.point_mm)) <= NEAR_MM, before.level


@pytest.mark.parametrize("how", ["rows", "columns", "exchanged"])
def test_mirrored_and_transposed_storage_changes_nothing(
    how: str, usual: Report, scanner_study: Path, starter: Parts
) -> None:
    report = _analysed(_mirrored(how)(_study(scanner_study)), starter)
    for before, after in zip(usual.findings, report.findings, strict=True):
        assert before.axial is not None
        assert after.axial is not None
        assert (after.grade, after.abstained) == (before.grade, before.abstained)
        assert after.point_mm == pytest.approx(before.point_mm, abs=0.01)
        assert after.axial.sop_instance_uid == before.axial.sop_instance_uid
        assert after.probabilities == pytest.approx(before.probabilities, abs=0.01)
