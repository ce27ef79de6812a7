"""Level names when the localiser misses something: a disc in the middle, or the whole sacrum."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_spine import GreyLocaliser, Spine, sagittal

from cauda.core.domain import F32, Level, Reason, Volume
from cauda.pipeline.levels import Levels, locate
from cauda.pipeline.volume import volumes

SPINE = Spine()


class Blind(GreyLocaliser):
    """Takes one class for background, everywhere or between two rows."""

    def __init__(self, name: str, rows: tuple[int, int] = (0, 10_000)) -> None:
        self._index, self._rows = self.classes.index(name), slice(*rows)

    def segment(self, slices: F32, spacing_mm: tuple[float, float]) -> F32:
        """As it is seen, without that class."""
        answer = super().segment(slices, spacing_mm)
        unseen = answer[:, self._index, self._rows].copy()
        answer[:, self._index, self._rows] = 0
        answer[:, 0, self._rows] += unseen
        return answer


def _volume(spine: Spine = SPINE) -> Volume:
    (volume,) = volumes(sagittal(spine))
    return volume


def _levels(localiser: GreyLocaliser) -> Levels:
    levels = locate(_volume(), localiser)
    assert levels is not None
    return levels


@pytest.mark.parametrize("missed", [1, 2, 3])
def test_a_missed_middle_disc_leaves_its_own_level_empty_and_the_names_above_it_right(missed: int) -> None:
    """Counted without the gap, every name above would slip down by one level."""
    height = SPINE.disc_point(missed)[2]
    row = round(150 - height)  # the picture begins 150 mm above the table's middle, 1 mm a row
    levels = _levels(Blind("disc", (row - 20, row + 22)))
    order = list(reversed(Level))
    assert set(levels.discs) == set(Level) - {order[missed]}
    assert levels.doubt is Reason.LEVELS_INCOMPLETE
    for number, level in enumerate(order):
        if number != missed:
            assert np.linalg.norm(np.subtract(levels.discs[level].point_mm, SPINE.disc_point(number))) < 5.0, level


def test_a_spine_whose_sacrum_is_not_seen_is_in_doubt_though_it_is_lordotic() -> None:
    levels = _levels(Blind("sacrum"))
    lean = levels.discs[Level.L5_S1].tilt_deg - levels.discs[Level.L1_L2].tilt_deg
    assert lean < -20.0  # so that the rule about lordosis has no part in it
    assert len(levels.discs) == len(Level)
    assert levels.doubt is Reason.SACRUM_NOT_SHOWN


def test_a_spine_that_shows_everything_is_in_no_doubt() -> None:
    assert _levels(GreyLocaliser()).doubt is None
