"""Results as PixelMed's template checker and a checker of whole studies see them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import builders_results as given
import pytest
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from cauda.core.domain import Reason, Status
from cauda.pipeline.results.codes import KEY_OBJECT_DESCRIPTION
from cauda.pipeline.results.content import text
from cauda.pipeline.results.context import ObjectIds, Reference, ResultContext
from cauda.pipeline.results.retraction import RetractionReason, retraction
from cauda.pipeline.results.secondary_capture import heat_map, not_analysed, retracted, secondary_capture
from cauda.pipeline.results.structured_report import structured_report

pytestmark = pytest.mark.peers

PIXELMED = Path("/usr/share/java/pixelmed.jar")
# PixelMed's templates are of 2022. What they do not know and we say all the same, each with why:
CONFUSED = "attribute - Element=<AccessionNumber> IE <Series> versus <Study>"
ALLOWED = {
    "122405": "TID 4019 has the manufacturer of an algorithm since 2023",
    "246112005": "a grade is a qualitative evaluation (TID 1501 takes any concept)",
    "NOT_GRADED": "so is the reason why there is none",
    "ALSO_POSSIBLE": "so is the rest of the prediction set",
    "121106": "viewers show a group's comment as the measurement's label",
    "LEVEL": "which level an evaluation without a slice is of",
    "363698007": "and its disc",
    "130550": "a qualitative evaluation of the series",
}


def saved(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def validated(path: Path) -> list[str]:
    """PixelMed's output, which says what is wrong; its exit status is always 0. It works for some twenty seconds."""
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprGrp", "ExprOp", "TotalOp")]
    done = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *limits, "-cp", str(PIXELMED),
         "com.pixelmed.validate.DicomSRValidator", str(path)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return (done.stdout + done.stderr).splitlines()


def test_pixelmed_finds_the_template_and_nothing_that_is_not_explained(tmp_path: Path) -> None:
    """One file has every kind of group. A wrong item is planted in it, so the checker is seen to check."""
    sr = structured_report(given.report(), given.sources(), given.context())
    measurements = next(item for item in sr.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010")
    measurements.ContentSequence[0].ContentSequence.append(text("CONTAINS", KEY_OBJECT_DESCRIPTION, "out of place"))
    said = validated(saved(sr, tmp_path / "sr.dcm"))
    assert "Found Root Template TID_1500 (MeasurementReport)" in said
    assert said[-1] == "IOD validation complete"
    remarks = [line for line in said if line.startswith(("Warning", "Error"))]
    assert all(line.endswith("Content Item not in template") for line in remarks)
    concepts = {re.findall(r"\((\w+),\w+,\"[^\"]*\"\)", line)[-1] for line in remarks}
    assert concepts - ALLOWED.keys() == {KEY_OBJECT_DESCRIPTION.value}


def disagreements(folder: Path) -> list[str]:
    """What dcentvfy finds to differ between the objects of a study.

    It counts the accession number to the series in one SOP class and to the study in another; that is no difference.
    """
    files = sorted(map(str, folder.glob("*.dcm")))
    done = subprocess.run(["dcentvfy", *files], capture_output=True, text=True, check=False, timeout=120)
    said = (done.stdout + done.stderr).splitlines()
    return [line for line in said if CONFUSED not in line]


def whole_study(folder: Path) -> None:
    """Images, both results of two revisions, and the notes that withdraw the first."""
    for number, image in enumerate(given.sources()):
        image.ImageType = ["ORIGINAL", "PRIMARY"]
        saved(image, folder / f"image{number:02}.dcm")
    earlier = []
    for revision in (1, 2):
        ids = {
            kind: ObjectIds(sop_instance_uid=f"{series}.1", series_instance_uid=series, series_number=9901 + place)
            for place, kind in enumerate(("sr", "sc"))
            if (series := f"{given.ROOT}.{revision}{place}")
        }
        context = given.context(**ids, revision=revision, previous=tuple(earlier))
        saved(structured_report(given.report(), given.sources(), context), folder / f"sr{revision}.dcm")
        page = secondary_capture(given.report(), given.pictures(), given.sources(), context)
        saved(page, folder / f"sc{revision}.dcm")
        classes = {"sr": Comprehensive3DSRStorage, "sc": SecondaryCaptureImageStorage}
        earlier = [
            Reference(
                sop_class_uid=classes[kind], sop_instance_uid=one.sop_instance_uid,
                series_instance_uid=one.series_instance_uid,
            )
            for kind, one in ids.items()
        ]  # fmt: skip
    ids = ObjectIds(sop_instance_uid="1.2.9.1", series_instance_uid="1.2.9", series_number=9903)
    reason = RetractionReason.WRONG_RESULT
    note = retraction(given.report(), earlier, reason, ids, given.sources(), given.context())
    saved(note, folder / "ko.dcm")
    for number, page in enumerate(other_pages()):
        saved(page, folder / f"page{number}.dcm")


def other_pages() -> Iterator[Dataset]:
    """A page of each kind that has a series of its own: NOT ANALYSED, RETRACTED and the heat map."""

    def context(number: int) -> ResultContext:
        series = f"{given.ROOT}.9{number}"
        ids = ObjectIds(sop_instance_uid=f"{series}.1", series_instance_uid=series, series_number=9910 + number)
        return given.context(sc=ids, heat_map=ids)

    rejected = given.report(status=Status.REJECTED, reason=Reason.NO_AXIAL_T2, reason_text="no axial T2 found")
    yield not_analysed(rejected, given.sources(), context(1))
    yield retracted(given.report(), given.sources(), context(2), "wrong level or grade")
    yield heat_map(given.report(), given.pictures(), {}, given.sources(), context(3))


def test_images_results_and_rejection_notes_agree_on_patient_study_and_series(tmp_path: Path) -> None:
    whole_study(tmp_path)
    assert disagreements(tmp_path) == []


def test_a_result_of_another_patient_is_seen(tmp_path: Path) -> None:
    """The control: without it the test above could not fail."""
    whole_study(tmp_path)
    other = structured_report(given.report(), given.sources(PatientName="Somebody^Else"), given.context())
    saved(other, tmp_path / "other.dcm")
    assert any("PatientName" in line for line in disagreements(tmp_path))


@pytest.mark.parametrize("number", range(3))
def test_another_kind_of_page_that_names_another_patient_is_seen(number: int, tmp_path: Path) -> None:
    """The control for each of them: the checker reads it."""
    whole_study(tmp_path)
    page = list(other_pages())[number]
    page.PatientID = "ANOTHER"
    saved(page, tmp_path / f"page{number}.dcm")
    assert any("PatientID" in line for line in disagreements(tmp_path))
