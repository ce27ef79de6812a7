"""`cauda analyze`: a folder in, four files and an exit code out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import foreign_result, mr_study, write
from command import cauda
from peers import program
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.study import make_study


def analyze(folder: Path, out: Path, *words: str, ok: int = 0) -> dict[str, Any] | None:
    """Run it, without a bundle unless one is named; returns report.json, if there is one."""
    done = cauda("analyze", folder, "--out", out, "--bundle", "none", *words)
    assert done.returncode == ok, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    report = out / "report.json"
    return json.loads(report.read_text()) if report.exists() else None


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write(mr_study("analyze", axial=12, sagittal=11), tmp_path / "study" / "nested")
    return tmp_path / "study"


def test_a_study_becomes_a_report_and_its_objects(study: Path, tmp_path: Path) -> None:
    """Also when every level is not graded: that is a report, and exit 0."""
    report = analyze(study, tmp_path / "out")
    assert report is not None
    assert report["schema"] == 1
    assert report["status"] == "REPORTED"
    assert [one["level"] for one in report["findings"]] == ["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"]
    assert {one["abstained"] for one in report["findings"]} == {"no_bundle"}
    assert names(tmp_path / "out") == {"report.json", "sr.dcm", "sc.dcm", "sc.png"}
    page = dcmread(tmp_path / "out" / "sc.dcm")
    assert (
        page.StudyInstanceUID == report["study_instance_uid"] == dcmread(tmp_path / "out" / "sr.dcm").StudyInstanceUID
    )
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sc.png")), page.pixel_array)
    dump = subprocess.run([program("dsrdump"), tmp_path / "out" / "sr.dcm"], capture_output=True, check=True, text=True)
    assert "Imaging Measurement Report" in dump.stdout


def test_levels_by_kmeans_are_written_only_on_request_and_never_into_a_result(study: Path, tmp_path: Path) -> None:
    """CLINICAL.md 10."""
    analyze(study, tmp_path / "out", "--experimental")
    assert names(tmp_path / "out") == {"report.json", "sr.dcm", "sc.dcm", "sc.png", "experimental.json"}
    found = json.loads((tmp_path / "out" / "experimental.json").read_text())
    assert found["delivered"] is False
    assert sum(one["slices"] for one in found["axial_series"][0]["levels"].values()) == 12
    report = analyze(study, tmp_path / "out")
    assert report is not None
    assert report["levels_from"] is None
    assert names(tmp_path / "out") == {"report.json", "sr.dcm", "sc.dcm", "sc.png"}


@pytest.mark.parametrize("by", ["option", "setting"])
def test_a_heat_map_of_what_was_graded_is_written_only_on_request(tmp_path: Path, by: str) -> None:
    """CLINICAL.md 20: off by default."""
    write(make_study(1, protocol=Protocol(syntax=ExplicitVRLittleEndian)).images, tmp_path / "study")
    config = tmp_path / "cauda.toml"
    config.write_text(f"[grading]\nheat_map_page = {'true' if by == 'setting' else 'false'}\n")
    words = ("--bundle", "starter", "--config", str(config))
    report = analyze(tmp_path / "study", tmp_path / "out", *words, *(["--heat-map"] if by == "option" else []))
    assert report is not None
    assert {"heat.dcm", "heat.png"} <= names(tmp_path / "out")
    page = dcmread(tmp_path / "out" / "heat.dcm")
    graded = {one["axial"]["sop_instance_uid"] for one in report["findings"] if one["grade"]}
    assert {one.ReferencedSOPInstanceUID for one in page.SourceImageSequence} == graded


def test_a_second_run_makes_new_objects(study: Path, tmp_path: Path) -> None:
    """Other content, were it only the time, never reuses a UID (CLINICAL.md 25)."""
    uids = set()
    for _ in range(2):
        analyze(study, tmp_path / "out")
        uids |= {dcmread(tmp_path / "out" / name).SOPInstanceUID for name in ("sr.dcm", "sc.dcm")}
    assert len(uids) == 4


def test_a_lumbar_exam_that_cannot_be_graded_gets_a_page_that_says_so(tmp_path: Path) -> None:
    """CLINICAL.md 24; and nothing of an earlier run stays beside it."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "sr.dcm").write_bytes(b"of an earlier run")
    write(mr_study("sagittal only", axial=0, sagittal=11), tmp_path / "in")
    report = analyze(tmp_path / "in", out, ok=3)
    assert report is not None
    assert (report["status"], report["reason"]) == ("REJECTED", "no_axial_t2")
    assert names(out) == {"report.json", "sc.dcm", "sc.png"}


def test_another_exam_gets_a_report_and_no_page(tmp_path: Path) -> None:
    images = mr_study("knee", StudyDescription="MR KNEE", BodyPartExamined="KNEE")
    write(images, tmp_path / "in")
    assert analyze(tmp_path / "in", tmp_path / "out", ok=3) is not None
    assert names(tmp_path / "out") == {"report.json"}


def test_images_of_two_patients_are_held(tmp_path: Path) -> None:
    images = mr_study("mixed", axial=12, sagittal=11)
    images[0].PatientID = "SOMEBODY-ELSE"
    write(images, tmp_path / "in")
    report = analyze(tmp_path / "in", tmp_path / "out", ok=3)
    assert report is not None
    assert (report["status"], report["reason"]) == ("HELD", "identity_mixed")
    assert names(tmp_path / "out") == {"report.json"}


def test_what_is_no_image_changes_nothing(study: Path, tmp_path: Path) -> None:
    """Copies, results of others and files that are not DICOM lie beside images in real folders."""
    plain = analyze(study, tmp_path / "plain")
    first = dcmread(next((study / "nested").iterdir()))
    write([foreign_result(first, "1.2.3.4"), first], study / "more")
    (study / "README.txt").write_text("not DICOM")
    (study / "DICOMDIR").write_bytes(b"\0" * 200)
    crowded = analyze(study, tmp_path / "crowded")
    assert plain is not None
    assert crowded is not None
    assert [(one["role"], one["slices"]) for one in crowded["series"]] == [
        (one["role"], one["slices"]) for one in plain["series"]
    ]


def test_two_studies_in_a_folder_need_a_word(study: Path, tmp_path: Path) -> None:
    other = write(mr_study("other", axial=12, sagittal=11), study / "other")
    assert analyze(study, tmp_path / "out", ok=1) is None
    uid = dcmread(other[0]).StudyInstanceUID
    report = analyze(study, tmp_path / "out", "--study", uid)
    assert report is not None
    assert report["study_instance_uid"] == uid


@pytest.mark.parametrize("content", [None, {}, {"a.txt": b"no"}])
def test_a_folder_without_a_study_is_an_error(tmp_path: Path, content: dict[str, bytes] | None) -> None:
    folder = tmp_path / "in"
    if content is not None:
        folder.mkdir()
        for name, value in content.items():
            (folder / name).write_bytes(value)
    assert analyze(folder, tmp_path / "out", ok=1) is None


@pytest.mark.realdata
def test_a_real_study_is_reported(scanner_study: Path, tmp_path: Path) -> None:
    report = analyze(scanner_study, tmp_path / "out")
    assert report is not None
    assert {one["role"] for one in report["series"]} >= {"axial_t2", "sagittal_t2"}
    checked = subprocess.run([program("dciodvfy"), "-new", tmp_path / "out" / "sr.dcm"], capture_output=True, text=True,
                             check=False)  # fmt: skip
    assert "Error" not in checked.stderr + checked.stdout
