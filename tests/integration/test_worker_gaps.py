"""What is known to be missing from a study stands in its report, its SR and on its page, also when it is rejected."""

from __future__ import annotations

import subprocess
from pathlib import Path

import builders
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from worker_house import FINGERPRINT, house

from cauda.core import revisions
from cauda.core.domain import Reason
from cauda.core.gaps import Gap
from cauda.worker.grade import grade_next

pytestmark = pytest.mark.peers

GAPS = (Gap(reason=Reason.NO_ROOM, count=4), Gap(reason=Reason.ARRIVALS_LOST, count=2))
REFUSED = "4 images were refused for lack of disk space and not sent again"
LOST = "Images (at least 2) may be missing: a receiver stopped and what it received cannot be read"


def texts(items: Dataset) -> list[str]:
    """Every text value in an SR's tree."""
    return [str(element.value) for element in items.iterall() if element.keyword == "TextValue"]


def seen(page: Dataset, folder: Path) -> str:
    """What tesseract reads of a page, as one line."""
    Image.fromarray(page.pixel_array).resize((2 * page.Columns, 2 * page.Rows)).save(folder / "page.png")
    done = subprocess.run(["tesseract", folder / "page.png", "-", "--psm", "6"], check=True, capture_output=True)
    return " ".join(done.stdout.decode().split())


@pytest.mark.parametrize("axial", [12, 0])
def test_what_is_missing_is_said_where_people_read(tmp_path: Path, axial: int) -> None:
    at = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    uid = at.file(builders.mr_study(f"gaps {axial}", axial=axial))
    with at.ledger.write() as conn:
        revisions.freeze(at.ledger, conn, uid, reason="hard age", fingerprint=FINGERPRINT, missing=GAPS)
    assert grade_next(at.post())
    (row,) = at.rows("revision")
    assert row["state"] == ("reported" if axial else "rejected")
    assert row["report"]["flags"][:2] == [f"Incomplete: {REFUSED}.", f"Incomplete: {LOST}."]
    made = [dcmread(path) for path in at.outbox()]
    pages = [one for one in made if "PixelData" in one]
    documents = [one for one in made if "PixelData" not in one]
    assert len(pages) == 1
    assert REFUSED in seen(pages[0], tmp_path)
    assert len(documents) == bool(axial)
    for document in documents:
        assert f"Incomplete: {REFUSED}." in texts(document)


def test_what_came_meanwhile_is_not_said_to_be_missing_when_the_study_is_graded_again(tmp_path: Path) -> None:
    at = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    uid = at.file(builders.mr_study("gaps again"))
    with at.ledger.write() as conn:
        revisions.freeze(at.ledger, conn, uid, reason="hard age", fingerprint=FINGERPRINT, missing=GAPS)
    assert grade_next(at.post())
    at.freeze(uid)
    assert [one["reason"] for one in at.rows("revision")[-1]["gaps"]] == [Reason.ARRIVALS_LOST]
