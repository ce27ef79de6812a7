"""Houses with graded studies that send to one archive: what deliverers start from."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import builders
from pydicom import Dataset
from worker_house import House, house

from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

NAME = "pacs"
DAY_S = 86_400.0


@cache
def _template() -> tuple[Path, tuple[Dataset, ...]]:
    folder = Path(tempfile.mkdtemp(prefix="cauda-graded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    nobody = {"name": NAME, "url": "dimse://NOBODY@127.0.0.1:9"}
    at = house(folder / "data", simulated=True, destinations=[nobody])
    images = builders.mr_study("graded", axial=5, sagittal=5)
    at.complete(images)
    assert grade_next(at.post())
    at.ledger.engine.dispose()
    return folder / "data", tuple(images)


def graded_house(data: Path, url: str, *, delivery: dict[str, Any] | None = None, **options: Any) -> House:
    """One study's SR and SC are due to the destination `NAME` at this URL; time stands still unless the test moves it.

    Graded once a test run, and copied.
    """
    shutil.copytree(_template()[0], data, dirs_exist_ok=True)
    return house(data, simulated=True, destinations=[{"name": NAME, "url": url} | options], delivery=delivery or {})


def images() -> list[Dataset]:
    """The study's images."""
    return list(_template()[1])


def sending(data: Path, url: str, *, delivery: dict[str, Any] | None = None, **settings: Any) -> House:
    """A house without a study that sends to this URL and reads nothing back; time stands still as above."""
    unread = {"confirm_after_s": 1000 * DAY_S} | (delivery or {})
    return house(data, simulated=True, destinations=[url], delivery=unread, **settings)


def grade(at: House, seed: int = 1, **attributes: Any) -> list[Dataset]:
    """A study is filed, completed and graded; returns its images."""
    made = builders.mr_study(seed, **attributes)
    at.complete(made)
    assert grade_next(at.post())
    return made


def work(at: House, **settings: Any) -> int:
    """Deliver and confirm until nothing is due; returns the number of tries."""
    tries = 0
    while deliver_next(at.post(**settings)):
        tries += 1
        assert tries < 200
    return tries
