"""The phantom's truth: places in millimetres, grades by geometry, valid DICOM, the same for the same seed."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from cauda.core.domain import Level
from cauda.models.phantom.anatomy import labels
from cauda.models.phantom.grading import cross_section, measure, truth
from cauda.models.phantom.imaging import Spoil
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.spine import Narrowing
from cauda.models.phantom.study import Protocol, Study, make_study
from cauda.models.phantom.tissue import Tissue
from cauda.models.phantom.vendors import VENDORS

SMALL = Protocol(sagittal_slices=3, axial_slices=1, spoil=Spoil(noise=0.005, bias=0.0, texture=0.0))


@cache
def small(seed: int = 5, vendor: str = "siemens") -> Study:
    return make_study(seed, protocol=replace(SMALL, vendor=vendor))


def series(study: Study, description: str) -> list[Dataset]:
    return [image for image in study.images if image.SeriesDescription == description]


def position(image: Dataset, point: tuple[float, float, float]) -> tuple[float, float, float]:
    """(row, column, distance) of a patient point on an image, by PS3.3 C.7.6.2.1.1 alone."""
    across, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    offset = np.array(point) - np.array(image.ImagePositionPatient, float)
    row_mm, col_mm = image.PixelSpacing
    return float(offset @ down / row_mm), float(offset @ across / col_mm), float(offset @ np.cross(across, down))


def test_the_canal_lies_where_the_truth_says_in_every_series() -> None:
    """In T2 the sac around the point is brighter than bone in front of it; in T1 it is darker."""
    study = small()
    checked = 0
    for description, brighter in (("t2_tse_sag", True), ("t2_tse_tra", True), ("t1_tse_sag", False)):
        for level in (Level.L2_L3, Level.L3_L4):
            nearest = min(series(study, description), key=lambda i: abs(position(i, study.points_mm[level])[2]))
            row, column, distance = position(nearest, study.points_mm[level])
            assert abs(distance) < 5.0
            pixels = nearest.pixel_array.astype(float)
            here = pixels[round(row) - 2 : round(row) + 3, round(column) - 2 : round(column) + 3].mean()
            x, y, z = study.points_mm[level]
            r, c, _ = position(nearest, (x, y - 20.0, z))
            before = pixels[round(r) - 2 : round(r) + 3, round(c) - 2 : round(c) + 3].mean()
            assert bool(here > before) is brighter
            checked += 1
    assert checked == 6


def test_truth_is_what_is_counted_on_the_label_map() -> None:
    spine = sample_spine(11)
    section = cross_section(spine, Level.L3_L4)
    found = truth(spine, Level.L3_L4)
    sac = sum(int((section == tissue).sum()) for tissue in (Tissue.CSF, Tissue.ROOT, Tissue.CORD))
    assert found.sac_mm2 == pytest.approx(sac * 0.16)
    assert found.csf_share == pytest.approx((section == Tissue.CSF).sum() / sac)


def test_taking_csf_away_never_makes_a_grade_milder() -> None:
    section = cross_section(sample_spine(11), Level.L3_L4)
    draw = np.random.default_rng(0)
    order = draw.permutation(np.argwhere(section == Tissue.CSF))
    grades, schizas = [], []
    for share in np.linspace(0, 1, 25):
        fewer = section.copy()
        gone = order[: int(share * len(order))]
        fewer[gone[:, 0], gone[:, 1]] = Tissue.FLAVUM
        grades.append(measure(fewer).rsna)
        schizas.append(measure(fewer).schizas)
    assert grades == sorted(grades)
    assert schizas == sorted(schizas)
    assert {0, 2} <= set(grades)


@pytest.mark.parametrize("cause", ["flavum", "bulge", "protrusion", "facet"])
def test_more_of_a_cause_narrows_the_sac(cause: str) -> None:
    spine = sample_spine(21)
    areas = []
    for more in np.linspace(0, 6, 7):
        narrow = replace(Narrowing(), **{cause: float(getattr(Narrowing(), cause) + more)})
        areas.append(truth(replace(spine, narrowings=(narrow,) * 5), Level.L4_L5).sac_mm2)
    assert all(a >= b - 0.5 for a, b in pairwise(areas))
    assert areas[-1] < 0.9 * areas[0]


def test_every_grade_occurs_and_mild_is_most_common_by_nature() -> None:
    counts = np.bincount([truth(sample_spine(s), level).rsna for s in range(40) for level in Level], minlength=3)
    assert counts[0] > 0.7 * counts.sum()
    balanced = [truth(sample_spine(s, balanced=True), level).rsna for s in range(20) for level in Level]
    assert set(balanced) == {0, 1, 2}


def test_curve_coordinates_come_back_from_the_patient() -> None:
    spine = sample_spine(3)
    for s, u, v in [(-80.0, 3.0, -10.0), (0.0, -6.0, 5.0), (-140.0, 0.0, 0.0)]:
        found = spine.coordinates(np.array([spine.place(s, u, v)]))
        assert np.allclose([found[2][0], found[0][0], found[1][0]], [s, u, v], atol=0.3)


def test_air_is_behind_the_skin_and_marrow_in_front_of_the_canal() -> None:
    spine = sample_spine(4)
    middle = (spine.level_s(Level.L3_L4) + spine.level_s(Level.L4_L5)) / 2
    points = np.array([spine.place(middle, v=120.0), spine.place(middle, v=-25.0)])
    assert labels(spine, points).tolist() == [Tissue.AIR, Tissue.MARROW]


def test_same_seed_same_bytes_and_another_seed_another_patient() -> None:
    again = make_study(5, protocol=SMALL)
    assert [i.PixelData for i in again.images] == [i.PixelData for i in small().images]
    assert [i.SOPInstanceUID for i in again.images] == [i.SOPInstanceUID for i in small().images]
    other = small(6)
    assert other.images[0].PatientID != again.images[0].PatientID
    assert other.images[0].PixelData != again.images[0].PixelData


def test_a_phantom_says_that_it_is_one() -> None:
    """CLINICAL.md 33."""
    for image in small().images:
        assert str(image.PatientName) == "PHANTOM^CAUDA"
        assert image.PatientID.startswith("CAUDA-TEST-")
        assert image.QualityControlImage == "YES"


@pytest.mark.peers
@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_dciodvfy_finds_no_error_in_any_vendors_image(vendor: str, tmp_path: Path) -> None:
    for image in small(5, vendor).images[:: len(small(5, vendor).images) // 3]:
        path = tmp_path / "image.dcm"
        image.save_as(path, enforce_file_format=True)
        said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert not [line for line in said.stderr.splitlines() if line.startswith("Error")], said.stderr
