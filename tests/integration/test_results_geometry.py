"""What is drawn on the pictures: letters on their sides, bars of their length, and nothing over the canal.

Empty pictures are shown, so that all that is seen in them was drawn; letters are read by tesseract.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import builders_results as given
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cauda.core.domain import Level
from cauda.pipeline.pictures import PlaneLine, SagittalPicture
from cauda.pipeline.results.sagittal import draw_sagittal
from cauda.pipeline.results.tiles import draw_tile

pytestmark = pytest.mark.peers

SIDE, CAPTION = 190, 46  # of a tile on the page
WIDE, TALL, LINE = 370, 478, 26  # the sagittal picture, and the line above it
Grey = NDArray[np.uint8]


def axial(*, mm_per_px: float = 0.4, research: bool = False) -> Grey:
    """A tile without a picture in it."""
    page = Image.new("RGB", (SIDE, SIDE + CAPTION + 20))
    tile = given.tile(Level.L4_L5, 1.0, pixels=np.zeros((200, 200), np.float32), mm_per_px=mm_per_px,
                      center_px=(99.5, 99.5))  # fmt: skip
    draw_tile(page, (0, 0), SIDE, given.report(), given.graded(Level.L4_L5, "Severe"), tile, research=research)
    return np.asarray(page.convert("L"))[CAPTION : CAPTION + SIDE]


def across(picture: SagittalPicture) -> dict[Level, PlaneLine]:
    """One horizontal line through each point, so that names stand where they would without."""
    return {
        level: PlaneLine(start_px=(x - 90, y), end_px=(x + 60, y), dashed=False)
        for level, (x, y) in picture.points_px.items()
    }


def sagittal(picture: SagittalPicture) -> Grey:
    """As it stands on the page."""
    page = Image.new("RGB", (WIDE, TALL + LINE))
    draw_sagittal(page, (0, 0, WIDE, TALL + LINE), given.report(), given.all_graded(), picture)
    return np.asarray(page.convert("L"))[LINE:]


def empty_sagittal(*, mm_per_px: float = 0.8) -> SagittalPicture:
    picture = given.sagittal_picture()
    return replace(picture, pixels=np.zeros_like(picture.pixels), mm_per_px=mm_per_px)


def letter(part: Grey, tmp_path: Path) -> str:
    """The one letter there."""
    path = tmp_path / "letter.png"
    big = Image.fromarray(255 - part).resize((part.shape[1] * 4, part.shape[0] * 4), Image.Resampling.LANCZOS)
    Image.fromarray(np.pad(np.asarray(big), 40, constant_values=255)).save(path)
    return subprocess.run(
        ["tesseract", str(path), "-", "--psm", "6"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def longest_run(row: Grey) -> int:
    """Of bright pixels."""
    edges = np.flatnonzero(np.diff(np.pad((row > 200).astype(np.int8), 1)))
    return int(max((edges[1::2] - edges[::2]), default=0))


def bar(picture: Grey) -> int:
    """How long the longest line in its lowest tenth is, in pixels."""
    return max(longest_run(row) for row in picture[-len(picture) // 10 :])


def test_the_patients_right_is_named_on_the_left(tmp_path: Path) -> None:
    shown = axial()
    middle = slice(SIDE // 2 - 14, SIDE // 2 + 14)
    assert letter(shown[middle, :28], tmp_path) == "R"
    assert letter(shown[middle, -28:], tmp_path) == "L"


def test_anterior_is_named_left_and_the_head_above(tmp_path: Path) -> None:
    shown = sagittal(replace(empty_sagittal(), points_px={}, lines={}))
    middle = slice(TALL // 2 - 14, TALL // 2 + 14)
    assert letter(shown[middle, :28], tmp_path) == "A"
    assert letter(shown[middle, -28:], tmp_path) == "P"
    assert letter(shown[2:30, :28], tmp_path) == "H"
    assert letter(shown[-30:-2, :28], tmp_path) == "F"


@pytest.mark.parametrize("mm_per_px", [0.3, 0.4])
def test_the_bar_of_a_tile_is_20_mm_long(mm_per_px: float) -> None:
    """The tile's 200 pixels are shown over its side."""
    assert bar(axial(mm_per_px=mm_per_px)) == pytest.approx(20 / mm_per_px * SIDE / 200, abs=3)


@pytest.mark.parametrize("mm_per_px", [0.6, 0.8])
def test_the_bar_of_the_sagittal_picture_is_20_mm_long(mm_per_px: float) -> None:
    """Without levels all of its 320 pixels are shown, as tall as they fit."""
    picture = replace(empty_sagittal(mm_per_px=mm_per_px), points_px={}, lines={})
    zoom = min(TALL / 320, WIDE / 320)
    assert bar(sagittal(picture)) == pytest.approx(20 / mm_per_px * zoom, abs=3)


def test_nothing_is_drawn_over_the_sac_of_a_tile() -> None:
    """Within 12 mm of the point that was graded; a wide sac measures some 20 across."""
    shown = axial()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    near = np.hypot(rows - SIDE / 2, columns - SIDE / 2) < 12 / 0.4 * SIDE / 200
    assert not shown[near].any()
    assert shown[~near].any()


def test_no_line_is_drawn_over_the_canal() -> None:
    """A white disc of 10 mm around each level's point stays white, the lines stand before and behind it."""
    picture = empty_sagittal()
    rows, columns = np.mgrid[:320, :320]
    pixels = picture.pixels.copy()
    for x, y in picture.points_px.values():
        pixels[np.hypot(rows - y, columns - x) < 10 / 0.8] = 1
    with_discs = replace(picture, pixels=pixels, lines={})
    without, drawn = sagittal(with_discs), sagittal(replace(with_discs, lines=across(picture)))
    assert (without > 250).sum() > 5 * 1000
    assert (drawn[without > 250] > 250).all()
    for side in (slice(None, WIDE // 2), slice(WIDE // 2, None)):
        assert (drawn != without)[:, side].sum() > 500, "there are lines on either side"


def test_a_research_mark_stands_below_every_tile() -> None:
    page = Image.new("RGB", (SIDE, SIDE + CAPTION + 20))
    for research in (False, True):
        finding, tile = given.graded(Level.L4_L5, "Severe"), given.tile(Level.L4_L5, 1.0)
        draw_tile(page, (0, 0), SIDE, given.report(), finding, tile, research=research)
        below = np.asarray(page.convert("L"))[CAPTION + SIDE :]
        assert bool((below > 100).sum() > 50) is research
