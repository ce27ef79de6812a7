"""The phantom's truth: places in millimetres, grades by geometry, valid DICOM, the same for the same seed."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom import Dataset

from cauda.core.domain import GradeScale, Level
from cauda.models.phantom.anatomy import labels
from cauda.models.phantom.grading import cross_section, measure, truth
from cauda.models.phantom.imaging import Spoil
from cauda.models.phantom.kinds import Kind
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.spine import Narrowing, Spine
from cauda.models.phantom.study import Protocol, Study, make_study
from cauda.models.phantom.tissue import Labels, Tissue
from cauda.models.phantom.vendors import VENDORS

Mask = NDArray[np.bool_]
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
    upper, lower = (np.array(study.points_mm[level]) for level in (Level.L2_L3, Level.L3_L4))
    between = tuple(((upper + lower) / 2).tolist())  # beside the body of L3
    checked = 0
    for description, brighter in (("t2_tse_sag", True), ("t2_tse_tra", True), ("t1_tse_sag", False)):
        for level in (Level.L2_L3, Level.L3_L4):
            nearest = min(series(study, description), key=lambda i: abs(position(i, study.points_mm[level])[2]))
            row, column, distance = position(nearest, study.points_mm[level])
            assert abs(distance) < 5.0
            pixels = nearest.pixel_array.astype(float)
            here = pixels[round(row) - 2 : round(row) + 3, round(column) - 2 : round(column) + 3].mean()
            x, y, z = study.points_mm[level] if brighter else between
            r, c, _ = position(nearest, (x, y - 20.0, z))
            before = pixels[round(r) - 2 : round(r) + 3, round(c) - 2 : round(c) + 3].mean()
            assert bool(here > before) is brighter
            checked += 1
    assert checked == 6


def test_the_belly_is_saturated_on_a_siemens_and_shown_on_a_philips() -> None:
    """As SPIDER's sagittal T2 of both makers are; what shows more than the spine must not be taken for a fault."""
    share = {}
    for vendor in ("siemens", "philips"):
        study = small(vendor=vendor)
        middle = [image for image in study.images if study.kinds[str(image.SeriesInstanceUID)] is Kind.SAGITTAL_T2][1]
        pixels = middle.pixel_array.astype(float)
        _, column, _ = position(middle, study.points_mm[Level.L3_L4])
        front, spine = round(column - 90 / middle.PixelSpacing[1]), round(column - 60 / middle.PixelSpacing[1])
        share[vendor] = pixels[100:-100, front:spine].mean() / pixels[100:-100].mean()
    assert share["philips"] > 2 * share["siemens"]


def grown(mask: Mask, reach: float) -> Mask:
    """The pixels within ``reach`` pixels of the mask, by shifting it about."""
    n = int(reach)
    wide = np.pad(mask, n)
    found = np.zeros_like(mask)
    for i in range(-n, n + 1):
        for j in range(-n, n + 1):
            if i * i + j * j <= reach * reach:
                found |= wide[n + i : n + i + mask.shape[0], n + j : n + j + mask.shape[1]]
    return found


def counted(section: Labels, mm: float) -> tuple[int, str, dict[str, float]]:
    """Grades and sizes from the label map alone: the definitions once more, in other words."""
    csf, cord, root = (section == one for one in (Tissue.CSF, Tissue.CORD, Tissue.ROOT))
    sac, nerve = csf | cord | root, cord | root
    where = np.argwhere(sac)
    middle = where.mean(axis=0) if len(where) else np.array(section.shape) / 2
    calibre = [sac[:, j].sum() * mm for j in range(sac.shape[1]) if abs(j - middle[1]) * mm <= 2.0]
    resolved = grown(~grown(~csf, 0.6 / mm), 0.6 / mm)  # what of the CSF is as wide as a slice shows
    seen = resolved.sum() * mm * mm
    clear = resolved.sum() / max(resolved.sum() + nerve.sum(), 1)
    fat = (section == Tissue.EPIDURAL_FAT)[int(middle[0]) :].sum() * mm * mm
    sizes = {
        "sac_mm2": sac.sum() * mm * mm,
        "ap_mm": float(np.mean(calibre)),
        "csf_mm2": csf.sum() * mm * mm,
        "csf_share": csf.sum() / max(sac.sum(), 1),
        "seen_mm2": seen,
        "clear": clear,
        "back_fat_mm2": fat,
    }
    lost, partly = clear < 0.25 or seen < 14, clear < 0.50 or seen < 38 or sizes["ap_mm"] < 6.5
    apart, grainy = clear >= 0.42 and seen >= 20, sizes["csf_share"] >= 0.35 and sizes["csf_mm2"] >= 10
    return (2 if lost else 1 if partly else 0), "A" if apart else "B" if grainy else "C" if fat >= 6 else "D", sizes


