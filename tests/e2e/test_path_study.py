"""A study's way from a sender to an archive that accepts its results (CLINICAL.md 1, 3, 4, 25)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from builders import (
    COMPREHENSIVE_SR,
    KEY_OBJECT,
    SECONDARY_CAPTURE,
    dataset_bytes,
    foreign_result,
    mr_study,
    uid,
    write,
)
from dicom_peers import Orthanc, orthanc, storescu
from harness import Node, Sender, assert_each_once, node, nothing_in_between, prepared, settled
from peers import until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    """An archive for all; each test has studies of its own."""
    with orthanc() as archive:
        yield archive


@pytest.fixture(scope="module")
def house(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node for all; each test has studies of its own."""
    with node(tmp_path_factory.mktemp("house") / "data", pacs.dimse) as made:
        pacs.know("cauda", "CAUDA", made.port)
        yield made
        assert made.stop() == 0


def revisions(house: Node, study: str) -> list[tuple[str, ...]]:
    """Number, kind and state of a study's revisions."""
    return house.sql(f"SELECT number, kind, state FROM revision WHERE study_uid = '{study}' ORDER BY number")


def delivered(house: Node, pacs: Orthanc, seed: str, folder: Path) -> tuple[Sender, list[object], str]:
    """A study whose results the archive has."""
    study = mr_study(seed)
    pacs.store(write(study, folder / "files"))
    sender = Sender(house.port)
    sender.insist(study)
    name = str(study[0].StudyInstanceUID)
    settled(house, [name], 2)
    return sender, list(study), name


def quiet(house: Node, study: str, instances: int) -> None:
    """What was sent is filed, and the completeness tick has looked at it several times since."""
    count = f"SELECT count(*) FROM instance WHERE study_uid = '{study}'"
    until(lambda: int(house.one(count)) >= instances, 20, f"{instances} instances are filed")
    state = f"SELECT state, input_at, released_at, hold FROM study WHERE uid = '{study}'"
    looks = f"SELECT count(*) FROM study WHERE uid = '{study}' AND state = 'complete' AND corrected_at IS NULL"
    until(lambda: house.one(looks) == "1", 20, f"nothing is left to be decided: {house.sql(state)}")


@pytest.mark.realdata
@pytest.mark.timeout(900)
def test_a_real_study_is_acknowledged_kept_completed_reported_and_its_results_accepted(
    house: Node, pacs: Orthanc, scanner_study: Path
) -> None:
    """And with the archive lacking the study its results wait; and a resend opens nothing."""
    files = sorted(p for p in scanner_study.rglob("*") if p.is_file())
    command = storescu(house.port, [scanner_study], "-R", "-xr", "+sd", "+r", timeout=120)
    assert command.returncode == 0, command.stderr
    study = until(lambda: house.one("SELECT study_uid FROM delivery WHERE reason = 'study_absent'"), 90, "it waits")
    assert house.one(f"SELECT count(*) FROM delivery WHERE study_uid = '{study}' AND state = 'accepted'") == "0"
    assert pacs.results(study) == []
    originals = sorted(dataset_bytes(p.read_bytes()) for p in files)
    kept = sorted(dataset_bytes(p.read_bytes()) for p in (house.data / "studies" / study).iterdir())
    assert kept == originals
    assert revisions(house, study) == [("1", "grade", "reported")]
    reason = house.one(f"SELECT complete_reason FROM study WHERE uid = '{study}'")
    assert "axial" in reason
    assert "sagittal" in reason
    pacs.store(files)
    settled(house, [study], 2)
    results = pacs.results(study)
    assert sorted(one["modality"] for one in results) == ["OT", "SR"]
    for one in results:
        made = house.data / "outbox" / study / f"{one['sop_uid']}.dcm"
        assert dataset_bytes(pacs.file(one["id"])) == dataset_bytes(made.read_bytes()), "as made, to the byte"
    again = storescu(house.port, [scanner_study], "-R", "-xr", "+sd", "+r", timeout=120)
    assert again.returncode == 0
    quiet(house, study, len(files))
    assert revisions(house, study) == [("1", "grade", "reported")]
    assert house.one(f"SELECT count(*) FROM instance WHERE study_uid = '{study}'") == str(len(files))
    until(lambda: not nothing_in_between(house.data), 20, "the last duplicate to be filed")


def test_a_study_from_many_associations_is_graded_once(house: Node, pacs: Orthanc, tmp_path: Path) -> None:
    """One association an image, as some scanners do, and one that is aborted."""
    study = mr_study("many")
    pacs.store(write(study, tmp_path / "files"))
    sender = Sender(house.port)
    prepared(study)
    assert sender.attempt(study[:1], release=False)
    for image in study[1:]:
        assert sender.attempt([image])
    name = str(study[0].StudyInstanceUID)
    settled(house, [name], 2)
    assert revisions(house, name) == [("1", "grade", "reported")]


