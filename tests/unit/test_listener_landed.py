"""What filing reads of a landed file: whose it is, without its pixels, whatever the bytes."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from pathlib import Path

import builders
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from cauda.core import headers
from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.listener import landed, part10

DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED)


def an_image(**attributes: object) -> Dataset:
    return builders.mr_image("1.2.3", "1.2.3.4", "1.2.3.4.5", **attributes)


def an_enhanced_image() -> Dataset:
    """Two frames, their plane in the functional groups, whose items are longer than what is read of text."""
    plane, groups = Dataset(), Dataset()
    plane.ImageOrientationPatient = builders.SAGITTAL
    groups.PlaneOrientationSequence = Items([plane])
    groups.add_new(0x00091010, "OB", bytes(30_000))
    image = an_image(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", ImageOrientationPatient=None)
    image.PerFrameFunctionalGroupsSequence = Items([groups] * 20)
    return image


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("make", [an_image, an_enhanced_image])
def test_the_header_is_that_of_the_whole_file(tmp_path: Path, syntax: str, make: object) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(builders.part10(make(), syntax))  # type: ignore[operator]  # one of two functions
    assert landed.read(path).header == headers.read(path)[0]
    assert landed.read(path).header.role in {headers.Role.AXIAL, headers.Role.SAGITTAL}


def test_who_brought_it_stands_in_its_file_meta(tmp_path: Path) -> None:
    origin = part10.Origin(association_id="a", calling_aet="MR1", called_aet="CAUDA", address="10.0.0.1")
    front = part10.file_meta(
        sop_class_uid=builders.MR_IMAGE, sop_uid="1.2.3.4.5", transfer_syntax=SYNTAXES[1], origin=origin
    )
    plain = builders.part10(an_image())
    (tmp_path / "a.dcm").write_bytes(front + plain[part10.dataset_at(plain) :])
    assert landed.read(tmp_path / "a.dcm").origin == origin
    (tmp_path / "b.dcm").write_bytes(plain)
    assert landed.read(tmp_path / "b.dcm").origin is None


@pytest.mark.parametrize("kind", ["deflated pixels", "items", "text", "a long item"])
def test_reading_costs_no_more_memory_than_what_is_read(tmp_path: Path, kind: str) -> None:
    """As it was once accepted, under whatever limits."""
    image, syntax = an_image(), SYNTAXES[1]
    if kind == "deflated pixels":
        image.PixelData, syntax = bytes(96 << 20), DEFLATED
    elif kind == "items":
        image.ReferencedStudySequence = Items([Dataset() for _ in range(100_000)])
    elif kind == "text":
        image.add_new(0x00104000, "UT", "x" * (40 << 20))
    else:
        item = Dataset()
        item.add_new(0x00091010, "OB", bytes(40 << 20))
        image.ContributingEquipmentSequence = Items([item])
    path = tmp_path / "large.dcm"
    path.write_bytes(builders.part10(image, syntax))
    tracemalloc.start()
    try:
        assert landed.read(path).header.study_uid == "1.2.3"
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_whatever_the_bytes_it_is_read_or_rejected(tmp_path: Path) -> None:
    draw = random.Random(11)
    path = tmp_path / "any.dcm"
    good = [builders.part10(make(), syntax) for syntax in SYNTAXES for make in (an_image, an_enhanced_image)]
    outcomes = set()
    for _ in range(600):
        data = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 30)):
            data[draw.randrange(132, len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice([len(data), draw.randint(0, len(data))])] or b"x")
        try:
            landed.read(path)
            outcomes.add("read")
        except Rejected:
            outcomes.add("rejected")
    assert outcomes == {"read", "rejected"}


def test_a_deflated_data_set_that_cannot_be_inflated_is_rejected(tmp_path: Path) -> None:
    """Also while the file is mapped, where an error of its own would hide the reason."""
    whole = builders.part10(an_image(), DEFLATED)
    at = part10.dataset_at(whole)
    for data in (b"\xff" * 500, zlib.compress(bytes(10_000), wbits=-15), whole[at:-200]):
        (tmp_path / "bad.dcm").write_bytes(whole[:at] + data)
        with pytest.raises(Rejected) as caught:
            landed.read(tmp_path / "bad.dcm")
        assert caught.value.reason in {Reason.NOT_DICOM, Reason.TRUNCATED}
