"""What a C-STORE status means for a delivery (PS3.7 annex C, PS3.4 B.2.3)."""

from __future__ import annotations

import pytest

from cauda.archive.store_status import Meaning, meaning
from cauda.worker.abilities import Abilities
from cauda.worker.revision import sr_class

ROOT = "1.2.840.10008.5.1.4.1.1.88"


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


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "34"),
        ([None], "34"),
        ([("34", "33", "22")], "34"),
        ([("33", "22")], "33"),
        ([("34", "33"), ("33", "22")], "34"),
        ([("22",), None], "34"),
        ([("22",), ("33", "22")], "33"),
        ([(), ("33",)], "33"),
        ([("34",), ("22",)], "34"),
    ],
)
def test_the_best_sr_class_that_any_takes(taken: list[tuple[str, ...] | None], expected: str) -> None:
    archives = [
        one if one is None else Abilities(can_find=True, sop_classes=frozenset(f"{ROOT}.{end}" for end in one))
        for one in taken
    ]
    assert sr_class(archives) == f"{ROOT}.{expected}"
