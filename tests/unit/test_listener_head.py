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
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from cauda.core.domain import Reason
from cauda.core.errors import CaudaError, Rejected
from cauda.core.settings import Limits
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


def element_of(data: bytes, begin: bytes) -> tuple[int, bytes]:
    """Where an element with a short header stands in explicit little endian, and its bytes."""
    at = data.index(begin)
    return at, data[at : at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")]


@pytest.mark.parametrize(
    "begin", [b"\x08\x00\x16\x00UI", b"\x10\x00\x10\x00PN", b"\x20\x00\x0d\x00UI", b"\x20\x00\x13\x00IS"]
)
def test_elements_count_wherever_they_stand_and_however_often_they_are_said(begin: bytes) -> None:
    good = encoded(image())
    at, element = element_of(good, begin)
    for data in (good[:at] + element + good[at:], element + good[:at] + good[at + len(element) :], good + element,
                 good[:at] + good[at + len(element) :] + element):  # fmt: skip
        found = head.parse(data, EXPLICIT, max_bytes=BOUND)
        assert (found.study_uid, found.sop_uid) == ("1.2.3", "1.2.3.4.5")


@pytest.mark.parametrize(
    ("keyword", "other"),
    [("StudyInstanceUID", "1.2.9"), ("SOPInstanceUID", "1.2.9"), ("PatientID", "SOMEBODY ELSE"), ("PatientID", ""),
     ("PatientBirthDate", "19010101"), ("AccessionNumber", "A9")],
)  # fmt: skip
@pytest.mark.parametrize("last", [True, False])
def test_an_object_that_says_twice_whose_it_is_and_differs_is_nobodys(keyword: str, other: str, last: bool) -> None:
    one, two = Dataset(), Dataset()
    setattr(one, keyword, image()[keyword].value or "A1")
    setattr(two, keyword, other)
    whole = image()
    del whole[keyword]
    data = encoded(one) + encoded(whole) + encoded(two) if last else encoded(one) + encoded(two) + encoded(whole)
    with pytest.raises(Rejected) as caught:
        head.parse(data, EXPLICIT, max_bytes=BOUND)
    assert caught.value.reason is Reason.ELEMENT_TWICE
    assert other == "" or other not in caught.value.message


@pytest.mark.parametrize(("syntax", "data"), ENCODINGS[:3])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 512, 200_001])
def test_zeros_behind_a_data_set_are_padding_and_nothing_may_follow_them(syntax: str, data: bytes, count: int) -> None:
    assert head.parse(data + bytes(count), syntax, max_bytes=BOUND).sop_uid == "1.2.3.4.5"
    if count >= 8:
        with pytest.raises(Rejected) as caught:
            head.parse(data + bytes(count) + b"\x01", syntax, max_bytes=BOUND)
        assert caught.value.reason is Reason.NOT_DICOM


def test_zeros_behind_a_deflated_data_set_are_padding_too() -> None:
    data = zlib.compress(encoded(image()) + bytes(200_001), wbits=-15)
    assert head.parse(data, head.DEFLATED, max_bytes=BOUND).sop_uid == "1.2.3.4.5"


@pytest.mark.parametrize("vr", [b"??", b"\0\0", b"  ", b"--", b"un"])
def test_a_vr_that_is_none_is_named_since_nothing_behind_it_can_be_found(vr: bytes) -> None:
    good = encoded(image())
    at = good.index(b"\x28\x00\x02\x00US")
    with pytest.raises(Rejected) as caught:
        head.parse(good[:at] + b"\x27\x00\x08\x10" + vr + b"\4\0ABCD" + good[at:], EXPLICIT, max_bytes=BOUND)
    assert caught.value.reason is Reason.NOT_DICOM
    assert caught.value.message == "element (0027,1008) has a VR that is none"


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


def deflated(dataset: Dataset) -> bytes:
    return zlib.compress(encoded(dataset), wbits=-15)


def refused(data: bytes, syntax: str = EXPLICIT, **limits: int) -> Rejected:
    """What a data set is refused with, by limits other than the defaults."""
    with pytest.raises(Rejected) as caught:
        head.parse(data, syntax, max_bytes=1 << 40, limits=Limits(**limits))
    return caught.value