def test_the_archive_sending_everything_back_opens_nothing(house: Node, pacs: Orthanc, tmp_path: Path) -> None:
    """CLINICAL.md 1: our own SR and SC, and the images, by the archive's own C-STORE; several times over."""
    sender, study, name = delivered(house, pacs, "loop", tmp_path)
    before = house.sql(f"SELECT * FROM study WHERE uid = '{name}'")
    for _ in range(3):
        pacs.send("cauda", [one["id"] for one in pacs.instances(name)])
    quiet(house, name, len(study) + 2)
    assert house.sql(f"SELECT * FROM study WHERE uid = '{name}'") == before
    assert revisions(house, name) == [("1", "grade", "reported")]
    ours = house.sql(f"SELECT role FROM instance WHERE study_uid = '{name}' AND ours")
    assert ours == [("inert",), ("inert",)]
    assert len(pacs.results(name)) == 2
    assert len(sender.acknowledged) == len(study)


def test_objects_of_others_are_kept_and_inert(house: Node, pacs: Orthanc, tmp_path: Path) -> None:
    """SR, SC and KO that somebody else made in our study, and a study of nothing but those."""
    sender, study, name = delivered(house, pacs, "others", tmp_path)
    draw = random.Random("others")
    foreign = [
        foreign_result(study[0], uid(draw), kind)  # type: ignore[arg-type]  # data sets
        for kind in (COMPREHENSIVE_SR, SECONDARY_CAPTURE, KEY_OBJECT)
    ]
    sender.insist(foreign)
    quiet(house, name, len(study) + 3)
    assert revisions(house, name) == [("1", "grade", "reported")]
    for one in foreign:
        kept = house.data / "studies" / name / f"{one.SOPInstanceUID}.dcm"
        assert kept.is_file()


def test_new_demographics_are_a_correction_and_reissue_without_grading(
    house: Node, pacs: Orthanc, tmp_path: Path
) -> None:
    """CLINICAL.md 4 and 23: one event, the findings kept, new UIDs, and no identity left of the old."""
    sender, study, name = delivered(house, pacs, "correction", tmp_path)
    first = {one["sop_uid"] for one in pacs.results(name)}
    corrected = deepcopy(study)
    for image in corrected:
        image.PatientName = "Corrected^Name"  # type: ignore[attr-defined]  # a data set
        image.AccessionNumber = "ACC2"  # type: ignore[attr-defined]  # a data set
    for one in pacs.instances(name):
        pacs.post(f"/instances/{one['id']}", method="DELETE")
    pacs.store(write(corrected, tmp_path / "corrected"))  # type: ignore[arg-type]  # data sets
    Sender(house.port).insist(corrected)  # type: ignore[arg-type]  # data sets
    settled(house, [name], 5)  # the note that rejects the first two, too
    assert revisions(house, name) == [("1", "grade", "reported"), ("2", "reissue", "reported")]
    second = {one["sop_uid"] for one in pacs.results(name)}
    assert first.isdisjoint(second)
    assert len([one for one in pacs.results(name) if one["modality"] in {"SR", "OT"}]) == 2
    assert (
        house.one(f"SELECT count(*) FROM event WHERE study_uid = '{name}' AND kind = 'demographics_corrected'") == "1"
    )
    for one in pacs.results(name):
        content = pacs.file(one["id"])
        assert b"Corrected^Name" in content
        assert b"Test^Study" not in content
    assert len(sender.acknowledged) == len(study)


def test_another_patient_under_the_same_study_holds_it(house: Node, pacs: Orthanc, tmp_path: Path) -> None:
    """CLINICAL.md 4: images of one study that name two patients are graded for neither."""
    study = mr_study("mixed")
    study[3].PatientID = "SOMEBODY ELSE"
    pacs.store(write(study[:1], tmp_path / "files"))
    Sender(house.port).insist(study)
    name = str(study[0].StudyInstanceUID)
    until(lambda: house.one(f"SELECT hold FROM study WHERE uid = '{name}'") == "identity_mixed", 20, "held")
    until(lambda: house.one(f"SELECT complete_reason FROM study WHERE uid = '{name}'") != "", 20, "completed")
    assert house.one(f"SELECT count(*) FROM delivery WHERE study_uid = '{name}'") == "0"
    assert pacs.results(name) == []


def test_an_archive_that_knows_another_patient_holds_delivery(house: Node, pacs: Orthanc, tmp_path: Path) -> None:
    """CLINICAL.md 25."""
    study = mr_study("mismatch")
    other = deepcopy(study)
    for image in other:
        image.PatientID = "OTHER-PID"
    pacs.store(write(other, tmp_path / "files"))
    Sender(house.port).insist(study)
    name = str(study[0].StudyInstanceUID)
    until(lambda: house.one(f"SELECT hold FROM study WHERE uid = '{name}'") == "identity_mismatch", 40, "held")
    assert pacs.results(name) == []


def test_one_study_after_the_other_all_arrive_each_once(tmp_path: Path) -> None:
    """From one sender into one folder, over a stop by SIGTERM that takes nothing with it."""
    studies = [mr_study(f"several {n}") for n in range(4)]
    names = [str(study[0].StudyInstanceUID) for study in studies]
    sender = Sender(0)
    with node(tmp_path / "data", f"folder:{tmp_path / 'out'}") as made:
        sender.port = made.port
        for study in studies:
            sender.insist(study)
        assert made.stop() == 0
        made.start()
        settled(made, names, 2)
        assert_each_once(made, sender, names, tmp_path / "out")
