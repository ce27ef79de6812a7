"""Curves, slips and pinched canals: a graded crop shows the canal at its disc, or the level says that it does not.

The truth is the phantom's geometry, or a spine written down as formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from analytic_spine import GreyLocaliser, axial_block, sagittal
from analytic_spine import Spine as Formulas

import cauda.models.phantom.study
from cauda.core.domain import F64, Level, Point, Reason, Report, Volume
from cauda.models.bundle import load_bundle
from cauda.models.phantom.kinds import Kind
from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.study import Study, make_study
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.axial import AxialSlice, slices_at
from cauda.pipeline.canal import located
from cauda.pipeline.grade import findings, looks
from cauda.pipeline.levels import Levels, locate
from cauda.pipeline.parts import Parts
from cauda.pipeline.series import series
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import read_volumes

AT_DISC_MM = 8.5  # the worst of the slices within 5 mm of the level's point counts, and that is known to 3.5 mm
IN_CANAL_MM = 7.0  # from its middle; the crop is 64 mm wide


@pytest.fixture(scope="module")
def starter() -> Parts:
    """The bundle in the repository."""
    return load_bundle(Path(str(files("cauda.models"))) / "starter")


def phantom(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Spine], Spine], seed: int, vendor: str, axial_slices: int
) -> Study:
    """A sagittal and an axial T2 of a changed spine; the axial blocks are planned as for a straight one."""
    drawn = cauda.models.phantom.study.sample_spine
    monkeypatch.setattr(cauda.models.phantom.study, "sample_spine", lambda *a, **k: change(drawn(*a, **k)))
    protocol = Protocol(
        kinds=(Kind.SAGITTAL_T2, Kind.AXIAL_T2), balanced=True, vendor=vendor, axial_slices=axial_slices,
        syntax="1.2.840.10008.1.2.1",
    )  # fmt: skip
    return make_study(seed, 0, protocol, threads=1)


def curved(amplitude: float, phase: float) -> Callable[[Spine], Spine]:
    return lambda spine: replace(spine, sideways=np.array([amplitude, phase, 220.0]))


def slipped(level: Level, mm: float) -> Callable[[Spine], Spine]:
    def change(spine: Spine) -> Spine:
        narrowings = list(spine.narrowings)
        place = list(Level).index(level)
        narrowings[place] = replace(narrowings[place], slip=mm)
        return replace(spine, narrowings=tuple(narrowings))

    return change


def report_of(study: Study, parts: Parts) -> Report:
    return analyse_study("1.2.3", [SourceImage(header=i, read=lambda i=i: i) for i in study.images], parts).report


def misplaced(report: Report, study: Study) -> list[str]:
    """Graded levels whose slice lies off the disc or whose centre lies off the canal."""
    wrong = []
    for finding in report.findings:
        if finding.grade is None:
            continue
        assert finding.axial is not None
        image = next(i for i in study.images if i.SOPInstanceUID == finding.axial.sop_instance_uid)
        right, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        origin, normal = np.array(image.ImagePositionPatient, float), np.cross(right, down)
        col, row = np.array(finding.axial.center_px) * float(image.PixelSpacing[0])
        off_disc = abs(float(normal @ (origin - study.points_mm[finding.level])))
        s = np.arange(-260.0, 60.0, 0.5)
        body, arch = study.spine.slip(s)
        canal = np.array([study.spine.place(a, v=-b) for a, b in zip(s, (body + arch) / 2, strict=True)])
        middle = canal[np.abs((canal - origin) @ normal).argmin()]
        off_canal = float(np.linalg.norm(origin + col * right + row * down - middle))
        if off_disc > AT_DISC_MM or off_canal > IN_CANAL_MM:
            wrong.append(f"{finding.level.value}: {off_disc:.0f} mm off the disc, {off_canal:.0f} mm off the canal")
    return wrong


@pytest.mark.parametrize(
    ("level", "mm", "seed", "vendor"),
    [
        (Level.L3_L4, 10.0, 903, "hitachi"),
        (Level.L4_L5, 10.0, 904, "siemens"),
        (Level.L3_L4, 14.0, 906, "philips"),
        (Level.L4_L5, 14.0, 907, "hitachi"),
    ],
)
def test_a_slip_moves_no_level_off_its_disc_or_the_canal(
    level: Level, mm: float, seed: int, vendor: str, starter: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above and below a pinched canal its parts belong together; the slip itself is Severe and is not withheld."""
    study = phantom(monkeypatch, slipped(level, mm), seed, vendor, 5)
    report = report_of(study, starter)
    assert report.level_doubt is None
    assert misplaced(report, study) == []
    assert [finding.abstained for finding in report.findings] == [None] * len(Level)
    assert next(one.grade for one in report.findings if one.level is level) == "Severe"


