"""What is asked of the ledger every second costs the same however many studies are kept.

Counted in the steps of SQLite's machine, which plans by the indexes there are; PostgreSQL plans by what it finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ledgers import FINGERPRINT, PACS, House
from sqlalchemy import event

from cauda.core import deliveries, listings, processes
from cauda.core.settings import Completeness
from cauda.listener import completeness

PATIENT = Completeness(after_release_s=1e8, quiet_s=1e8, hard_age_s=1e8)
UNDER_WAY = 5
ASKED: dict[str, Callable[[House], object]] = {
    "what is complete": lambda house: completeness.tick(house.ledger, PATIENT, FINGERPRINT),
    "what is due": lambda house: sum(processes.ring_due(house.ledger, lambda _: None, [PACS.name]).values()),
    "a revision to grade": House.claim,
    "a result to deliver": House.take,
    "a study to ask the archive about": lambda house: listings.take_due(house.ledger, every_s=1e8, most=UNDER_WAY),
}


def steps(house: House, asked: Callable[[House], object]) -> int:
    """How many instructions SQLite takes for a question that finds nothing to do."""
    count = 0

    def step() -> bool:
        nonlocal count
        count += 1
        return False  # go on

    def watch(connection: object, *_: object) -> None:
        connection.set_progress_handler(step, 1)  # type: ignore[attr-defined]  # a sqlite3.Connection

    event.listen(house.ledger.engine, "checkout", watch)
    assert not asked(house)
    event.remove(house.ledger.engine, "checkout", watch)
    house.ledger.engine.dispose()  # its connections count
    return count


@pytest.mark.parametrize("asked", ASKED)
def test_who_asks_passes_nothing_that_is_done_with(migrated_sqlite: Path, tmp_path: Path, asked: str) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "ledger.sqlite")
    house = House(url=f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    for number in range(UNDER_WAY):
        house.arrive(f"1.{number}", f"1.{number}.1")
    assert len(listings.take_due(house.ledger, every_s=1e8, most=UNDER_WAY)) == UNDER_WAY
    seen = []
    for start, end in ((0, 10), (10, 100)):
        for number in range(start, end):
            house.reported(f"2.{number}")
            while result := house.take():
                assert deliveries.accepted(house.ledger, result)
        seen.append(steps(house, ASKED[asked]))
    few, many = seen
    assert few > 0
    assert few == many
