"""The head parse at the door: it names whose an object is, and says what is wrong, whatever the bytes."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress
from io import BytesIO

import builders
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from cauda.core.domain import Reason
from cauda.core.errors import CaudaError, Rejected
from cauda.listener import head

BOUND = 1 << 20


def encoded(dataset: Dataset, *, implicit: bool = False, big: bool = False) -> bytes:
    """The data set's bytes by pydicom's writer."""
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, not big
    write_dataset(out, dataset)
    return out.getvalue()


def image(**attributes: object) -> Dataset:
    return builders.mr_image("1.2.3", "1.2.3.4", "1.2.3.4.5", **attributes)


EXPLICIT = "1.2.840.10008.1.2.1"


ENCODINGS = [
    (EXPLICIT, encoded(image())),
    (head.IMPLICIT_LITTLE, encoded(image(), implicit=True)),
    (head.EXPLICIT_BIG, encoded(image(), big=True)),
    (head.DEFLATED, zlib.compress(encoded(image()), wbits=-15)),
]


@pytest.mark.parametrize(("syntax", "data"), ENCODINGS)
def test_the_four_uids_are_found_in_every_encoding(syntax: str, data: bytes) -> None:
    found = head.parse(data, syntax, max_bytes=BOUND)
    assert found == head.Head(
        sop_class_uid=builders.MR_IMAGE, sop_uid="1.2.3.4.5", study_uid="1.2.3", series_uid="1.2.3.4"
    )


def test_sequences_and_encapsulated_pixels_are_walked_over() -> None:
    for data in (encoded(nested(undefined=True)), encoded(nested(undefined=False)), encapsulated()):
        found = head.parse(data, EXPLICIT, max_bytes=BOUND)
        assert (found.study_uid, found.sop_uid) == ("1.2.3", "1.2.3.4.5")


def test_elements_out_of_order_are_no_data_set_wherever_they_stand() -> None:
    """Those with a short header are walked on a way of their own."""
    good = encoded(image())
    at = good.index(b"\x10\x00\x10\x00PN")
    length = 8 + int.from_bytes(good[at + 6 : at + 8], "little")
    element = good[at : at + length]
    for bad in (good[:at] + element + good[at:], element + good[:at] + good[at + length :]):
        with pytest.raises(Rejected) as caught:
            head.parse(bad, EXPLICIT, max_bytes=BOUND)
        assert caught.value.reason is Reason.NOT_DICOM


def test_a_delimiter_between_elements_is_no_data_set_even_where_a_length_looks_like_a_representation() -> None:
    good = encoded(image())
    stray = b"\xfe\xff\x00\xe0CS\x00\x00"
    for bad in (good + stray, good[: good.index(b"\x10\x00\x10\x00PN")] + stray):
        with pytest.raises(Rejected) as caught:
            head.parse(bad, EXPLICIT, max_bytes=BOUND)
        assert caught.value.reason is Reason.NOT_DICOM


def nested(*, undefined: bool) -> Dataset:
    inner = Dataset()
    inner.StudyInstanceUID = "9.9.9"  # belongs to the item, not to the object
    items = Items([inner])
    items.is_undefined_length = undefined
    inner.is_undefined_length_sequence_item = undefined
    dataset = image()
    dataset.ReferencedStudySequence = items
    return dataset


@pytest.mark.parametrize("undefined", [True, False])
def test_uids_inside_sequences_are_not_taken_for_the_objects_own(undefined: bool) -> None:
    assert head.parse(encoded(nested(undefined=undefined)), EXPLICIT, max_bytes=BOUND).study_uid == "1.2.3"


def encapsulated() -> bytes:
    dataset = image(PixelData=encapsulate([b"ab" * 50, b"cd" * 50]))
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return encoded(dataset)


def test_encapsulated_pixel_data_passes_only_with_its_end() -> None:
    whole = encapsulated()
    assert head.parse(whole, EXPLICIT, max_bytes=BOUND).sop_uid == "1.2.3.4.5"
    for cut in (8, 20, 100):
        with pytest.raises(Rejected) as caught:
            head.parse(whole[:-cut], EXPLICIT, max_bytes=BOUND)
        assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_an_object_cut_short_anywhere_is_refused(kept: float) -> None:
    data = encoded(image())
    with pytest.raises(Rejected) as caught:
        head.parse(data[: int(len(data) * kept)], EXPLICIT, max_bytes=BOUND)
    assert caught.value.reason in {Reason.TRUNCATED, Reason.UID_INVALID}


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2/3", "1..2", "", "a.b", "1." + "2" * 70, ".1.2"])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_uid_that_could_leave_the_folder_is_refused(uid: str, keyword: str) -> None:
    dataset = image()
    dataset.add_new(dataset[keyword].tag, "LO", uid)
    dataset[keyword].VR = "UI"
    with pytest.raises(Rejected) as caught:
        head.parse(encoded(dataset), EXPLICIT, max_bytes=BOUND)
    assert caught.value.reason is Reason.UID_INVALID
    assert uid == "" or uid not in caught.value.message


def test_a_deflate_bomb_is_not_inflated_past_its_bound() -> None:
    bomb = zlib.compress(bytes(64 << 20), wbits=-15)
    assert len(bomb) < 100_000
    with pytest.raises(Rejected) as caught:
        head.parse(bomb, head.DEFLATED, max_bytes=BOUND)
    assert caught.value.reason is Reason.TOO_LARGE


def test_sequences_nested_without_end_do_not_exhaust_the_stack() -> None:
    level = b"\x08\x00\x11\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(Rejected):
        head.parse(level * 10_000, EXPLICIT, max_bytes=BOUND)


def test_any_bytes_at_all_are_answered_by_one_of_our_errors() -> None:
    draw = random.Random(7)
    good = encoded(nested(undefined=True))
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        syntax = draw.choice([EXPLICIT, head.IMPLICIT_LITTLE, head.EXPLICIT_BIG, head.DEFLATED])
        with suppress(CaudaError):  # anything else would be a dead thread
            head.parse(bytes(data[: draw.randint(0, len(data))]), syntax, max_bytes=BOUND)


def test_a_file_where_a_data_set_was_promised_is_not_understood() -> None:
    with pytest.raises(Rejected):
        head.parse(BytesIO(builders.part10(image())).getvalue(), EXPLICIT, max_bytes=BOUND)
