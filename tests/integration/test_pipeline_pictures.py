"""The tiles' grey values, on a spine written down as formulas: what a tissue looks like on every level's picture."""

from __future__ import annotations

import pytest
from analytic_spine import CANAL, DISC, VERTEBRA, Spine, parts, study

from cauda.core.domain import F32, Level
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.pictures import Tile

SPINE = Spine(dark={1: 0.1})  # hardly any fluid at L4/L5


def tiles(**tags: float) -> dict[Level, Tile]:
    return dict(analyse_study("1.2.3", study(SPINE, **tags), parts()).pictures.tiles)


def at(tile: Tile, before_mm: float, left_mm: float = 0) -> float:
    """Mean grey of 2 mm so far before, and to the patient's left of, the point that was graded: the canal's."""
    column, row = (round(value) for value in tile.center_px)
    row -= round(before_mm / tile.mm_per_px)
    column += round(left_mm / tile.mm_per_px)
    reach = round(1 / tile.mm_per_px)
    part: F32 = tile.pixels[row - reach : row + reach, column - reach : column + reach]
    return float(part.mean())


def test_a_tile_shows_at_least_60_mm_with_square_pixels() -> None:
    for tile in tiles().values():
        assert tile.pixels.shape[0] == tile.pixels.shape[1]
        assert tile.pixels.shape[0] * tile.mm_per_px >= 60
        for inside, outside in (((14, 0), (9.5, 0)), ((25, 20), (25, 26)), ((25, -20), (25, -26))):
            assert at(tile, *inside) > 2 * at(tile, *outside), "a body begins 11 mm before the middle and is 46 wide"


def test_the_same_tissue_is_as_bright_on_every_tile_of_a_series() -> None:
    """Also where a level without fluid has little that is bright in it."""
    shown = tiles()
    disc = at(shown[Level.L1_L2], 25)
    assert at(shown[Level.L1_L2], 0) == pytest.approx(1, abs=0.02)
    vertebra = 1 - (CANAL - VERTEBRA) / (CANAL - DISC) * (1 - disc)
    for level in (Level.L2_L3, Level.L3_L4, Level.L5_S1):
        assert at(shown[level], 25) == pytest.approx(disc, abs=0.02)
    assert at(shown[Level.L4_L5], 25) == pytest.approx(vertebra, abs=0.02)  # the darkest slice is beside the disc
    assert at(shown[Level.L4_L5], 0) < disc


def test_a_stored_window_is_used() -> None:
    shown = tiles(WindowCenter=600, WindowWidth=1200)
    assert at(shown[Level.L1_L2], 0) == pytest.approx(CANAL / 1200, abs=0.02)
    assert at(shown[Level.L1_L2], 25) == pytest.approx(DISC / 1200, abs=0.02)


@pytest.mark.parametrize("window", [(10, 4), (5000, 2000), (0, 0)], ids=str)
def test_a_stored_window_that_shows_nothing_is_not(window: tuple[int, int]) -> None:
    """White, black or of no width."""
    center, width = window
    without, shown = tiles()[Level.L1_L2], tiles(WindowCenter=center, WindowWidth=width)[Level.L1_L2]
    assert at(shown, 25) == pytest.approx(at(without, 25), abs=0.001)
    assert 0.1 < at(shown, 25) < 0.6
