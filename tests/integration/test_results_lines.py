"""Lines of the graded planes on the sagittal picture: dashed where a level lies beside the slice (CLINICAL.md 21)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import builders_results as given
import numpy as np
import pytest
from analytic_spine import Spine, parts, study
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cauda.core.domain import Level
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.illustrate import pictures
from cauda.pipeline.results.sagittal import draw_sagittal

SLICE_MM = 4.0  # between the sagittal slices of `study`


@pytest.mark.parametrize(
    ("slices_away", "dashed"), [(0.0, False), (0.9, False), (-0.9, False), (1.1, True), (-2, True)]
)
def test_a_level_more_than_one_slice_away_has_a_dashed_line_and_the_others_have_not(
    slices_away: float, dashed: bool
) -> None:
    images = study(Spine())
    report = analyse_study("1.2.3", images, parts()).report
    shown, _ = Counter(one.sagittal.sop_instance_uid for one in report.findings if one.sagittal).most_common(1)[0]
    (header,) = (image.header for image in images if image.header.SOPInstanceUID == shown)
    beside = float(header.ImagePositionPatient[0]) + slices_away * SLICE_MM
    moved = []
    for one in report.findings:
        assert one.point_mm is not None
        x = beside if one.level is Level.L3_L4 else float(header.ImagePositionPatient[0])
        moved.append(replace(one, point_mm=(x, *one.point_mm[1:])))
    made = pictures(replace(report, findings=tuple(moved)), images).sagittal
    assert made is not None
    assert {level: line.dashed for level, line in made.lines.items()} == {
        level: dashed and level is Level.L3_L4 for level in Level
    }


def drawn(*dashed: Level) -> NDArray[np.int16]:
    """The sagittal picture alone, with these levels' lines dashed."""
    picture = given.sagittal_picture()
    lines = {level: replace(line, dashed=level in dashed) for level, line in picture.lines.items()}
    page = Image.new("RGB", (420, 480))
    report = given.report(*given.all_graded())
    draw_sagittal(page, (0, 0, 420, 480), report, report.findings, replace(picture, lines=lines))
    return np.asarray(page).astype(np.int16)


@pytest.mark.parametrize("level", Level)
def test_a_dashed_line_is_seen_to_have_gaps_and_only_it_has(level: Level) -> None:
    solid, broken = drawn(), drawn(level)
    gaps = np.abs(solid - broken).max(axis=2) > 40
    pieces, count = ndimage.label(gaps, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    assert count >= 6, "before and behind the canal"
    assert sizes.max() < sizes.sum() / 3, "gaps, and no line that is missing"
    rows, columns = np.nonzero(gaps)
    slope, offset = np.polyfit(columns, rows, 1)
    assert np.abs(rows - slope * columns - offset).max() < 4, "on one straight line"
    assert np.ptp(columns) > 100, "all along it"