def test_truth_is_what_is_counted_on_the_label_map() -> None:
    seen: set[tuple[int, str]] = set()
    for seed in range(24):
        spine = sample_spine(seed, balanced=True)
        for level in Level:
            rsna, schizas, sizes = counted(cross_section(spine, level), 0.4)
            found = truth(spine, level)
            assert (found.rsna, found.schizas) == (rsna, schizas)
            for name, value in sizes.items():
                assert getattr(found, name) == pytest.approx(value), name
            assert found.grade(GradeScale.RSNA_3) == ("Normal/Mild", "Moderate", "Severe")[rsna]
            assert found.grade(GradeScale.SCHIZAS_7)[0] == schizas
            seen.add((rsna, schizas))
    assert {grade for grade, _ in seen} == {0, 1, 2}
    assert {letter for _, letter in seen} == set("ABCD")


def drawn_sac(rootlets: list[tuple[int, int]]) -> Labels:
    """A round sac of 18 mm with rootlets at (back, left) millimetres of its middle."""
    rows, columns = (np.indices((90, 90)) - 45) * 0.4
    section = np.where(rows**2 + columns**2 < 81, int(Tissue.CSF), int(Tissue.EPIDURAL_FAT)).astype(np.uint8)
    for back, left in rootlets:
        section[(rows - back) ** 2 + (columns - left) ** 2 < 0.5] = Tissue.ROOT
    return section


@pytest.mark.parametrize(
    ("grade", "rootlets"),
    [
        ("A1", [(6, x) for x in range(-4, 5, 2)] + [(4, x) for x in range(-4, 5, 2)]),
        ("A2", [(y, side * 7) for y in range(-3, 5, 2) for side in (-1, 1)] + [(5, -5), (5, 5)]),
        ("A3", [(y, x) for y in range(-3, 8, 2) for x in range(-8, 9, 2) if x * x + y * y < 74]),
        ("A4", [(y, x) for y in range(-6, 7, 2) for x in range(-6, 7, 2) if x * x + y * y < 74]),
    ],
)
def test_how_rootlets_lie_in_a_wide_sac_is_told_apart_as_schizas_drew_it(
    grade: str, rootlets: list[tuple[int, int]]
) -> None:
    assert measure(drawn_sac(rootlets)).schizas_7 == grade


def narrowed(section: Labels, how: str) -> list[Labels]:
    """Ever less CSF: here and there at random, or from behind by flavum that grows."""
    csf = np.argwhere(section == Tissue.CSF)
    draw = np.random.default_rng(0)
    order = draw.permutation(csf) if how == "random" else csf[np.argsort(-csf[:, 0], kind="stable")]
    found = []
    for share in np.linspace(0, 1, 25):
        fewer = section.copy()
        gone = order[: int(share * len(order))]
        fewer[gone[:, 0], gone[:, 1]] = Tissue.FLAVUM
        found.append(fewer)
    return found


@pytest.mark.parametrize("how", ["random", "flavum"])
@pytest.mark.parametrize("seed", [11, 12, 13, 14])
def test_taking_csf_away_never_makes_a_grade_milder(how: str, seed: int) -> None:
    sections = narrowed(cross_section(sample_spine(seed), Level.L3_L4), how)
    for scale in (GradeScale.RSNA_3, GradeScale.SCHIZAS_4):
        grades = [scale.grades.index(measure(one).grade(scale)) for one in sections]
        assert grades == sorted(grades)
        assert grades[-1] >= len(scale.grades) - 2
    letters = [measure(one).schizas_7[0] for one in sections]
    assert letters == sorted(letters)


@pytest.mark.parametrize("cause", ["flavum", "bulge", "protrusion", "facet", "slip", "extrusion", "fat"])
def test_more_of_a_cause_narrows_the_sac(cause: str) -> None:
    spine = sample_spine(21)
    areas = []
    for more in np.linspace(0, 10 if cause == "slip" else 5, 6):  # the fat behind the sac gives way first
        narrow = replace(Narrowing(), **{cause: float(getattr(Narrowing(), cause) + more)})
        narrowings = (*(Narrowing(),) * 3, narrow, Narrowing())
        areas.append(truth(replace(spine, narrowings=narrowings), Level.L4_L5).sac_mm2)
    assert all(a >= b - 0.5 for a, b in pairwise(areas))
    assert areas[-1] < 0.9 * areas[0]


