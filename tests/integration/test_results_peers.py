"""Results as others see them: dciodvfy, dsrdump, a viewer's adapter, and an OCR that looks for identities."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import builders_results as given
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from cauda.core.domain import Level, Reason, Report, Status
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results.context import ObjectIds, Reference
from cauda.pipeline.results.page import render_page
from cauda.pipeline.results.retraction import RetractionReason, retraction
from cauda.pipeline.results.secondary_capture import not_analysed, retracted, secondary_capture
from cauda.pipeline.results.structured_report import SR_CLASSES, structured_report

pytestmark = pytest.mark.peers

HYDRATE = Path(__file__).parents[1] / "hydration" / "hydrate.mjs"
REPORTS: dict[str, Callable[[], Report]] = {
    "mixed": given.report,
    "graded": lambda: given.report(*given.all_graded()),
    "no bundle": given.no_bundle,
    "doubt": lambda: given.report(level_doubt=Reason.TRANSITIONAL),
}


def saved(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def errors(path: Path) -> list[str]:
    """What dciodvfy finds wrong."""
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("sop_class", SR_CLASSES)
@pytest.mark.parametrize("kind", REPORTS)
def test_every_report_in_every_class_validates_and_is_readable(kind: str, sop_class: str, tmp_path: Path) -> None:
    report = REPORTS[kind]()
    path = saved(structured_report(report, given.sources(), given.context(), sop_class), tmp_path / "sr.dcm")
    assert errors(path) == []
    dump = subprocess.run(["dsrdump", "+Pl", str(path)], capture_output=True, text=True, check=False)
    assert dump.returncode == 0, dump.stderr
    for finding in report.findings:
        assert report.level_name(finding.level) in dump.stdout


def test_a_report_of_images_with_hardly_a_header_validates(tmp_path: Path) -> None:
    sr = structured_report(given.report(), given.poor_sources(), given.context(), Comprehensive3DSRStorage)
    assert errors(saved(sr, tmp_path / "sr.dcm")) == []


@pytest.mark.parametrize("kind", REPORTS)
def test_every_page_validates(kind: str, tmp_path: Path) -> None:
    pictures = Pictures() if kind == "no bundle" else given.pictures()
    sc = secondary_capture(REPORTS[kind](), pictures, given.sources(), given.context())
    assert errors(saved(sc, tmp_path / "sc.dcm")) == []
    assert sc.BurnedInAnnotation == "NO"
    assert "PixelSpacing" not in sc
    assert "FrameOfReferenceUID" not in sc


def test_notices_and_the_rejection_note_validate(tmp_path: Path) -> None:
    rejected = given.report(status=Status.REJECTED, reason=Reason.NO_AXIAL_T2, reason_text="found: 2 series")
    assert errors(saved(not_analysed(rejected, given.sources(), given.context()), tmp_path / "na.dcm")) == []
    withdrawn = retracted(given.report(), given.sources(), given.context(), "wrong level")
    assert errors(saved(withdrawn, tmp_path / "re.dcm")) == []
    reference = Reference(
        sop_class_uid=Comprehensive3DSRStorage, sop_instance_uid="1.2.3.4", series_instance_uid="1.2.3"
    )
    ids = ObjectIds(sop_instance_uid="1.2.9.1", series_instance_uid="1.2.9", series_number=9903)
    for reason in RetractionReason:
        note = retraction(given.report(), [reference], reason, ids, given.sources(), given.context())
        assert errors(saved(note, tmp_path / "ko.dcm")) == []


def hydrated(sr: Path, images: list[Path]) -> list[dict[str, object]]:
    """The measurements a Cornerstone viewer makes of an SR; none where it cannot."""
    done = subprocess.run(
        ["node", str(HYDRATE), str(sr), *map(str, images)],
        cwd=HYDRATE.parent, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else []


@pytest.mark.realdata
def test_the_adapter_tells_a_shape_that_hydrates_from_one_that_does_not(realdata: Path) -> None:
    """The control: without it the next test could not fail."""
    shapes = realdata / "sr-shapes"
    images = sorted((shapes / "mr").glob("*.dcm"))
    assert hydrated(shapes / "hydrates.dcm", images)
    assert not hydrated(shapes / "does-not-hydrate.dcm", images)


def test_each_graded_level_becomes_a_measurement_on_its_own_slice(tmp_path: Path) -> None:
    report = given.report(*given.all_graded())
    sr = saved(structured_report(report, given.sources(), given.context()), tmp_path / "sr.dcm")
    images = [saved(image, tmp_path / f"{n}.dcm") for n, image in enumerate(given.sources())]
    found = hydrated(sr, images)
    by_image = {str(one["image"]): str(one["label"]) for one in found}
    assert len(found) == len(Level)
    for finding in report.findings:
        assert finding.axial is not None
        text = by_image[finding.axial.sop_instance_uid]
        assert finding.level.value in text
        assert str(finding.grade) in text


def test_a_level_that_was_not_graded_is_shown_where_it_lies_and_one_without_a_slice_is_not(tmp_path: Path) -> None:
    sr = saved(structured_report(given.report(), given.sources(), given.context()), tmp_path / "sr.dcm")
    images = [saved(image, tmp_path / f"{n}.dcm") for n, image in enumerate(given.sources())]
    labels = [str(one["label"]) for one in hydrated(sr, images)]
    assert len(labels) == 4
    assert "AI unverified L5/S1 canal: NOT GRADED: motion. Severe stenosis not excluded" in labels
    assert not [label for label in labels if "L1/L2" in label]


def read(pixels: Image.Image, tmp_path: Path) -> str:
    """What tesseract reads."""
    path = tmp_path / "page.png"
    pixels.save(path)
    done = subprocess.run(
        ["tesseract", str(path), "-", "--psm", "6"], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_no_identity_and_no_date_stand_in_the_pixels(tmp_path: Path) -> None:
    page = Image.fromarray(render_page(given.report(), given.pictures(), given.context()))
    text = read(page.resize((page.width * 2, page.height * 2)), tmp_path)
    assert "UNVERIFIED" in text  # it can read this page
    for secret in (*given.NAME.split("^"), given.PATIENT_ID, given.ACCESSION, "19640229", "Ref"):
        assert secret.lower() not in text.lower()
    assert not re.search(r"(19|20)\d\d[-/. ]?[01]\d[-/. ]?[0-3]\d|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b", text)


def test_every_level_and_grade_is_read_when_the_page_is_shown_512_wide_in_grey(tmp_path: Path) -> None:
    report = given.report(*given.all_graded())
    page = Image.fromarray(render_page(report, given.pictures(), given.context())).convert("L")
    small = page.resize((512, round(page.height * 512 / page.width)), Image.Resampling.LANCZOS)
    # an eye sees 512 pixels enlarged on a screen; so does the reader
    text = read(small.resize((small.width * 3, small.height * 3), Image.Resampling.LANCZOS), tmp_path)
    lines = text.splitlines()
    for finding in report.findings:
        row = [line for line in lines if finding.level.value.replace("/", "") in line.replace("/", "")]
        assert any(str(finding.grade).split("/", maxsplit=1)[0] in line for line in row), (finding.level, text)
