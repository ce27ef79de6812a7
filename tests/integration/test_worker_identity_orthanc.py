"""Whose study it is in a real archive that coerces, merges, loses or keeps silent (CLINICAL.md 25).

What counts is what Orthanc says of itself afterwards: how many patients, studies and series it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import Orthanc, orthanc
from graded import graded_house, images, work
from peers import until
from pydicom import Dataset
from scripted_archive import archive
from worker_house import House

from cauda.core import intake
from cauda.core.domain import Reason
from cauda.core.schema import RevisionKind
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

pytestmark = pytest.mark.peers

KEPT = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]

# As a site's index of patients does it: what comes in under a scanner's number is filed under the hospital's.
COERCES = """
function OnStoredInstance(id, tags, metadata, origin)
  if tags['PatientID'] == 'PID1' then
    local command = {}
    command['Force'] = true
    command['Replace'] = {
      PatientID = 'HOSPITAL-7', AccessionNumber = 'HOSPITAL-ACC', SOPInstanceUID = tags['SOPInstanceUID'],
      SeriesInstanceUID = tags['SeriesInstanceUID'], StudyInstanceUID = tags['StudyInstanceUID']
    }
    RestApiPost('/instances', RestApiPost('/instances/' .. id .. '/modify', DumpJson(command, true)))
    RestApiDelete('/instances/' .. id)
  end
end
"""
KEEPS_SILENT = """
function IncomingFindRequestFilter(source, origin)
  source['0020,000d'] = '1.2.3.4'
  return source
end
"""


@contextmanager
def pacs(folder: Path, lua: str = "", **config: Any) -> Iterator[Orthanc]:
    script = folder / "script.lua"
    script.write_text(lua)
    with orthanc(LuaScripts=[str(script)], **config) as server:
        yield server


def held(server: Orthanc) -> list[tuple[str, str, str, int]]:
    """Every study in the archive: patient, study, accession, number of series."""
    return sorted(
        (
            study["PatientMainDicomTags"]["PatientID"],
            study["MainDicomTags"]["StudyInstanceUID"],
            study["MainDicomTags"]["AccessionNumber"],
            len(study["Series"]),
        )
        for study in server.get("/studies?expand")
    )


def study_uid() -> str:
    return str(images()[0].StudyInstanceUID)


def change(server: Orthanc, uid: str, keep: Sequence[str] = KEPT, **replace: str) -> None:
    """What an administrator does to a study, or its patient, by hand; the objects stay the same objects."""
    (found,) = [s for s in server.get("/studies?expand") if s["MainDicomTags"]["StudyInstanceUID"] == uid]
    what = f"/patients/{found['ParentPatient']}" if "PatientID" in replace else f"/studies/{found['ID']}"
    body = {"Replace": replace, "Keep": list(keep), "Force": True, "KeepSource": False}
    server.post(f"{what}/modify", body)


def go_on(at: House, rounds: int = 4) -> None:
    """Let a day's work pass: grade, deliver, wait."""
    for _ in range(rounds):
        while grade_next(at.post()):
            pass
        work(at)
        at.clock[0] += 900


def hold_of(at: House) -> str | None:
    reason: str | None = at.rows("study")[0]["hold"]
    return reason


def coerced(server: Orthanc, folder: Path) -> None:
    server.store(builders.write(images(), folder / "images"))
    until(lambda: held(server) == [("HOSPITAL-7", study_uid(), "HOSPITAL-ACC", 2)], what="Orthanc has coerced all")


def test_an_archive_that_coerces_patient_and_accession_gets_nothing_before_a_person_decides(tmp_path: Path) -> None:
    with pacs(tmp_path, COERCES) as server:
        coerced(server, tmp_path)
        at = graded_house(tmp_path / "data", server.dimse)
        go_on(at)
        assert hold_of(at) == Reason.IDENTITY_MISMATCH
        assert held(server) == [("HOSPITAL-7", study_uid(), "HOSPITAL-ACC", 2)]


def test_an_archive_that_coerces_gets_results_under_its_own_names_where_the_site_wants_it(tmp_path: Path) -> None:
    with pacs(tmp_path, COERCES) as server:
        coerced(server, tmp_path)
        at = graded_house(tmp_path / "data", server.dimse, demographics="archive")
        go_on(at)
        assert held(server) == [("HOSPITAL-7", study_uid(), "HOSPITAL-ACC", 4)]
        assert len(server.results(study_uid())) == 2


@pytest.mark.parametrize("demographics", ["hold", "archive"])
def test_a_study_that_got_another_uid_there_is_found_by_its_images(tmp_path: Path, demographics: str) -> None:
    with pacs(tmp_path) as server:
        server.store(builders.write(images(), tmp_path / "images"))
        change(server, study_uid(), KEPT[1:], StudyInstanceUID="1.2.3.77")
        at = graded_house(tmp_path / "data", server.dimse, demographics=demographics)
        go_on(at)
        assert hold_of(at) == (Reason.IDENTITY_MISMATCH if demographics == "hold" else None)
        assert held(server) == [("PID1", "1.2.3.77", "ACC1", 2 if demographics == "hold" else 4)]