def test_a_fragment_pushes_rootlets_aside_and_destroys_none() -> None:
    """Focal herniation: the sac is dented, the rootlets are as many as before (CLINICAL.md 9: compression is local)."""
    spine = replace(sample_spine(21), narrowings=(Narrowing(),) * 5)
    dented = replace(spine, narrowings=(*(Narrowing(),) * 3, Narrowing(extrusion=4.5, extrusion_side=2.0), Narrowing()))
    before, after = (cross_section(one, Level.L4_L5) for one in (spine, dented))
    assert (after == Tissue.FRAGMENT).sum() * 0.16 > 25
    assert (after == Tissue.CSF).sum() < 0.85 * (before == Tissue.CSF).sum()
    assert (after == Tissue.ROOT).sum() > 0.75 * (before == Tissue.ROOT).sum()
    assert truth(dented, Level.L3_L4) == truth(spine, Level.L3_L4)


def test_a_vertebra_that_slips_takes_the_canal_above_along() -> None:
    """Listhesis: L4 stands forward of L5, and with it the canal above the disc, not the one below."""
    spine = sample_spine(21)
    slipped = replace(spine, narrowings=(*(Narrowing(),) * 3, Narrowing(slip=6.0), Narrowing()))
    straight = replace(spine, narrowings=(Narrowing(),) * 5)
    s = spine.level_s(Level.L4_L5)

    def front(one: Spine, at: float) -> float:
        """How far behind the curve the bone or disc in front of the canal ends."""
        line = np.arange(-20.0, 5.0, 0.1)
        found = labels(one, np.array([one.place(at, v=v) for v in line]))
        return float(line[np.isin(found, (Tissue.MARROW, Tissue.CORTEX, Tissue.FATTY_MARROW))].max())

    assert front(slipped, s - 12.0) == pytest.approx(front(straight, s - 12.0) - 6.0, abs=1.0)
    assert front(slipped, s + 12.0) == pytest.approx(front(straight, s + 12.0), abs=1.0)


def test_four_five_and_six_lumbar_vertebrae_occur_five_most_often() -> None:
    """Levels are counted from the sacrum: the lowest disc is L5/S1 whatever its vertebra is called."""
    spines = [sample_spine(seed) for seed in range(300)]
    counts = {n: sum(one.lumbar == n for one in spines) for n in (4, 5, 6)}
    assert 3 <= counts[4] <= 30
    assert 6 <= counts[6] <= 40
    assert counts[5] >= 240
    for spine in spines:
        assert len(spine.disc_s) == spine.lumbar + 2
        assert spine.level_s(Level.L5_S1) == max(spine.disc_s)
        found = labels(spine, np.array([spine.place(s, v=-spine.sac[0, 1] - 18) for s in spine.disc_s]))
        assert np.isin(found, (Tissue.NUCLEUS, Tissue.DRY_NUCLEUS, Tissue.ANNULUS)).all()


@pytest.mark.parametrize("tissue", [one for one in Tissue if one not in {Tissue.FRAGMENT, Tissue.FLUID, Tissue.GAS}])
def test_every_tissue_is_somewhere_in_a_body(tissue: Tissue) -> None:
    assert tissue in whole()


@cache
def whole() -> frozenset[int]:
    """The tissues of one body, on a coarse grid."""
    spine = sample_spine(2)
    x, y, z = np.meshgrid(np.arange(-190, 191, 5), np.arange(-140, 141, 2), np.arange(-160, 161, 4), indexing="ij")
    points = np.stack([x, y, z], axis=-1) + np.array(spine.centre)
    fine = np.stack([np.array(spine.place(s, u, v)) for s in np.arange(-120, 5, 1.0) for u in (-6.0, 0.0, 4.0, 12.0)
                     for v in np.arange(-20, 20, 1.0)])  # fmt: skip
    return frozenset(np.unique(labels(spine, points)).tolist()) | frozenset(np.unique(labels(spine, fine)).tolist())


@pytest.mark.gpu
def test_a_gpu_draws_the_same_body() -> None:
    """The processor's float32 and the GPU's may differ at an outline, nowhere else."""
    spine = sample_spine(6)
    points = np.stack(np.meshgrid(*(np.arange(-60, 60, 2.0),) * 3, indexing="ij"), axis=-1) + np.array(spine.centre)
    with pytest.MonkeyPatch.context() as patch:
        on_gpu = labels(spine, points)
        patch.setattr("cauda.models.phantom.anatomy.device", lambda: torch.device("cpu"))
        assert (labels(spine, points) == on_gpu).mean() > 0.999


def test_every_grade_occurs_and_mild_is_most_common_by_nature() -> None:
    counts = np.bincount([truth(sample_spine(s), level).rsna for s in range(40) for level in Level], minlength=3)
    assert counts[0] > 0.75 * counts.sum()
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