def sequence(items: bytes, *, undefined: bool = True, vr: bytes = b"SQ") -> bytes:
    """A private element of explicit VR that holds these items."""
    length = b"\xff\xff\xff\xff" if undefined else len(items).to_bytes(4, "little")
    return b"\x09\x00\x11\x11" + vr + b"\0\0" + length + items + (SEQUENCE_END if undefined else b"")


def with_sequence(element: bytes) -> bytes:
    """An image with this element behind group 0008."""
    good = encoded(image())
    at = good.index(b"\x10\x00\x10\x00PN")
    return good[:at] + element + good[at:]


ITEM, ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0" + bytes(4)
SEQUENCE_END = b"\xfe\xff\xdd\xe0" + bytes(4)


@pytest.mark.parametrize("bound", ["by the caller", "by the setting"])
def test_a_deflate_bomb_is_not_inflated_past_its_bound(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where it is a data set nor where it is none; and never is all that came out there at once."""
    pieces: list[int] = []
    real = head._Inflated.more

    def more(self: head._Inflated) -> bytes:
        piece = real(self)
        pieces.append(len(piece))
        return piece

    monkeypatch.setattr(head._Inflated, "more", more)
    limits = Limits() if bound == "by the caller" else Limits(max_inflated_bytes=BOUND)
    bombs = deflated(image(PixelData=bytes(64 << 20))), zlib.compress(bytes(64 << 20), wbits=-15)
    for bomb in bombs:
        pieces.clear()
        assert len(bomb) < 100_000
        with pytest.raises(Rejected) as caught:
            head.parse(bomb, head.DEFLATED, max_bytes=BOUND if bound == "by the caller" else 1 << 40, limits=limits)
        assert sum(pieces) <= BOUND
        assert max(pieces, default=0) <= 1 << 16
        assert caught.value.reason is (Reason.NOT_DICOM if bomb is not bombs[0] else Reason.TOO_LARGE)


def test_what_inflates_too_many_fold_is_refused_and_a_dense_small_image_is_not() -> None:
    assert refused(deflated(image(PixelData=bytes(32 << 20))), head.DEFLATED).reason is Reason.TOO_LARGE
    sparse = deflated(image(PixelData=bytes(8 << 20)))
    assert head.parse(sparse, head.DEFLATED, max_bytes=1 << 30).study_uid == "1.2.3"
    loose = Limits(max_inflated_ratio=2000)
    assert head.parse(deflated(image(PixelData=bytes(32 << 20))), head.DEFLATED, max_bytes=1 << 30, limits=loose)


def test_a_deflated_data_set_is_walked_across_its_pieces() -> None:
    """Values, headers and sequences lie over the borders of the pieces in which it is inflated."""
    for length in range(65_380, 65_560, 2):
        dataset = image()
        dataset.add_new(0x00091010, "OB", bytes(length))
        dataset.ReferencedStudySequence = nested(undefined=True).ReferencedStudySequence
        assert head.parse(deflated(dataset), head.DEFLATED, max_bytes=BOUND).sop_uid == "1.2.3.4.5"


def test_a_deflated_data_set_without_its_end_is_cut_short() -> None:
    whole = deflated(image())
    assert refused(whole[: len(whole) // 2], head.DEFLATED).reason is Reason.TRUNCATED


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
@pytest.mark.parametrize("item", [ITEM + bytes(4), ITEM + b"\xff\xff\xff\xff" + ITEM_END])
def test_more_items_than_the_limit_are_refused_however_they_are_written(
    undefined: bool, vr: bytes, item: bytes
) -> None:
    data = with_sequence(sequence(item * 1001, undefined=undefined, vr=vr))
    assert refused(data, max_items=1000).reason is Reason.TOO_LARGE
    assert head.parse(data, EXPLICIT, max_bytes=BOUND, limits=Limits(max_items=1001))


@pytest.mark.parametrize("undefined", [True, False])
def test_items_in_items_count_as_items_do(undefined: bool) -> None:
    """Many small sequences, each of which nobody would look into alone."""
    inner = sequence((ITEM + bytes(4)) * 20, undefined=undefined)
    item = ITEM + len(inner).to_bytes(4, "little") + inner
    data = with_sequence(sequence(item * 100, undefined=undefined))
    assert refused(data, max_items=1000).reason is Reason.TOO_LARGE


def test_items_of_many_small_sequences_count_together() -> None:
    inner = (ITEM + bytes(4)) * 20
    many = b"".join(
        b"\x09\x00" + number.to_bytes(2, "little") + b"SQ\0\0" + len(inner).to_bytes(4, "little") + inner
        for number in range(0x1100, 0x1100 + 200)
    )
    assert refused(with_sequence(many), max_items=1000).reason is Reason.TOO_LARGE
    assert head.parse(with_sequence(many), EXPLICIT, max_bytes=BOUND, limits=Limits(max_items=4000))


def test_items_count_in_implicit_data_sets_too() -> None:
    dataset = image()
    dataset.ReferencedStudySequence = Items([Dataset() for _ in range(1001)])
    assert refused(encoded(dataset, implicit=True), head.IMPLICIT_LITTLE, max_items=1000).reason is Reason.TOO_LARGE
    assert head.parse(encoded(dataset, implicit=True), head.IMPLICIT_LITTLE, max_bytes=BOUND).study_uid == "1.2.3"


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_nested_deeper_than_the_limit_are_refused(undefined: bool) -> None:
    inner = b""
    for _ in range(40):
        inner = sequence(ITEM + len(inner).to_bytes(4, "little") + inner, undefined=undefined)
    assert refused(with_sequence(inner), max_nesting=32).reason is Reason.TOO_LARGE
    assert head.parse(with_sequence(inner), EXPLICIT, max_bytes=BOUND, limits=Limits(max_nesting=40))


def test_a_value_longer_than_the_limit_is_refused_unless_it_is_pixels() -> None:
    long = image()
    long.add_new(0x00091010, "OB", bytes(5000))
    assert refused(encoded(long), max_element_bytes=4096).reason is Reason.TOO_LARGE
    pixels = image(PixelData=bytes(50_000))
    assert head.parse(encoded(pixels), EXPLICIT, max_bytes=BOUND, limits=Limits(max_element_bytes=4096))


@pytest.mark.parametrize(
    "size",
    [
        {"Rows": 8192, "Columns": 8192, "NumberOfFrames": 20},
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 2_000_000_000},
    ],
)
@pytest.mark.parametrize(("syntax", "options"), [(EXPLICIT, {}), ("1.2.840.10008.1.2", {"implicit": True}),
                                                 ("1.2.840.10008.1.2.2", {"big": True})])  # fmt: skip
def test_a_picture_that_its_header_makes_larger_than_the_limit_is_refused(
    size: dict[str, int], syntax: str, options: dict[str, bool]
) -> None:
    large = image(PixelData=bytes(64), **size)
    assert refused(encoded(large, **options), syntax).reason is Reason.TOO_LARGE


def short(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    """An element of explicit little endian whose header has eight bytes."""
    value += b" " * (len(value) % 2)
    return b"".join(one.to_bytes(2, "little") for one in tag) + vr + len(value).to_bytes(2, "little") + value


def with_size(*elements: bytes, behind: bool = False, pixels: bytes = bytes(2048)) -> bytes:
    """An image of 32 x 32 with these elements before Pixel Data, or behind it."""
    plain = image()
    del plain.PixelData
    data = b"\xe0\x7f\x10\x00OW\0\0" + len(pixels).to_bytes(4, "little") + pixels
    return encoded(plain) + (data + b"".join(elements) if behind else b"".join(elements) + data)


FRAMES, ROWS = (0x0028, 0x0008), (0x0028, 0x0010)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "element",
    [
        short(FRAMES, b"IS", b"1e9"),
        short(FRAMES, b"IS", b"1E99999999"),
        short(FRAMES, b"IS", b" 1000000000 \0"),
        short(FRAMES, b"IS", b"1000000000.0"),
        short(FRAMES, b"UL", (10**9).to_bytes(4, "little")),
        short(FRAMES, b"LO", b"1000000000"),
        short(ROWS, b"UL", (1 << 26).to_bytes(4, "little")),
        short(ROWS, b"FD", b"\0\0\0\0\0\0\x80\x41"),  # 2 to the 25
        short(ROWS, b"IS", b"67108864"),
    ],
)
def test_a_size_counts_in_whatever_way_it_is_written_and_wherever_it_stands(element: bytes, behind: bool) -> None:
    """As pydicom would read it."""
    assert refused(with_size(element, behind=behind)).reason is Reason.TOO_LARGE


@pytest.mark.parametrize("behind", [False, True])
def test_of_a_size_that_is_said_twice_the_larger_counts(behind: bool) -> None:
    large, small = short(FRAMES, b"IS", b"1000000000"), short(FRAMES, b"IS", b"2")
    for elements in ((large, small), (small, large)):
        assert refused(with_size(*elements, behind=behind)).reason is Reason.TOO_LARGE


def test_of_a_size_that_is_written_oddly_and_is_true_nothing_is_refused() -> None:
    for value in (b" 5 \0", b"5.0", b"+5", b"", b" ", b"0"):
        assert head.parse(with_size(short(FRAMES, b"IS", value)), EXPLICIT, max_bytes=BOUND).study_uid == "1.2.3"
    sides = {"Rows": 0x2000, "Columns": 0x2000}  # whose bytes look like padding
    assert refused(encoded(image(**sides)), max_pixel_bytes=100 << 20).reason is Reason.TOO_LARGE
    assert head.parse(encoded(image(**sides)), EXPLICIT, max_bytes=BOUND, limits=Limits(max_pixel_bytes=128 << 20))


@pytest.mark.parametrize("value", [b"-1", b"1\\1000000000", b"many", b"NaN", b"Infinity", b"1e", b"0"])
def test_a_count_of_frames_that_cannot_be_read_is_what_the_pixels_allow(value: bytes) -> None:
    """All of a row of numbers, or a frame a fragment."""
    odd = short(FRAMES, b"IS", value)
    limits = Limits(max_pixel_bytes=4096)
    plain = with_size(odd, pixels=bytes(4098))
    assert refused(plain, max_pixel_bytes=4096).reason is Reason.TOO_LARGE
    assert head.parse(with_size(odd, pixels=bytes(4096)), EXPLICIT, max_bytes=BOUND, limits=limits).study_uid == "1.2.3"
    for fragments in (2, 3):
        data = image(PixelData=encapsulate([b"ab"] * fragments))
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        whole = encoded(data)
        at = whole.index(b"\xe0\x7f\x10\x00")
        whole = whole[:at] + odd + whole[at:]
        if fragments == 3:
            assert refused(whole, max_pixel_bytes=3 * 2048).reason is Reason.TOO_LARGE
        else:  # with the table of offsets, which is an item too
            assert head.parse(whole, EXPLICIT, max_bytes=BOUND, limits=Limits(max_pixel_bytes=3 * 2048))


def test_fragments_of_pixels_count_as_items() -> None:
    data = image(PixelData=encapsulate([b"ab"] * 1000))
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    assert refused(encoded(data), max_items=1000).reason is Reason.TOO_LARGE
    assert head.parse(encoded(data), EXPLICIT, max_bytes=BOUND, limits=Limits(max_items=1001)).study_uid == "1.2.3"


def test_what_in_a_sequence_of_known_length_is_no_data_set_is_passed_over() -> None:
    """Stored as it came: makers put what they like into elements of their own."""
    for content in (b"\xff" * 600, ITEM + b"\x00\x10\x00\x00" + b"\xff" * 600, (ITEM + bytes(4)) * 60 + b"abc" * 60):
        data = with_sequence(sequence(content, undefined=False))
        assert head.parse(data, EXPLICIT, max_bytes=BOUND).sop_uid == "1.2.3.4.5"


def test_an_excerpt_has_the_elements_asked_for_and_no_others() -> None:
    dataset = nested(undefined=True)
    dataset.PerFrameFunctionalGroupsSequence = Items([nested(undefined=n % 2 == 0) for n in range(200)])
    dataset.add_new(0x00104000, "LT", "x" * 9000)
    asked = {0x00100010: 64, 0x00104000: 64, 0x52009230: 4096, 0x00081110: 4096}
    for syntax, data in (
        (EXPLICIT, encoded(dataset)),
        (head.IMPLICIT_LITTLE, encoded(dataset, implicit=True)),
        (head.EXPLICIT_BIG, encoded(dataset, big=True)),
        (head.DEFLATED, deflated(dataset)),
    ):
        found = head.excerpt(data, syntax, asked)
        read = read_dataset(BytesIO(found.content), found.implicit, not found.big)
        assert [int(element.tag) for element in read] == [0x00081110, 0x00100010, 0x52009230]
        assert read.PatientName == "Test^Study"
        assert read.ReferencedStudySequence[0].StudyInstanceUID == "9.9.9"
        kept = read.PerFrameFunctionalGroupsSequence
        assert 1 <= len(kept) < 10, "as many whole items as fit"
        assert all(item.PatientName == "Test^Study" for item in kept)


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