@pytest.mark.parametrize("demographics", ["hold", "archive"])
def test_patients_merged_between_sr_and_sc_stay_one(tmp_path: Path, demographics: str) -> None:
    with pacs(tmp_path) as server:
        server.store(builders.write(images(), tmp_path / "images"))
        at = graded_house(tmp_path / "data", server.dimse, demographics=demographics)
        assert deliver_next(at.post())
        assert held(server) == [("PID1", study_uid(), "ACC1", 3)]
        change(server, study_uid(), PatientID="SURVIVOR")
        go_on(at)
        if demographics == "hold":
            assert hold_of(at) == Reason.IDENTITY_MISMATCH
            assert held(server) == [("SURVIVOR", study_uid(), "ACC1", 3)]
        else:
            assert held(server) == [("SURVIVOR", study_uid(), "ACC1", 6)], "the first SR, its rejection, the revision"
            change(server, study_uid(), PatientID="LAST")
            at.freeze(study_uid(), RevisionKind.GRADE, "late images")
            go_on(at)
            assert [one[0] for one in held(server)] == ["LAST"], "merged once more"
            assert hold_of(at) is None


def test_a_study_of_which_only_our_own_result_is_left_gets_no_more(tmp_path: Path) -> None:
    """The images were deleted, or moved to where they cannot be found: the page would be an orphan."""
    with pacs(tmp_path) as server:
        server.store(builders.write(images(), tmp_path / "images"))
        at = graded_house(tmp_path / "data", server.dimse)
        assert deliver_next(at.post())
        for one in server.instances(study_uid()):
            if one["modality"] == "MR":
                server.post(f"/instances/{one['id']}", method="DELETE")
        go_on(at)
        assert at.rows("delivery")[1]["reason"] == Reason.STUDY_ABSENT
        assert held(server) == [("PID1", study_uid(), "ACC1", 1)]
        server.store(builders.write(images(), tmp_path / "images"))
        go_on(at)
        assert held(server) == [("PID1", study_uid(), "ACC1", 4)]


def test_one_study_under_two_patients_is_left_to_a_person(tmp_path: Path) -> None:
    """Half of a merge: nobody can say which is right, and the archive's values are not copied."""
    with pacs(tmp_path) as server:
        server.store(builders.write(images(), tmp_path / "images"))
        other = deepcopy(images()[:1])
        other[0].PatientID = "SECOND"
        server.store(builders.write(other, tmp_path / "other"))
        before = held(server)
        assert len(before) == 2
        at = graded_house(tmp_path / "data", server.dimse, demographics="archive")
        go_on(at)
        assert hold_of(at) == Reason.IDENTITY_MISMATCH
        assert held(server) == before
        assert at.states("revision") == ["reported"]


@pytest.mark.parametrize(
    ("lua", "config", "reason"),
    [(KEEPS_SILENT, {}, Reason.STUDY_ABSENT), ("", {"DicomAlwaysAllowFind": False}, Reason.DESTINATION_BUSY)],
    ids=["finds nothing", "breaks off when asked"],
)
def test_an_archive_that_does_not_say_is_waited_for(
    tmp_path: Path, lua: str, config: dict[str, Any], reason: Reason
) -> None:
    with pacs(tmp_path, lua, **config) as server:
        server.store(builders.write(images(), tmp_path / "images"))
        at = graded_house(tmp_path / "data", server.dimse)
        go_on(at)
        assert at.rows("delivery")[0]["reason"] == reason
        assert held(server) == [("PID1", study_uid(), "ACC1", 2)]


def test_a_correction_that_comes_to_us_too_is_waited_for_and_not_held(tmp_path: Path) -> None:
    """The archive is corrected first and sends us the images then; what is on its way is not a person's matter."""
    with pacs(tmp_path) as server:
        corrected: list[Dataset] = deepcopy(images())
        for image in corrected:
            image.AccessionNumber = "ACC2"
        server.store(builders.write(corrected, tmp_path / "images"))
        at = graded_house(tmp_path / "data", server.dimse)
        at.file(corrected)
        go_on(at)
        assert hold_of(at) is None
        assert at.rows("delivery")[0]["reason"] == Reason.IDENTITY_MISMATCH
        at.freeze(study_uid(), RevisionKind.REISSUE, "demographics corrected")
        go_on(at)
        assert held(server) == [("PID1", study_uid(), "ACC2", 4)]


def test_what_was_held_goes_to_the_right_study_once_the_archive_is_corrected_and_it_is_let_go(tmp_path: Path) -> None:
    with pacs(tmp_path) as server:
        server.store(builders.write(images(), tmp_path / "images"))
        change(server, study_uid(), PatientID="WRONG")
        at = graded_house(tmp_path / "data", server.dimse)
        go_on(at)
        assert hold_of(at) == Reason.IDENTITY_MISMATCH
        change(server, study_uid(), PatientID="PID1")
        at.write(intake.release, study_uid())
        go_on(at)
        assert held(server) == [("PID1", study_uid(), "ACC1", 4)]


def test_an_archive_that_answers_no_question_gets_results_that_say_so_and_not_those_that_claim_otherwise(
    tmp_path: Path,
) -> None:
    """It agreed to be asked when they were made."""
    with archive() as peer:
        at = graded_house(tmp_path, peer.dimse)
        with at.ledger.write() as conn:
            conn.exec_driver_sql("UPDATE revision SET identity_checked = 1")
        peer.find_status = 0xC001
        work(at)
        assert (peer.attempts, at.rows("delivery")[0]["reason"]) == (0, Reason.IDENTITY_UNKNOWN)
        go_on(at)
        assert at.states("delivery") == ["cancelled", "cancelled", "accepted", "accepted"]
        sr = (at.data / at.rows("result", kind="sr")[-1]["path"]).read_bytes()
        assert b"Identity not checked against the archive" in sr
        assert at.states("revision") == ["reported", "reported"]
