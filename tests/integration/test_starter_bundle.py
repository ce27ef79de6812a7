"""The starter bundle: it grades lumbar phantoms, and nothing that is no lumbar spine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

import cauda.models.manifest
from cauda.core.domain import Reason, Report, Status
from cauda.models.bundle import load_bundle
from cauda.models.numbering import sagittal
from cauda.models.phantom.negatives import KINDS, negative_study
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.study import Protocol, make_study
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.levels import locate
from cauda.pipeline.parts import Parts
from cauda.pipeline.source import SourceImage

VENDORS = ("siemens", "ge", "philips", "hitachi")


@pytest.fixture(scope="module")
def starter() -> Parts:
    """The bundle in the repository."""
    return load_bundle(Path(cauda.models.manifest.__file__).parent / "starter")


def analysed(images: list[Dataset], parts: Parts) -> Report:
    def source(image: Dataset) -> SourceImage:
        return SourceImage(header=image, read=lambda: image)

    return analyse_study("1.2.3", [source(image) for image in images], parts).report


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_no_lumbar_spine_gets_no_grade_whatever_its_tags_say(kind: str, starter: Parts) -> None:
    report = analysed(negative_study(kind, 4), starter)
    assert (report.status, report.reason) == (Status.REJECTED, Reason.NOT_LUMBAR)
    assert report.reason_text
    assert not report.findings


def test_clean_phantoms_are_graded_without_doubt_at_the_right_places(starter: Parts) -> None:
    """Abstaining from everything is no answer: 95 % graded, none doubted, and each level where it truly is."""
    graded, apart = [], []
    for number, vendor in enumerate(VENDORS):
        study = make_study(501, number, Protocol(vendor=vendor, sagittal_slices=9, axial_slices=3))
        report = analysed(study.images, starter)
        assert report.level_doubt is None
        graded += [finding.grade is not None for finding in report.findings]
        apart += [
            float(np.linalg.norm(np.subtract(finding.point_mm, study.points_mm[finding.level])))
            for finding in report.findings
            if finding.point_mm is not None
        ]
    assert np.mean(graded) >= 0.95
    assert len(apart) == len(graded)
    assert max(apart) < 8.0


def test_a_disc_within_the_sacrum_puts_the_count_in_doubt(starter: Parts) -> None:
    """A transitional segment is common, a small remnant usual; a wrong level is a wrong operation (CLINICAL.md 9)."""
    doubts = {}
    for share in (0.3, 0.9):
        found = [
            locate(sagittal(replace(sample_spine(seed), remnant=(share, 31.0))), starter.localiser)
            for seed in range(740, 746)
        ]
        doubts[share] = [None if one is None else one.doubt for one in found]
    assert doubts[0.3].count(None) >= 5
    assert sum(one in {Reason.TRANSITIONAL, Reason.SIXTH_SEGMENT} for one in doubts[0.9]) >= 5
