"""What a C-STORE status means for a delivery (PS3.7 annex C, PS3.4 B.2.3)."""

from __future__ import annotations

import pytest

from cauda.worker.dimse import Meaning, meaning


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF), Meaning.ACCEPTED),
        ((0x0110, 0x0213, 0xA700, 0xA701, 0xA7FF, 0xFE00), Meaning.PASSING),
        ((0x0105, 0x0106, 0x0117, 0x0122, 0x0124, 0x0211, 0xA800, 0xA900, 0xA9FF, 0xC000, 0xCFFF), Meaning.REFUSED),
    ],
)
def test_each_status_has_one_meaning(statuses: tuple[int, ...], expected: Meaning) -> None:
    assert {meaning(status) for status in statuses} == {expected}
