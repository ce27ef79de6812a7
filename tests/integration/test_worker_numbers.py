"""Our series have numbers that the archive has not in use, also by what never came here (CLINICAL.md 26)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import Orthanc, orthanc
from graded import images, work
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from scripted_archive import Archive, archive
from worker_house import House, house

from cauda.core import retractions
from cauda.core.retractions import Why
from cauda.core.schema import RevisionKind
from cauda.worker.grade import grade_next

DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
STUDY = str(images()[0].StudyInstanceUID)


def graded(data: Path, url: str, **settings: Any) -> House:
    at = house(data, simulated=True, destinations=[url], **settings)
    at.complete(images())
    assert grade_next(at.post())
    return at


def made(at: House) -> dict[str, int]:
    return {row["sop_uid"]: int(dcmread(at.data / row["path"]).SeriesNumber) for row in at.rows("result")}


def foreign(number: int) -> Dataset:
    """Another vendor's result, which never came here."""
    dataset = builders.foreign_result(images()[0], f"1.2.826.0.1.79.{number}")
    dataset.SeriesNumber = number
    return dataset


def in_orthanc(pacs: Orthanc) -> list[tuple[str, int]]:
    series = (one["MainDicomTags"] for one in pacs.get("/series?expand"))
    return sorted((one["Modality"], int(one["SeriesNumber"])) for one in series if one["Modality"] != "MR")


@pytest.mark.peers
@pytest.mark.parametrize("protocol", ["dimse", "stow"])
def test_numbers_that_orthanc_has_in_use_are_not_used_again(tmp_path: Path, protocol: str) -> None:
    with orthanc(Plugins=[DICOMWEB]) as pacs:
        pacs.store(builders.write([*images(), foreign(9901), foreign(9903)], tmp_path / "images"))
        at = graded(tmp_path / "data", pacs.dimse if protocol == "dimse" else f"stow+{pacs.url}/dicom-web")
        work(at)
        assert in_orthanc(pacs) == [("OT", 9901), ("OT", 9903), ("OT", 9904), ("SR", 9902)]


@pytest.mark.peers
def test_every_series_of_a_revised_and_withdrawn_study_has_a_number_of_its_own(tmp_path: Path) -> None:
    with orthanc() as pacs:
        pacs.store(builders.write([*images(), foreign(9902)], tmp_path / "images"))
        at = graded(tmp_path / "data", pacs.dimse)
        work(at)
        at.file(builders.mr_study("graded", axial=5, sagittal=5, StudyDescription="MR LSPINE again"))
        at.freeze(STUDY, RevisionKind.REISSUE, "demographics corrected")
        assert grade_next(at.post())
        work(at)
        at.write(retractions.retract, STUDY, Why.WRONG_GRADE)
        assert grade_next(at.post())
        work(at)
        at.clock[0] += 60
        work(at)
        found = in_orthanc(pacs)
        assert sorted(modality for modality, _ in found) == ["KO", "KO", "OT", "OT", "OT", "OT", "SR", "SR"]
        numbers = [number for _, number in found]
        assert len(set(numbers)) == len(numbers)


def listing(peer: Archive, *numbers: object) -> None:
    """The archive lists a series for each number."""
    peer.knows(images()[0])
    matches = []
    for place, one in enumerate(numbers):
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = "SERIES", STUDY
        match.SeriesInstanceUID = f"1.2.{place}"
        if one is not None:
            value = str(one).encode()
            match[Tag("SeriesNumber")] = RawDataElement(
                Tag("SeriesNumber"), "IS", len(value), value, 0, is_implicit_VR=False, is_little_endian=True
            )
        matches.append(match)
    peer.series[STUDY] = matches


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([], [9901, 9902]),
        ([9902], [9901, 9903]),
        ([9901, 9902, 9903], [9904, 9905]),
        ([None, "", "nonsense ", " 9901"], [9902, 9903]),
    ],
)
def test_whatever_an_archive_says_of_numbers(tmp_path: Path, answer: list[object], expected: list[int]) -> None:
    with archive() as peer:
        listing(peer, *answer)
        assert list(made(graded(tmp_path, peer.dimse)).values()) == expected


@pytest.mark.parametrize("how", ["refuses", "abort", "endless"])
def test_an_archive_that_does_not_say_keeps_no_result_back(tmp_path: Path, how: str) -> None:
    with archive() as peer:
        listing(peer, 9901)
        if how == "refuses":
            peer.find_status = 0xC001
        else:
            peer.find_script = how
        assert list(made(graded(tmp_path, peer.dimse)).values()) == [9901, 9902]


def test_where_nobody_can_be_asked_our_own_earlier_numbers_are_known(tmp_path: Path) -> None:
    with archive(can_find=False) as peer:
        at = graded(tmp_path, peer.dimse)
        work(at)
        at.file(builders.mr_study("graded", axial=5, sagittal=5, StudyDescription="MR LSPINE again"))
        at.freeze(STUDY, RevisionKind.REISSUE, "demographics corrected")
        assert grade_next(at.post())
        assert list(made(at).values()) == [9901, 9902, 9903, 9904, 9905]
        at.file(builders.mr_study("graded", axial=5, sagittal=5, StudyDescription="MR LSPINE once more"))
        at.freeze(STUDY, RevisionKind.REISSUE, "demographics corrected")
        assert grade_next(at.post())
        assert list(made(at).values())[5:] == [9903, 9904, 9905], "what never left uses up no number"


def test_where_nobody_can_be_asked_what_came_here_and_is_no_input_is_looked_at(tmp_path: Path) -> None:
    """Another vendor's result that the archive forwarded holds its number."""
    with archive(can_find=False) as peer:
        at = house(tmp_path, simulated=True, destinations=[peer.dimse])
        at.complete([*images(), foreign(9901), foreign(9903)])
        assert grade_next(at.post())
        assert list(made(at).values()) == [9902, 9904]


def test_another_number_is_another_object(tmp_path: Path) -> None:
    """Results that a crash left behind are not sent under the number that somebody else took meanwhile."""
    with archive() as peer:
        listing(peer)
        first = graded(tmp_path / "one", peer.dimse)
        listing(peer, 9901)
        second = graded(tmp_path / "two", peer.dimse)
        assert set(made(first)).isdisjoint(made(second))
        listing(peer)
        assert made(graded(tmp_path / "three", peer.dimse)) == made(first)
