"""Results and a real archive, and DCMTK's storage SCP in its bad moods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import Orthanc, orthanc, storescp
from graded import work
from worker_house import House, house

from cauda.core import deliveries
from cauda.core.backoff import Backoff
from cauda.core.domain import Reason
from cauda.worker.grade import grade_next

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    with orthanc() as server:
        yield server


def graded(data: Path, destination: str, seed: str, **settings: Any) -> tuple[House, list[Any]]:
    at = house(data / "data", simulated=True, destinations=[destination], **settings)
    images = builders.mr_study(seed, axial=5, sagittal=5)
    at.complete(images)
    assert grade_next(at.post())
    return at, images


def test_orthanc_with_the_study_ends_with_one_sr_and_one_sc(tmp_path: Path, pacs: Orthanc) -> None:
    at, images = graded(tmp_path, pacs.dimse, "with")
    pacs.store(builders.write(images, tmp_path / "images"))
    work(at)
    assert at.states("delivery") == ["accepted", "accepted"]
    results = pacs.results(images[0].StudyInstanceUID)
    assert {one["sop_uid"] for one in results} == {row["sop_uid"] for row in at.rows("result")}
    for one in results:
        (row,) = at.rows("result", sop_uid=one["sop_uid"])
        ours = builders.dataset_bytes((at.data / row["path"]).read_bytes())
        assert builders.dataset_bytes(pacs.file(one["id"])) == ours


def test_orthanc_without_the_study_is_waited_for(tmp_path: Path, pacs: Orthanc) -> None:
    at, images = graded(tmp_path, pacs.dimse, "without")
    work(at)
    assert at.rows("delivery")[0]["reason"] == Reason.STUDY_ABSENT
    assert images[0].StudyInstanceUID not in pacs.studies()
    pacs.store(builders.write(images, tmp_path / "images"))
    at.clock[0] += 900
    work(at)
    assert at.states("delivery") == ["accepted", "accepted"]


def test_another_patient_in_orthanc_holds_the_study(tmp_path: Path, pacs: Orthanc) -> None:
    at, images = graded(tmp_path, pacs.dimse, "other")
    for image in images:
        image.PatientID = "PID-MERGED"
    pacs.store(builders.write(images, tmp_path / "images"))
    work(at)
    assert at.rows("study")[0]["hold"] == Reason.IDENTITY_MISMATCH
    assert pacs.results(images[0].StudyInstanceUID) == []


def test_the_archives_patient_is_written_where_the_site_wants_it(tmp_path: Path, pacs: Orthanc) -> None:
    at, images = graded(tmp_path, f"{pacs.dimse}?demographics=archive", "archive")
    for image in images:
        image.PatientID, image.PatientName = "PID-RENAMED", "Größe^Ünal"
    pacs.store(builders.write(images, tmp_path / "images"))
    work(at)
    assert grade_next(at.post())
    at.clock[0] += 900
    work(at)
    assert at.states("delivery") == ["cancelled", "cancelled", "accepted", "accepted"]
    patient = pacs.get("/patients?expand")
    held = [one for one in patient if one["MainDicomTags"]["PatientID"] == "PID-RENAMED"]
    assert [one["MainDicomTags"]["PatientName"] for one in held] == ["Größe^Ünal"]
    assert len(pacs.results(images[0].StudyInstanceUID)) == 2


def test_sent_twice_after_a_crash_orthanc_has_it_once(tmp_path: Path, pacs: Orthanc) -> None:
    at, images = graded(tmp_path, pacs.dimse, "crash")
    pacs.store(builders.write(images, tmp_path / "images"))
    work(at)
    with at.ledger.write() as conn:
        conn.exec_driver_sql("UPDATE delivery SET state = 'sent', lease_until = 0, worker = 'gone'")
    work(at)
    assert [row["attempt"] for row in at.rows("delivery")] == [2, 2]
    assert at.states("delivery") == ["accepted", "accepted"]
    assert len(pacs.results(images[0].StudyInstanceUID)) == 2


def test_storescp_that_cannot_be_asked_takes_both(tmp_path: Path) -> None:
    with storescp() as peer:
        at, _ = graded(tmp_path, peer.dimse, "scp")
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        assert len(peer.files()) == 2


@pytest.mark.parametrize("mood", ["--refuse", "--abort-during", "--abort-after"])
def test_storescp_that_refuses_or_breaks_off_is_tried_later(tmp_path: Path, mood: str) -> None:
    with storescp(mood) as peer:
        at, _ = graded(tmp_path, peer.dimse, mood)
        work(at)
        assert at.states("delivery") == ["due", "due"]
        assert at.rows("destination")[0]["failures"] == 1
        port = peer.port
    _same_port(at, port)


def _same_port(at: House, port: int) -> None:
    """A good one at the same address, and what waited goes there."""
    with storescp() as good:
        good.stop()
        good.argv = [*good.argv[:-1], str(port)]
        good.port = port
        good.start()
        for _ in range(3):
            at.clock[0] += 900
            work(at)
            while grade_next(at.post()):  # it could not be asked whether it can be asked: made again, saying that
                pass
        assert [state for state in at.states("delivery") if state != "cancelled"] == ["accepted", "accepted"]
        assert len(good.files()) == 2


def test_a_deliverer_that_lost_its_lease_does_not_overwrite_the_next_ones_answer(tmp_path: Path) -> None:
    with storescp() as peer:
        at, _ = graded(tmp_path, peer.dimse, "stale")
        stale = deliveries.claim(at.ledger, worker="asleep", lease_s=60, known=(peer.dimse,))
        assert stale
        at.clock[0] += 61
        work(at)
        backoff = Backoff(first_s=1, max_s=1)
        assert not deliveries.away(at.ledger, stale, Reason.DESTINATION_DOWN, "late", backoff)
        assert at.states("delivery") == ["accepted", "accepted"]