@pytest.mark.parametrize(
    ("amplitude", "phase", "seed", "vendor", "slices", "graded"),
    [
        (12.75, 0.4, 11, "ge", 3, 5),  # 40 degrees, by Cobb's angle
        (28.0, 0.4, 11, "philips", 6, 1),  # 77 degrees
        (28.0, 2.0, 805, "ge", 3, 1),
        (28.0, 3.6, 808, "siemens", 6, 1),
    ],
)
def test_a_curve_is_followed_or_the_level_is_withheld(
    amplitude: float, phase: float, seed: int, vendor: str, slices: int, graded: int, starter: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    study = phantom(monkeypatch, curved(amplitude, phase), seed, vendor, slices)
    report = report_of(study, starter)
    assert misplaced(report, study) == []
    assert {one.abstained for one in report.findings} <= {None, Reason.CANAL_NOT_FOUND, Reason.UNCERTAIN}
    assert sum(one.grade is not None for one in report.findings) >= graded


def test_a_level_whose_crop_has_no_canal_is_named_with_the_slice_that_was_looked_at(
    starter: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The axial blocks of a spine bent by 77 degrees: its uppermost canal lies 10 mm beside the course."""
    report = report_of(phantom(monkeypatch, curved(28.0, 2.0), 805, "ge", 3), starter)
    first = report.findings[0]
    assert (first.grade, first.abstained) == (None, Reason.CANAL_NOT_FOUND)
    assert first.axial is not None
    assert Reason.CANAL_NOT_FOUND.text == "canal not found on this slice"


# --- one slice, and its centre moved


def scene(dark: float = 1.0) -> tuple[AxialSlice, Levels]:
    """The slice at the middle of a straight spine's L3/L4, whose canal is as dark there as said."""
    spine = Formulas(dark={2: dark})

    def volume(images: list[SourceImage]) -> Volume:
        return read_volumes(series(images)[0].frames).volumes[0]

    levels = locate(volume(sagittal(spine)), GreyLocaliser())
    assert levels is not None
    point = levels.discs[Level.L3_L4].point_mm
    return slices_at([volume(axial_block(spine, 2))], point, levels.canal_mm)[0], levels


def moved(one: AxialSlice, *, left: float = 0.0, back: float = 0.0) -> AxialSlice:
    x, y, z = np.asarray(one.center_mm) + left * np.array([1.0, 0, 0]) + back * _down(one)
    point: Point = (float(x), float(y), float(z))
    return replace(one, center_mm=point)


def _down(one: AxialSlice) -> F64:
    down = one.volume.affine[:3, 1]
    return np.asarray(down / np.linalg.norm(down), dtype=np.float64)


@pytest.mark.parametrize("dark", [1.0, 0.5, 0.1])
def test_a_crop_has_its_canal_however_dark_it_is(dark: float) -> None:
    one, levels = scene(dark)
    for off in (-2.0, 0.0, 2.0):
        assert located(moved(one, left=off), levels.line).canal_shown
        assert located(moved(one, back=off), levels.line).canal_shown


@pytest.mark.parametrize("mm", [-20.0, -15.0, -12.0, 12.0, 15.0, 20.0])
@pytest.mark.parametrize("dark", [1.0, 0.1])
def test_a_crop_beside_the_canal_before_or_behind_it_is_noticed(mm: float, dark: float) -> None:
    one, levels = scene(dark)
    assert not located(moved(one, left=mm), levels.line).canal_shown
    assert not located(moved(one, back=mm), levels.line).canal_shown


def test_each_rule_notices_a_wrong_crop_alone() -> None:
    one, levels = scene()
    everywhere = replace(levels.line, canal=np.ones_like(levels.line.canal))
    assert located(one, everywhere).canal_shown
    assert not located(moved(one, left=12.0), everywhere).canal_shown  # the body is symmetric elsewhere
    assert not located(moved(one, left=8.0), everywhere).canal_shown  # the refinement ends at its bound
    assert located(moved(one, back=12.0), everywhere).canal_shown  # only the sagittal map knows
    nowhere = replace(levels.line, canal=np.zeros_like(levels.line.canal))
    assert not located(one, nowhere).canal_shown


def test_neighbours_do_not_stand_in_for_the_slice_at_the_disc(starter: Parts) -> None:
    one, _ = scene()
    beside = replace(one, index=one.index + 1, distance_mm=one.distance_mm - 4.0)
    for nearest, other, graded in ((True, True, True), (True, False, True), (False, True, False)):
        slices = [replace(one, canal_shown=nearest), replace(beside, canal_shown=other)]
        found = looks(Level.L3_L4, slices, starter)
        finding = findings({Level.L3_L4: found}, starter)[Level.L3_L4]
        assert (finding.abstained is not Reason.CANAL_NOT_FOUND) is graded
