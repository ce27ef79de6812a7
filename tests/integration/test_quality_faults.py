"""A fault at one level withholds that level for its reason and no other; `spoilers` makes the faults, not Cauda."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import spoilers
from PIL import Image
from pydicom import Dataset
from spoilers import Picture

import cauda.models.manifest
from cauda.core.domain import Finding, Level, Reason
from cauda.models.bundle import load_bundle
from cauda.models.phantom.study import Protocol, make_study
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.artefacts import RESTLESS_MAX, restless
from cauda.pipeline.parts import Parts
from cauda.pipeline.source import SourceImage

SPOILED = Level.L3_L4


@pytest.fixture(scope="module")
def starter() -> Parts:
    return load_bundle(Path(cauda.models.manifest.__file__).parent / "starter")


@cache
def images() -> tuple[Dataset, ...]:
    """As they come: the axial T2 is five blocks of three slices, head to feet."""
    return tuple(make_study(4711, 0, Protocol(sagittal_slices=9, axial_slices=3)).images)


def axial(image: Dataset) -> bool:
    return abs(float(image.ImageOrientationPatient[0])) > 0.9


def source(image: Dataset) -> SourceImage:
    return SourceImage(header=image, read=lambda: image)


def findings(parts: Parts, spoil: Callable[[Picture], Picture], numbers: range) -> dict[Level, Finding]:
    """What is found when the axial slices of these numbers, from 0, are spoiled."""
    found = []
    stack = sorted((one for one in images() if axial(one)), key=lambda one: int(one.InstanceNumber))
    spoiled = {stack[number].SOPInstanceUID for number in numbers}
    for image in images():
        one = Dataset()
        one.update(image)
        one.file_meta = image.file_meta
        if image.SOPInstanceUID in spoiled:
            pixels = spoil(image.pixel_array.astype(np.float64)).clip(0, 4095).round().astype("<u2")
            one.Rows, one.Columns = pixels.shape
            cut = (image.Columns - one.Columns) // 2
            across = np.array(image.ImageOrientationPatient[:3], float) * float(image.PixelSpacing[1])
            one.ImagePositionPatient = [
                round(float(v), 6) for v in np.array(image.ImagePositionPatient, float) + cut * across
            ]
            one.PixelData = pixels.tobytes()
        found.append(one)
    report = analyse_study("1.2.3", [source(one) for one in found], parts).report
    return {finding.level: finding for finding in report.findings}


def test_a_level_that_moved_is_withheld_and_the_others_are_graded_as_before(starter: Parts) -> None:
    before = findings(starter, lambda still: still, range(0))
    after = findings(starter, lambda still: spoilers.moved(still, 0.6, 3.0, np.random.default_rng(8)), range(6, 9))
    assert after[SPOILED].abstained is Reason.MOTION, after[SPOILED].quality
    assert after[SPOILED].grade is None
    for level in set(Level) - {SPOILED}:
        assert before[level].grade is not None
        assert after[level].grade == before[level].grade


def test_a_level_that_is_withheld_says_that_severe_stenosis_is_not_excluded() -> None:
    for reason in (Reason.MOTION, Reason.WRAP, Reason.NOISE):
        assert reason.text.endswith("Severe stenosis not excluded")


@pytest.mark.parametrize("depth_mm", [1.5, 3.0, 5.0])
def test_motion_is_seen_whichever_way_phase_was_encoded(depth_mm: float) -> None:
    """Turning the picture turns phase and frequency; a still picture stays still."""
    block = [image.pixel_array.astype(np.float64) for image in images() if axial(image)][::3]
    for turned in (False, True):
        seen = 0
        for number, still in enumerate(block):
            picture = spoilers.moved(still, 0.6, depth_mm, np.random.default_rng(number))
            for shown, expected in ((still, False), (picture, True)):
                found = restless(np.float32(shown.T if turned else shown))
                assert found is not None
                seen += (found > RESTLESS_MAX) == expected
        assert seen >= 2 * len(block) - 1


@pytest.mark.realdata
def test_real_pictures_hardly_ever_look_moved(realdata: Path) -> None:
    """SPIDER: real anatomy, other scanners, other matrices than a phantom has."""
    found = [
        restless(np.asarray(Image.open(path).convert("L"), np.float32))
        for path in sorted((realdata / "spider" / "stills").rglob("*_t2.jpg"))
    ]
    known = [one for one in found if one is not None]
    assert len(known) >= 150
    assert sum(one > RESTLESS_MAX for one in known) <= 0.02 * len(known)
