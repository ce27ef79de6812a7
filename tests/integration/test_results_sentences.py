"""Sentences of CLINICAL.md 9, 10, 11, 15, 22 and 31 as they are written there, in what readers get.

They are written out here: a test that takes them from the product agrees with whatever stands there.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import builders
import builders_results as given
import pytest
from analytic_spine import Spine, parts, study
from graded import graded_house, images, work
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from scripted_archive import archive
from worker_house import house

from cauda.core import retractions
from cauda.core.domain import Level, Reason, Report
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.results.page import render_page
from cauda.pipeline.results.secondary_capture import secondary_capture
from cauda.pipeline.results.structured_report import structured_report
from cauda.worker.grade import grade_next

NUMBERING = "Levels counted up from the sacrum, assuming five lumbar vertebrae; check against your own count."
FOOTER = (
    "Central canal only. Not assessed: lateral recess, foramen, herniation, fracture, tumour, infection, conus, "
    "alignment. No result is not a normal result. Cauda sends no alerts."
)
NOT_COUNTED = "no sagittal series"
CONUS = "NOT GRADED: cord/conus on this slice"
RETRACTED = "RETRACTED: DO NOT USE"
BY_HAND = "still visible in PACS, delete by hand"


def texts(dataset: Dataset) -> str:
    """All text of a report, as it stands in the file."""
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue().decode("latin-1")


def read(pixels: NDArray[object] | Image.Image, tmp_path: Path) -> str:
    """What tesseract reads at twice the size; without blanks, of which it loses some."""
    page = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    path = tmp_path / "page.png"
    page.resize((page.width * 2, page.height * 2)).save(path)
    done = subprocess.run(
        ["tesseract", str(path), "-", "--psm", "6"], capture_output=True, text=True, check=True, timeout=120
    )
    return squeezed(done.stdout)


def squeezed(text: str) -> str:
    return "".join(text.split())


def both(report: Report, tmp_path: Path) -> tuple[str, str]:
    """What the SR holds, and what is read on the page."""
    sr = structured_report(report, given.sources(), given.context())
    return texts(sr), read(render_page(report, given.pictures(), given.context()), tmp_path)


@pytest.mark.peers
def test_the_count_is_explained_and_the_footer_stands_on_report_and_page(tmp_path: Path) -> None:
    written, seen = both(given.report(*given.all_graded()), tmp_path)
    assert NUMBERING in written
    assert FOOTER in written
    assert squeezed(NUMBERING) in seen
    for sentence in FOOTER.split(". "):
        assert squeezed(sentence) in seen


@pytest.mark.peers
def test_a_bundle_with_a_footer_of_its_own_has_that_on_report_and_page_and_no_other(tmp_path: Path) -> None:
    """CLINICAL.md 15: the footer comes from the bundle's conditions."""
    own = "Central canal at L4/L5 only. Nothing else was looked at. Cauda sends no alerts."
    report = given.report(*given.all_graded(), bundle=replace(given.bundle(), footer=own))
    written, seen = both(report, tmp_path)
    assert own in written
    assert squeezed(own) in seen
    other = "Not assessed: lateral recess"
    assert other not in written
    assert squeezed(other) not in seen


@pytest.mark.peers
def test_a_level_at_the_conus_says_so(tmp_path: Path) -> None:
    first, *others = given.all_graded()
    report = given.report(given.not_graded(first.level, Reason("cord_on_slice")), *others)
    written, seen = both(report, tmp_path)
    assert CONUS in written
    assert squeezed(CONUS) in seen
    assert squeezed(CONUS) not in both(given.report(*given.all_graded()), tmp_path)[1]


@pytest.mark.peers
def test_without_a_sagittal_series_no_level_is_named_by_guess(tmp_path: Path) -> None:
    """From images, of which only the axial ones came, to report and page."""
    came = [image for image in study(Spine()) if image.header.ImageOrientationPatient[0] == 1]
    analysis = analyse_study("1.2.3", came, parts())
    sr = structured_report(analysis.report, [image.header for image in came], given.context())
    assert texts(sr).count(f"NOT GRADED: {NOT_COUNTED}") >= len(Level)
    seen = read(render_page(analysis.report, analysis.pictures, given.context()), tmp_path)
    assert seen.count(squeezed(f"NOT GRADED: {NOT_COUNTED}")) >= len(Level)


@pytest.mark.peers
def test_what_stays_visible_after_a_retraction_is_said_to_readers_and_operators(tmp_path: Path) -> None:
    with archive() as peer:
        peer.knows(images()[0])
        at = graded_house(tmp_path / "data", peer.dimse)
        work(at)
        at.write(retractions.retract, str(images()[0].StudyInstanceUID), retractions.Why.WRONG_GRADE)
        assert grade_next(at.post())
        work(at)
        at.clock[0] += 60
        work(at)
        assert BY_HAND in at.rows("delivery")[2]["reason_text"]
        (row,) = at.rows("result", kind="warning")
        assert peer.order[-1] == row["sop_uid"]
        page = dcmread(at.data / row["path"])
    assert squeezed(RETRACTED) in read(Image.fromarray(page.pixel_array), tmp_path)


@pytest.mark.parametrize("lossy", [True, False])
def test_a_page_of_pictures_that_were_compressed_with_loss_says_so(lossy: bool) -> None:
    """CLINICAL.md 22; one image is enough."""
    sources = given.sources()
    if lossy:
        sources[-1].LossyImageCompression = "01"
        sources[-1].LossyImageCompressionRatio = "8.5"
        sources[-1].LossyImageCompressionMethod = "ISO_10918_1"
    else:
        sources[-1].LossyImageCompression = "00"
    page = secondary_capture(given.report(), given.pictures(), sources, given.context())
    said = (page.LossyImageCompression, page.get("LossyImageCompressionRatio"), page.get("LossyImageCompressionMethod"))
    assert said == (("01", 8.5, "ISO_10918_1") if lossy else ("00", None, None))


@pytest.mark.parametrize("lossy", ["01", "00", None])
def test_loss_is_carried_from_images_to_page_and_report(tmp_path: Path, lossy: str | None) -> None:
    """The whole way, and flagged in words."""
    attributes = {} if lossy is None else {"LossyImageCompression": lossy}
    at = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    at.complete(builders.mr_study("lossy", **attributes))
    assert grade_next(at.post())
    sr, page = (dcmread(at.data / row["path"]) for row in at.rows("result"))
    assert page.LossyImageCompression == ("01" if lossy == "01" else "00")
    assert ("compressed with loss" in texts(sr).lower()) is (lossy == "01")
