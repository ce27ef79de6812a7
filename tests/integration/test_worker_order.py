"""Elements behind the picture, out of order: the door stores such images, and their patient is their results'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from shuffled import behind_the_picture
from worker_house import house

from cauda.core import stored
from cauda.deploy import analyze, sources
from cauda.worker import numbers
from cauda.worker.accession_numbers import accession_numbers
from cauda.worker.grade import grade_next

PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "SeriesNumber")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "BitsAllocated")
ORDERS = pytest.mark.parametrize("keywords", [PATIENT, UIDS, GEOMETRY, (*PATIENT, *UIDS, *GEOMETRY)], ids=str)


def late(keywords: tuple[str, ...]) -> Callable[..., bytes]:
    """What writes a file with these elements at its end."""
    whole, tags = builders.part10, {int(Tag(keyword)) for keyword in keywords}
    return lambda image, *syntax: behind_the_picture(whole(image, *syntax), tags)


@ORDERS
@pytest.mark.peers
def test_results_are_of_the_patient_whose_attributes_stand_behind_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keywords: tuple[str, ...]
) -> None:
    at = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    monkeypatch.setattr(builders, "part10", late(keywords))
    study = at.complete(builders.mr_study(f"late {keywords}", axial=12))
    assert grade_next(at.post())
    (revision,) = at.rows("revision")
    assert (revision["state"], revision["reason"]) == ("reported", None)
    made = [dcmread(path) for path in at.outbox()]
    assert {str(one.Modality) for one in made} == {"SR", "OT"}
    told = {(one.PatientID, str(one.PatientName), one.PatientBirthDate, one.AccessionNumber) for one in made}
    assert told == {("PID1", "Test^Study", "19600102", "ACC1")}
    assert {one.StudyInstanceUID for one in made} == {study}
    assert accession_numbers(at.post(), study, revision["id"]) == {"ACC1"}
    assert set(numbers.written(at.post(), [row["path"] for row in at.rows("instance")])) == {1, 2}


@ORDERS
def test_analyze_reads_what_stands_behind_the_picture(tmp_path: Path, keywords: tuple[str, ...]) -> None:
    write = late(keywords)
    for number, image in enumerate(builders.mr_study("late files")):
        (tmp_path / f"{number}.dcm").write_bytes(write(image))
    found = analyze.folder_of(tmp_path)
    assert len(found.paths) == 10
    told: set[tuple[Any, ...]] = set()
    for path in found.paths:
        header = stored.header(path)
        told.add((header.PatientID, header.StudyInstanceUID, tuple(header.PixelSpacing), "PixelData" in header))
    assert told == {("PID1", found.study_uid, (1.0, 1.0), False)}
    assert [len(study) for study in sources.folder(tmp_path).studies] == [10]


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
)
def test_a_header_is_all_but_the_picture_whatever_its_size_and_encoding(tmp_path: Path, syntax: UID) -> None:
    """A functional group may be larger than what is passed over; zeros behind the last element are no element."""
    item = Dataset()
    item.TextValue = "x" * 200_000
    image = builders.mr_image("1.2.3", "1.2.3.4", "1.2.3.4.5", DigitalSignaturesSequence=[item])
    if syntax == RLELossless:
        image["PixelData"].VR = "OB"
        image.PixelData = encapsulate([bytes(100_000)])
    content = builders.part10(image, syntax)
    padded = b"" if syntax == DeflatedExplicitVRLittleEndian else bytes(512)
    (tmp_path / "image.dcm").write_bytes(content + padded)
    header = stored.header(tmp_path / "image.dcm")
    (tmp_path / "image.dcm").unlink()  # nothing of it is read later
    assert isinstance(header.get_item("DigitalSignaturesSequence"), RawDataElement)  # not decoded yet
    assert len(header.DigitalSignaturesSequence[0].TextValue) == 200_000
    assert set(header.keys()) == set(image.keys()) - {Tag("PixelData")}
