"""Each of the zoo's files, really sent: it ends as tests/zoo_outcomes.csv says, and that was argued from the files.

The table's columns: what the door answers (a C-STORE status in hex, or "no context" when the class or encoding is not
taken at all) with its Error Comment; what becomes of its pixels (decoded, undecodable, none); how a study of this one
file is rejected; and why.
"""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import listener_house
import pytest
import zoo
from analytic_spine import parts
from builders import dataset_bytes
from listener_house import listener
from pydicom import Dataset, dcmread
from raw_peer import connected

from cauda.core.domain import Status
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.source import SourceImage

pytestmark = pytest.mark.realdata

Row = dict[str, str]


def _table() -> dict[str, Row]:
    with (Path(zoo.__file__).parent / "zoo_outcomes.csv").open(newline="") as lines:
        return {row["file"]: row for row in csv.DictReader(lines)}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What came of sending: the door's answers by file name, and what is filed by its data set's digest."""

    answers: dict[str, tuple[str, str]]
    sent: dict[str, str]
    filed: dict[str, Path]


def _answer(port: int, sent: zoo.Sent, sop_uid: str) -> tuple[str, str]:
    """The door's status and comment for one file, sent over an association of its own."""
    with connected(port) as peer:
        assert peer.associate([(sent.sop_class, sent.syntax)])
        if 1 not in peer.accepted:
            assert peer.release()
            return "no context", ""
        answer = peer.store(1, sent.sop_class, sop_uid, sent.data)
        if answer is None:
            return "aborted", ""
        assert peer.release()
        return f"{answer.status:04X}", answer.comment


@pytest.fixture(scope="module", params=listener_house.DATA_PATHS)
def delivered(
    request: pytest.FixtureRequest, realdata: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Delivered]:
    """The whole zoo sent to one listener."""
    answers, digests = {}, {}
    folder = tmp_path_factory.mktemp("zoo")
    with listener(folder / "data", listener={"data_path": request.param}) as house:
        for path in sorted((realdata / "dicom-zoo").iterdir()):
            if path.name != "CATALOG.csv":
                sent = zoo.as_sent(path)
                answers[path.name] = _answer(house.ports.dimse, sent, sent.sop_uid)
                digests[path.name] = _digest(sent.data)
        house.until_filed()
        kept = [*(house.data / "studies").glob("*/*.dcm"), *(house.data / "unfiled").iterdir()]
        yield Delivered(
            answers=answers, sent=digests, filed={_digest(dataset_bytes(path.read_bytes())): path for path in kept}
        )


def test_every_file_is_answered_as_the_table_says_and_kept_as_it_came(delivered: Delivered) -> None:
    table = _table()
    assert delivered.answers == {name: (row["door"], row["comment"]) for name, row in table.items()}
    stored = {delivered.sent[name] for name, row in table.items() if row["door"] == "0000"}
    assert set(delivered.filed) == stored
    assert all("unfiled" not in path.parts for path in delivered.filed.values())


def _pixels(dataset: Dataset) -> str:
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return "none"
    try:
        return "decoded" if dataset.pixel_array.size else "undecodable"
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError):
        return "undecodable"


@pytest.mark.parametrize("delivered", ["replaced"], indirect=True)
def test_what_is_stored_decodes_or_not_and_is_rejected_as_the_table_says(delivered: Delivered) -> None:
    """By what is installed, and none of that is GPL; grading stand-ins are given, so a grade would be possible."""
    assert find_spec("libjpeg") is None, "pylibjpeg-libjpeg is GPL"
    found, table = {}, _table()
    for name, row in table.items():
        if row["door"] != "0000":
            continue
        path = delivered.filed[delivered.sent[name]]

        def read(path: Path = path) -> Dataset:
            return dcmread(path)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, about values that break the standard
            image = SourceImage(header=dcmread(path, stop_before_pixels=True), read=read)
            report = analyse_study("1.2.3", [image], parts()).report
            found[name] = (_pixels(read()), str(report.reason or report.findings[0].abstained))
        assert report.status is Status.REJECTED or not any(finding.grade for finding in report.findings)
        assert report.reason_text or report.status is Status.REPORTED
    assert found == {name: (table[name]["pixels"], table[name]["pipeline"]) for name in found}


@pytest.mark.usefixtures("data_path")
def test_a_file_meta_that_names_another_instance_is_refused_if_its_uid_is_announced(
    realdata: Path, tmp_path: Path
) -> None:
    """Some senders announce what the File Meta says: whoever asks for that instance later would be told a lie."""
    other = [
        sent
        for path in sorted((realdata / "dicom-zoo").iterdir())
        if _table().get(path.name, {}).get("door") == "0000"
        and (sent := zoo.as_sent(path)).meta_sop_uid not in {None, "", sent.sop_uid}
    ]
    assert len(other) > 10
    with listener(tmp_path / "data") as house:
        for sent in other[::4]:
            status, comment = _answer(house.ports.dimse, sent, str(sent.meta_sop_uid))
            assert (status, comment) == ("A900", "SOP Instance UID differs from the command's")
