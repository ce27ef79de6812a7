"""Studies as six makers' scanners send them: valid, true in millimetres, and understood by the pipeline."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from cauda.core import headers
from cauda.core.domain import F64, Level
from cauda.models.phantom.imaging import Spoil
from cauda.models.phantom.kinds import DIXONS, Kind
from cauda.models.phantom.protocol import FULL, Protocol
from cauda.models.phantom.study import Study, make_study
from cauda.models.phantom.syntaxes import SYNTAXES
from cauda.models.phantom.vendors import VENDORS
from cauda.pipeline.series import series
from cauda.pipeline.source import SourceImage

CLEAN = Spoil(noise=0.005, bias=0.0, texture=0.0)
SMALL = Protocol(kinds=FULL, companions=True, sagittal_slices=5, axial_slices=1, space_slices=12, coarse=2, spoil=CLEAN)
MR = {"1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"}
ENHANCED = pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
VENDOR = pytest.mark.parametrize("vendor", sorted(VENDORS))


@cache
def study(vendor: str, enhanced: bool) -> Study:  # without a default: the cache would tell it from its value
    return make_study(5, protocol=replace(SMALL, vendor=vendor, enhanced=enhanced))


def source(image: Dataset) -> SourceImage:
    return SourceImage(header=image, read=lambda: image)


def by_kind(one: Study) -> dict[str, list[Dataset]]:
    """The MR images of each kind; Dixon parts that share a series apart, by what Image Type says."""
    found = defaultdict(list)
    for image in one.images:
        if image.SOPClassUID in MR:
            found[str(one.kinds[image.SeriesInstanceUID])].append(image)
    return found


def planes(image: Dataset) -> list[tuple[F64, F64, F64, F64]]:
    """Position, directions along row and column, and (row, column) spacing of each frame, from the header alone."""

    def one(position: Dataset, orientation: Dataset, measures: Dataset) -> tuple[F64, F64, F64, F64]:
        across, down = np.array(orientation.ImageOrientationPatient, float).reshape(2, 3)
        return (np.array(position.ImagePositionPatient, float), across, down, np.array(measures.PixelSpacing, float))

    if "PerFrameFunctionalGroupsSequence" not in image:
        return [one(image, image, image)]
    shared = image.SharedFunctionalGroupsSequence[0]
    return [
        one(
            (item if "PlanePositionSequence" in item else shared).PlanePositionSequence[0],
            (item if "PlaneOrientationSequence" in item else shared).PlaneOrientationSequence[0],
            (item if "PixelMeasuresSequence" in item else shared).PixelMeasuresSequence[0],
        )
        for item in image.PerFrameFunctionalGroupsSequence
    ]


def shown_at(images: list[Dataset], point: tuple[float, float, float]) -> tuple[float, float]:
    """Grey around a patient point on the slice nearest to it, by PS3.3 C.7.6.2.1.1, and how far that slice is."""
    best: tuple[float, float] | None = None
    for image in images:
        pixels = image.pixel_array.reshape(-1, image.Rows, image.Columns)
        for frame, (position, across, down, spacing) in zip(pixels, planes(image), strict=True):
            offset = np.array(point) - position
            away = abs(float(offset @ np.cross(across, down)))
            row, column = round(float(offset @ down / spacing[0])), round(float(offset @ across / spacing[1]))
            if 2 <= row < image.Rows - 2 and 2 <= column < image.Columns - 2 and (best is None or away < best[1]):
                best = float(frame[row - 1 : row + 2, column - 1 : column + 2].mean()), away
    assert best is not None
    return best


# Whether the sac is brighter than the vertebra 20 mm in front of it.
BRIGHT_SAC = {
    Kind.SAGITTAL_T2: True, Kind.SAGITTAL_T1: False, Kind.SAGITTAL_STIR: True, Kind.AXIAL_T2: True,
    Kind.AXIAL_T1: False, Kind.DIXON_WATER: True, Kind.SPACE: True, Kind.SPACE_AXIAL: True,
    Kind.SAGITTAL_T1_CONTRAST: False,
}  # fmt: skip


@ENHANCED
@pytest.mark.parametrize("vendor", ["siemens", "philips", "ge"])
def test_a_point_in_millimetres_is_found_in_every_series(vendor: str, enhanced: bool) -> None:
    one = study(vendor, enhanced)
    kinds = by_kind(one)
    x, y, z = one.points_mm[Level.L3_L4]
    for kind, brighter in BRIGHT_SAC.items():
        images = kinds[kind]
        if kind is Kind.DIXON_WATER and VENDORS[vendor].dixon_together:
            images = [image for image in images if {"W", "WATER"} & set(image.ImageType)]
        sac, away = shown_at(images, (x, y, z))
        bone, _ = shown_at(images, (x, y - 20.0, z + 14.0))
        if kind in {Kind.AXIAL_T1, Kind.SAGITTAL_T1_CONTRAST}:  # no vertebra, or a dark one: brighter things there are
            bone = float(np.percentile(images[0].pixel_array, 97))
        assert away < 6.0
        assert (sac > bone) is brighter, kind


@pytest.mark.peers
@ENHANCED
@VENDOR
def test_dciodvfy_finds_no_error_in_any_class(vendor: str, enhanced: bool, tmp_path: Path) -> None:
    """One image of each SOP class, kind and image type."""
    seen: dict[tuple[str, ...], Dataset] = {}
    for image in study(vendor, enhanced).images:
        kind = study(vendor, enhanced).kinds.get(image.SeriesInstanceUID, "")
        seen.setdefault((image.SOPClassUID, kind, *image.get("ImageType", ())), image)
    assert len(seen) >= len(FULL) + 1
    for number, image in enumerate(seen.values()):
        path = tmp_path / f"{number}.dcm"
        image.save_as(path, enforce_file_format=True)
        said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, check=False)
        lines = said.stderr.decode(errors="replace").splitlines()
        assert lines, "dciodvfy says which class it saw"
        assert not [line for line in lines if line.startswith("Error")], (image.get("SeriesDescription"), lines)


# What each may be used for, after CLINICAL.md 1 and 6.
ROLES = {
    Kind.SURVEY: "other", Kind.SAGITTAL_T2: "sagittal_t2", Kind.SAGITTAL_T1: "sagittal_t1",
    Kind.SAGITTAL_STIR: "sagittal_t2", Kind.AXIAL_T2: "axial_t2", Kind.AXIAL_T1: "other",
    Kind.DIXON_WATER: "sagittal_t2", Kind.DIXON_FAT: "other", Kind.DIXON_IN: "sagittal_t2",
    Kind.DIXON_OPPOSED: "other", Kind.SPACE: "sagittal_t2", Kind.SPACE_AXIAL: "axial_t2",
    Kind.SAGITTAL_T1_CONTRAST: "other",
}  # fmt: skip


@ENHANCED
@VENDOR
def test_every_series_is_used_for_what_it_may_be(vendor: str, enhanced: bool) -> None:
    one = study(vendor, enhanced)
    uses = [each.use() for each in series([source(image) for image in one.images])]
    found = {use.series_instance_uid: use for use in uses}
    assert set(found) == set(one.kinds)
    said = {kind: (str(found[uid].role), found[uid].reason) for uid, kind in one.kinds.items()}
    assert {kind: role for kind, (role, _) in said.items()} == {kind: ROLES[kind] for kind in said}, said


@ENHANCED
@VENDOR
def test_the_listener_takes_no_series_for_input_that_is_none_and_misses_none(vendor: str, enhanced: bool) -> None:
    """Completeness waits for what `core.headers` calls input: it errs toward yes, and never misses a needed series."""
    one = study(vendor, enhanced)
    for image in one.images:
        kind = one.kinds.get(image.SeriesInstanceUID)
        role = headers.role(image)
        if kind is None:
            assert role is headers.Role.INERT
        elif kind in {Kind.SURVEY, Kind.AXIAL_T1}:
            assert not role.is_input, (kind, role)
        elif kind in {Kind.SAGITTAL_T2, Kind.SAGITTAL_STIR, Kind.SPACE}:
            assert role is headers.Role.SAGITTAL, (kind, role)
        elif kind in {Kind.AXIAL_T2, Kind.SPACE_AXIAL}:
            assert role is headers.Role.AXIAL, (kind, role)
        elif kind is Kind.SAGITTAL_T1:
            assert role is headers.Role.SAGITTAL_T1, (kind, role)


@cache
def slice_of(vendor: str, enhanced: bool, syntax: str) -> Dataset:
    few = Protocol(kinds=(Kind.AXIAL_T2,), axial_slices=1, coarse=4, spoil=CLEAN, enhanced=enhanced, vendor=vendor)
    return make_study(3, protocol=replace(few, syntax=syntax)).images[0]


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: UID(syntax).name)
def test_every_transfer_syntax_gives_the_same_pixels_back(syntax: str, enhanced: bool, tmp_path: Path) -> None:
    for vendor in ("siemens", "ge"):  # 12 bits unsigned, 16 bits signed
        plain, image = slice_of(vendor, enhanced, "1.2.840.10008.1.2.1"), slice_of(vendor, enhanced, syntax)
        image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
        back = dcmread(tmp_path / "image.dcm")
        assert back.file_meta.TransferSyntaxUID == syntax
        assert back.PatientName == plain.PatientName
        assert np.array_equal(back.pixel_array, plain.pixel_array)
        assert plain.pixel_array.std() > 10


@VENDOR
def test_whoever_sends_it_it_is_a_phantom(vendor: str, tmp_path: Path) -> None:
    """CLINICAL.md 33, also after the text went through the maker's character set."""
    for image in study(vendor, False).images:
        assert str(image.PatientName).startswith("PHANTOM^CAUDA")
        assert image.PatientID.startswith("CAUDA-TEST-")
        assert image.SOPClassUID not in MR or image.QualityControlImage == "YES"
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    back = dcmread(tmp_path / "image.dcm")
    assert back.StudyDescription == VENDORS[vendor].study
    assert str(back.PatientName) == VENDORS[vendor].patient


