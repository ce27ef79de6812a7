"""Results that a later revision replaces are rejected in the archive that has them (CLINICAL.md 23)."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import orthanc
from graded import NAME, graded_house, images, work
from PIL import Image
from pydicom import Dataset, dcmread
from scripted_archive import KO, Archive, archive
from structlog.testing import capture_logs
from worker_house import House

from cauda.core.domain import Finding, Level, Reason, Report, Status
from cauda.core.schema import RevisionKind
from cauda.pipeline.analyse import Analysis
from cauda.worker import replace, revision
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

SR, SC = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


def study_uid() -> str:
    return str(images()[0].StudyInstanceUID)


def delivered(data: Path, url: str, **options: Any) -> House:
    """The first revision is in the archive."""
    at = graded_house(data, url, **options)
    work(at)
    return at


def corrected(at: House, **attributes: str) -> None:
    """The study's attributes were corrected at the source; the results are made again."""
    at.file(builders.mr_study("graded", axial=5, sagittal=5, **attributes))
    at.freeze(study_uid(), RevisionKind.REISSUE, "demographics corrected")
    assert grade_next(at.post())


def regraded(at: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late images changed what is found."""
    findings = tuple(Finding(level=level, abstained=Reason.MOTION) for level in Level)
    other = Report(study_instance_uid=study_uid(), status=Status.REPORTED, findings=findings)
    with monkeypatch.context() as patch:
        patch.setattr(revision, "analyse_study", lambda *_: Analysis(report=other))
        at.freeze(study_uid(), reason="late images")
        assert grade_next(at.post())


def ungradable(at: House, **grading: Any) -> None:
    """Late images show that nothing here may be graded."""
    at.file(builders.mr_study("graded", axial=5, sagittal=5, PatientAge="012Y"))
    at.freeze(study_uid(), reason="late images")
    settings = at.settings.grading.model_copy(update=grading)
    assert grade_next(at.post(grading=settings))


def note_of(at: House) -> Dataset:
    (row,) = at.rows("result", kind="replaces")
    return dcmread(at.data / row["path"])


def head_of(at: House, page: str, folder: Path) -> str:
    """What tesseract reads of what a page says left that it replaces, and right that changed."""
    (row,) = at.rows("result", sop_uid=page)
    red = Image.fromarray(dcmread(at.data / row["path"]).pixel_array).getchannel("R")
    read = ""
    for left in (0, 512):
        column = red.crop((left, 80, left + 512, 180))
        column.resize((1024, 200), Image.Resampling.LANCZOS).save(folder / "head.png")
        command = ["tesseract", str(folder / "head.png"), "-", "--psm", "6"]
        read += subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return " ".join(read.split())


def rejected(note: Dataset) -> set[str]:
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == study_uid()
    return {
        str(one.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def test_another_grade_rejects_the_older_results_once_the_new_ones_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archive() as peer:
        peer.knows(images()[0])
        at = delivered(tmp_path, peer.dimse)
        older = list(peer.order)
        regraded(at, monkeypatch)
        work(at)
        note = note_of(at)
        sent = [str(at.rows("result", sop_uid=uid)[0]["sop_class_uid"]) for uid in peer.order]
        assert sent == [SR, SC, SR, SC, KO]
        assert rejected(note) == set(older)
        (title,) = note.ConceptNameCodeSequence
        assert (title.CodeValue, title.CodingSchemeDesignator) == ("113037", "DCM")
        assert (note.PatientID, note.AccessionNumber) == (images()[0].PatientID, images()[0].AccessionNumber)
        assert b"Cauda result withdrawn: replaced, a level or grade changed" in peer.received[note.SOPInstanceUID][0]
        series = [dcmread(path).SeriesNumber for path in at.outbox()]
        assert series.count(note.SeriesNumber) == 1


def test_corrected_attributes_are_another_reason_and_the_note_carries_the_right_ones(tmp_path: Path) -> None:
    with archive() as peer:
        peer.knows(images()[0])
        at = delivered(tmp_path, peer.dimse)
        peer.knows(images()[0], AccessionNumber="ACC2")
        corrected(at, AccessionNumber="ACC2")
        work(at)
        note = note_of(at)
        assert note.ConceptNameCodeSequence[0].CodeValue == "113038"
        assert note.AccessionNumber == "ACC2"
        assert peer.order[-1] == note.SOPInstanceUID


@pytest.mark.peers
@pytest.mark.parametrize("wanted", [True, False])
def test_a_study_that_cannot_be_graded_any_more_withdraws_what_was_sent_wanted_or_not(
    tmp_path: Path, wanted: bool
) -> None:
    """CLINICAL.md 23: a grade that its images no longer support must not stand, whatever the site says of pages."""
    with archive() as peer:
        peer.knows(images()[0])
        at = delivered(tmp_path, peer.dimse)
        older = list(peer.order)
        ungradable(at, not_analysed_page=wanted)
        work(at)
        (revised,) = at.rows("revision", number=2)
        assert (revised["state"], revised["reason"]) == ("rejected", "under_18")
        page, note = peer.order[2:]
        said = head_of(at, page, tmp_path)
        for words in ("replaces revision", "not analysed: patient under 18, was analysed", "(late images)"):
            assert words in said
        assert rejected(note_of(at)) == set(older)
        assert b"Cauda result withdrawn: the study as it is now cannot be graded" in peer.received[note][0]
        assert [row["detail"] for row in at.rows("event", kind="result_changed")] == [{"replaces": 1}]


def test_a_study_that_cannot_be_graded_any_more_sends_nothing_where_nothing_was_sent(tmp_path: Path) -> None:
    with archive() as peer:
        peer.knows(images()[0])
        at = graded_house(tmp_path, peer.dimse)
        ungradable(at, not_analysed_page=False)
        work(at)
        assert peer.order == []
        assert at.states("delivery") == ["cancelled", "cancelled"]


def test_a_bug_in_the_note_keeps_no_result_back_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Dataset:
        raise KeyError(images()[0].PatientName)

    monkeypatch.setattr(replace, "retraction", broken)
    with archive() as peer, capture_logs() as said:
        peer.knows(images()[0])
        at = delivered(tmp_path, peer.dimse)
        regraded(at, monkeypatch)
        work(at)
        assert len(peer.order) == 4
        assert at.states("revision") == ["reported", "reported"]
        assert [row["detail"] for row in at.rows("event", kind="rejection_not_made")] == [
            {"reason": "bug", "destination": NAME}
        ]
        (told,) = (one for one in said if one["event"] == "rejection_not_made")
        assert "broken" in told["stack"]
        assert str(images()[0].PatientName) not in told["stack"]


def test_an_archive_without_rejection_notes_has_the_new_results_and_nothing_is_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archive(classes=(SR, SC)) as peer:
        peer.knows(images()[0])
        at = delivered(tmp_path, peer.dimse)
        regraded(at, monkeypatch)
        work(at)
        assert at.states("delivery") == ["accepted"] * 4 + ["cancelled"]
        assert len(peer.order) == 4
        work(at)
        assert at.states("delivery")[-1] == "cancelled", "not tried again"


def test_the_note_is_confirmed_like_any_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays listed is no retraction: the new page says what it replaces, and no page warns."""
    with archive() as peer:
        peer.knows(images()[0])
        at = delivered(tmp_path, peer.dimse)
        regraded(at, monkeypatch)
        work(at)
        at.clock[0] += 60
        work(at)
        assert at.states("delivery") == ["committed"] * 5
        assert len(peer.order) == 5


def test_a_study_that_the_archive_gave_to_another_patient_meanwhile_gets_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archive() as peer:
        peer.knows(images()[0])
        at = delivered(tmp_path, peer.dimse)
        regraded(at, monkeypatch)
        _until_sent(at, peer, 4)
        peer.knows(images()[0], PatientID="SOMEBODY")
        work(at)
        assert len(peer.order) == 4
        assert at.rows("study")[0]["hold"] == Reason.IDENTITY_MISMATCH


def _until_sent(at: House, peer: Archive, count: int) -> None:
    while len(peer.order) < count:
        assert deliver_next(at.post())


@pytest.mark.peers
def test_orthanc_keeps_the_note_and_it_is_what_the_standard_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with orthanc() as pacs:
        pacs.store(builders.write(images(), tmp_path / "images"))
        at = delivered(tmp_path / "data", pacs.dimse)
        older = {one["sop_uid"] for one in pacs.results(study_uid())}
        assert len(older) == 2
        regraded(at, monkeypatch)
        work(at)
        results = pacs.results(study_uid())
        assert sorted(one["modality"] for one in results) == ["KO", "OT", "OT", "SR", "SR"]
        (note,) = (pacs.file(one["id"]) for one in results if one["modality"] == "KO")
        assert rejected(dcmread(BytesIO(note))) == older
        assert len(pacs.get("/patients")) == 1
        path = tmp_path / "note.dcm"
        path.write_bytes(note)
        said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stdout + said.stderr
