"""A house whose one study has been graded, made once a test run and copied: what deliverers start from."""

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
    """SR and SC are due to the destination `NAME` at this URL; time stands still unless the test moves it."""
    shutil.copytree(_template()[0], data, dirs_exist_ok=True)
    return house(data, simulated=True, destinations=[{"name": NAME, "url": url} | options], delivery=delivery or {})


def images() -> list[Dataset]:
    """The study's images."""
    return list(_template()[1])


def work(at: House, **settings: Any) -> int:
    """Deliver and confirm until nothing is due; returns the number of tries."""
    tries = 0
    while deliver_next(at.post(**settings)):
        tries += 1
        assert tries < 200
    return tries
