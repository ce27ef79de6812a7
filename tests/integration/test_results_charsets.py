"""Names in every character set of the zoo: through our results, over DICOM into Orthanc and back, byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import builders_results as given
import pytest
from dicom_peers import Orthanc, orthanc
from pydicom import Dataset, dcmread

from cauda.archive.protocol import open_archive
from cauda.core.settings import Destination
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results.secondary_capture import secondary_capture
from cauda.pipeline.results.structured_report import structured_report

pytestmark = [pytest.mark.peers, pytest.mark.realdata]

CHARSET, NAME = (0x0008, 0x0005), (0x0010, 0x0010)
FEWEST = 12  # different character sets and names among the zoo's files


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    with orthanc() as server:
        yield server


def value(content: bytes, tag: tuple[int, int]) -> bytes | None:
    """The bytes of a top-level element in Explicit VR Little Endian, found without any DICOM library."""
    at = 132
    while at < len(content):
        here, vr = struct.unpack_from("<HH", content, at), content[at + 4 : at + 6]
        if vr in {b"SQ", b"OB", b"OW", b"UN", b"UT", b"UC"}:
            length, start = *struct.unpack_from("<I", content, at + 8), at + 12
        else:
            length, start = *struct.unpack_from("<H", content, at + 6), at + 8
        if here == tag:
            return content[start : start + length]
        if length == 0xFFFFFFFF or here > tag:
            return None
        at = start + length
    return None


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def zoo(realdata: Path) -> dict[tuple[bytes, bytes], Path]:
    """One file for each character set and name; most are the examples of PS3.5 H to K."""
    found = {}
    for path in sorted((realdata / "dicom-zoo").glob("*charset*.dcm")):
        content = path.read_bytes()
        charset, name = value(content, CHARSET), value(content, NAME)
        if charset and name:
            found.setdefault((charset, name), path)
    return found


def results(path: Path, number: int) -> list[Dataset]:
    """SR and SC of a study whose images bear the file's patient."""
    study = f"{given.STUDY}.{number}"
    patient = dcmread(path, stop_before_pixels=True)
    sources = []
    for source in given.sources(StudyInstanceUID=study)[:1]:
        for tag in (CHARSET, NAME, (0x0010, 0x0020)):
            source[tag] = patient.get_item(tag)
        sources.append(source)
    report = replace(given.no_bundle(), study_instance_uid=study)
    ids = {
        kind: given.ObjectIds(
            sop_instance_uid=f"{study}.{place}.1", series_instance_uid=f"{study}.{place}", series_number=9900 + place
        )
        for place, kind in enumerate(("sr", "sc"), start=1)
    }
    context = given.context(**ids)
    return [
        structured_report(report, sources, context),
        secondary_capture(report, Pictures(), sources, context),
    ]


def texts(dataset: Dataset) -> Iterator[str]:
    """Every text below the study's level: what we wrote ourselves."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from texts(item)
        elif element.VR in {"LO", "SH", "ST", "LT", "UT", "UC", "PN"} and element.tag.group != 0x0010:
            yield str(element.value)


def test_every_name_of_the_zoo_comes_back_from_orthanc_as_the_images_have_it(
    realdata: Path, pacs: Orthanc, tmp_path: Path
) -> None:
    files = zoo(realdata)
    assert len(files) >= FEWEST
    made: dict[str, tuple[bytes, bytes]] = {}
    destination = Destination.model_validate(pacs.dimse)
    classes = sorted({one.SOPClassUID for one in results(next(iter(files.values())), 0)})
    with open_archive(destination, "CAUDA", classes, timeout_s=30) as peer:
        for number, (expected, path) in enumerate(files.items(), start=1):
            for one in results(path, number):
                file = tmp_path / f"{one.SOPInstanceUID}.dcm"
                file.write_bytes(encoded(one))
                assert all(text.isascii() for text in texts(dcmread(file))), path.name
                assert peer.store(dcmread(file)) == ""
                made[str(one.SOPInstanceUID)] = expected
    back = {one["sop_uid"]: pacs.file(one["id"]) for one in pacs.instances()}
    assert back.keys() == made.keys()
    for uid, expected in made.items():
        assert (value(back[uid], CHARSET), value(back[uid], NAME)) == expected