def test_dixon_parts_in_one_series_are_told_apart_in_any_order() -> None:
    """Philips sends all four as one series; no fat image is taken for T2, whatever comes first."""
    one = study("philips", False)
    images = [image for image in one.images if one.kinds.get(image.SeriesInstanceUID) is Kind.DIXON_WATER]
    assert {image.ImageType[2] for image in images} == {"W", "F", "IP", "OP"}
    for given in (images, images[::-1]):
        (found,) = series([source(image) for image in given])
        assert {frame.source.header.ImageType[2] for frame in found.frames} == {"W", "IP"}
        assert str(found.use().role) == "sagittal_t2"
        assert found.header.ImageType[2] == "W"


def test_dixon_parts_hold_what_their_names_say() -> None:
    """Fat under the skin is bright in the fat image and dark in the water image; the sac the other way round."""
    one = study("siemens", False)
    kinds = by_kind(one)
    x, y, z = one.points_mm[Level.L3_L4]
    sac = {kind: shown_at(kinds[kind], (x, y, z))[0] for kind in DIXONS}
    fat = {kind: shown_at(kinds[kind], (x, y + 60.0, z))[0] for kind in DIXONS}
    assert sac[Kind.DIXON_WATER] > 2 * sac[Kind.DIXON_FAT]
    assert fat[Kind.DIXON_FAT] > 2 * fat[Kind.DIXON_WATER]
    assert sac[Kind.DIXON_IN] > 0.5 * sac[Kind.DIXON_WATER]
