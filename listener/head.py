"""The bounded head parse at the door: who an object says it is, and whether it is whole.

Walks element headers only; no value is decoded but UIDs and the size of the picture. Works on implicit, explicit, big
endian and deflated data sets (PS3.5 section 7); a deflated one passes in pieces, and is never there whole.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from cauda.core import uids
from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.core.settings import Limits

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset({b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
                        b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"})  # fmt: skip
_SEQUENCES = frozenset({b"SQ", b"UN"})  # or may be
_SHORT_LITTLE = frozenset(int.from_bytes(vr, "little") for vr in _SHORT_VRS)
_SHORT_BIG = frozenset(int.from_bytes(vr, "big") for vr in _SHORT_VRS)
_LITTLE, _BIG = (
    tuple(struct.Struct(order + header).unpack_from for header in ("HHI", "HH2sH", "4H", "I")) for order in "<>"
)
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA, _PIXELS, _PIXEL_GROUP = 0x7FE00010, 0x7FE00000, 0x7FE0
_FIRST, _BEHIND_PIXELS, _DELIMITERS = 0x00010000, 0x7FE10000, 0xFFFE0000  # of groups in a data set
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_STUDY_UID = 0x0020000D
_UID_TAGS = {
    0x00080016: "SOP Class UID",
    0x00080018: "SOP Instance UID",
    _STUDY_UID: "Study Instance UID",
    0x0020000E: "Series Instance UID",
}
_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100
_SIZES = frozenset({_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS})
# What decides whose an object is: twice with two values, it is nobody's.
_UNIQUE = _UID_TAGS | {
    0x00080050: "Accession Number",
    0x00100010: "Patient's Name",
    0x00100020: "Patient ID",
    0x00100021: "Issuer of Patient ID",
    0x00100030: "Patient's Birth Date",
}
_PADDING, _ELEMENT_BYTES = b"\0 ", 8
_WANTED = dict.fromkeys((*_UNIQUE, _SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS), 1024)  # most bytes of a value
# Sequences and items of so few bytes are not looked into where they cannot nest too deep; a level takes 16 bytes at
# least. All of those together hold no more items than this.
_SMALL_BYTES, _LEVEL_BYTES, _UNSEEN_ITEMS = 256, 16, 10_000
_CHUNK_BYTES = 1 << 16
_RATIO_FROM_BYTES = 16 << 20  # what inflates to less may be as dense as it likes


class Head(NamedTuple):
    """The UIDs that decide where an object belongs."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str


def parse(data: bytes | memoryview, transfer_syntax: str, *, max_bytes: int, limits: Limits | None = None) -> Head:
    """The head of a whole data set; Rejected when it is none, cut short, beyond a limit or without valid UIDs.

    ``max_bytes`` bounds what a deflated data set may inflate to, as ``limits`` does.
    """
    walker = _walker(data, transfer_syntax, max_bytes, limits or Limits(), _WANTED)
    walker.unique = _UNIQUE
    walker.top_level()
    _check_pixels(walker)
    values = []
    for tag, name in _UID_TAGS.items():
        raw = walker.value(tag).rstrip(b"\0 ")
        if not raw:
            raise Rejected(Reason.UID_INVALID, f"data set has no {name}")
        values.append(uids.checked(raw.decode("ascii", "replace"), name))
    return Head(*values)


class Excerpt(NamedTuple):
    """Some elements of a data set in its own encoding, but never deflated."""

    content: bytes
    implicit: bool
    big: bool


# Of what was accepted: what it may be was decided then, and the walk costs no memory whatever it is.
_ACCEPTED = Limits(
    max_inflated_bytes=1 << 50, max_inflated_ratio=1 << 30, max_element_bytes=1 << 40, max_items=1 << 40,
    max_nesting=100, max_pixel_bytes=1 << 60,
)  # fmt: skip


def excerpt(data: bytes | memoryview, transfer_syntax: str, most_bytes: Mapping[int, int]) -> Excerpt:
    """The elements of these tags at the top level of what was accepted, those longer than ``most_bytes`` left out.

    Of a sequence that is longer, the items from its beginning that fit. Raises Rejected where it is no data set.
    """
    walker = _walker(data, transfer_syntax, _ACCEPTED.max_inflated_bytes, _ACCEPTED, most_bytes)
    walker.top_level()
    order = ">" if walker.big else "<"
    out = bytearray()
    for tag, (vr, value) in sorted(walker.found.items()):
        out += struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        if walker.implicit:
            out += struct.pack(order + "I", len(value))
        elif vr in _SHORT_VRS:
            out += vr + struct.pack(order + "H", len(value))
        else:
            out += vr + b"\0\0" + struct.pack(order + "I", len(value))
        out += value
    return Excerpt(bytes(out), walker.implicit, walker.big)


def same_elements(one: memoryview, other: memoryview, transfer_syntax: str, most_bytes: Mapping[int, int]) -> bool:
    """Whether two data sets have the same bytes in these elements and in Pixel Data; False where one is too long.

    Neither may be deflated. Raises Rejected where one is no data set.
    """
    first, second = (
        _walker(data, transfer_syntax, 0, _ACCEPTED, most_bytes) for data in (one, other)
    )  # fmt: skip
    for walker in (first, second):
        walker.top_level()
    if first.found != second.found or first.left_out or second.left_out:
        return False
    return bool(one[slice(*first.pixels)] == other[slice(*second.pixels)])


def _walker(
    data: bytes | memoryview, transfer_syntax: str, max_bytes: int, limits: Limits, wanted: Mapping[int, int]
) -> _Walker:
    big, implicit = transfer_syntax == EXPLICIT_BIG, transfer_syntax == IMPLICIT_LITTLE
    if transfer_syntax != DEFLATED:
        return _Walker(data, limits, wanted, big=big, implicit=implicit)
    inflated = _Inflated(data, min(max_bytes, limits.max_inflated_bytes), limits.max_inflated_ratio)
    return _Walker(b"", limits, wanted, big=False, implicit=False, more=inflated.more)


class _Inflated:
    """A deflated data set in pieces (PS3.5 A.5)."""

    def __init__(self, data: bytes | memoryview, most_bytes: int, most_ratio: int) -> None:
        self._data = data
        self._at = 0
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._most_bytes = most_bytes
        self._most_ratio = most_ratio
        self._count = 0

    def more(self) -> bytes:
        """The next piece; empty at the end. Raises Rejected."""
        out = b""
        while not out and not self._inflater.eof:
            held = self._inflater.unconsumed_tail
            if not held:
                held = bytes(self._data[self._at : self._at + _CHUNK_BYTES])
                self._at += len(held)
            try:
                out = self._inflater.decompress(held, _CHUNK_BYTES)
            except zlib.error as error:
                raise Rejected(Reason.NOT_DICOM, "deflated data set cannot be inflated") from error
            if not held and not out and not self._inflater.eof:
                raise Rejected(Reason.TRUNCATED, "deflated data set is cut short")
        self._count += len(out)
        if self._count > self._most_bytes:
            raise _beyond(f"inflates to more than {_size(self._most_bytes)}", "max_inflated_bytes")
        if self._count > max(self._most_ratio * len(self._data), _RATIO_FROM_BYTES):
            raise _beyond(f"inflates to more than {self._most_ratio} fold", "max_inflated_ratio")
        return out


def study_uid(data: bytes | memoryview, transfer_syntax: str) -> str | None:
    """The Study Instance UID in the beginning of a data set; None where it is not there, or not readable as it is."""
    limits = Limits()
    walker = _walker(data, transfer_syntax, limits.max_inflated_bytes, limits, {_STUDY_UID: 64})
    with suppress(Rejected):
        walker.top_level()  # cut short, as a rule
    raw = walker.value(_STUDY_UID).rstrip(b"\0 ").decode("ascii", "replace")
    return raw if uids.is_uid(raw) else None


class _Walker:
    """A position in a data set; every move is checked against its end."""

    def __init__(
        self,
        data: bytes | memoryview,
        limits: Limits,
        wanted: Mapping[int, int],
        *,
        big: bool,
        implicit: bool,
        more: Callable[[], bytes] | None = None,
    ) -> None:
        self.data = data  # all of it, or the piece that is being looked at
        self.more = more
        self.base = 0  # where the piece begins
        self.at = 0  # in it
        self.end = len(data)
        self.last = sys.maxsize  # the end of the sequence of known length that is being looked into
        self.without_vr, self.with_vr, self.four, self.u32 = _BIG if big else _LITTLE
        self.short_vrs = _SHORT_BIG if big else _SHORT_LITTLE
        self.big = big
        self.implicit = implicit
        self.limits = limits
        self.levels = limits.max_nesting
        self.small = min(_SMALL_BYTES, self.levels * _LEVEL_BYTES)  # at the top level
        self.items_left = limits.max_items
        self.unseen_left = min(_UNSEEN_ITEMS, limits.max_items)
        self.wanted = wanted
        self.found: dict[int, tuple[bytes, bytes]] = {}  # VR and value by tag
        self.size: dict[int, Decimal] = {}  # what was said of the picture's; the largest of several
        self.frames_unreadable = False
        self.fragment_count = 0  # of encapsulated pixels
        self.unique: Mapping[int, str] = {}  # names of elements that must not occur with two values
        self.left_out = False  # something that is wanted is too long
        self.pixels = (0, 0)  # where the values of its group lie
        self.copy: _Copy | None = None  # of the sequence that is being walked, where it is wanted

    def value(self, tag: int) -> bytes:
        """The value of a wanted element; empty where there is none."""
        return self.found.get(tag, (b"", b""))[1]

    def top_level(self) -> None:
        """Walk to the end; what is wanted is in `found` then."""
        first = True
        while self.at < self.end or self.there(1):
            if not self.data[self.at] and not first and self.ends_in_zeros():
                return  # padding
            tag, vr, length = self.header(self.implicit, first=first)
            if not _FIRST <= tag < (_BEHIND_PIXELS if first else _DELIMITERS):
                raise _none()
            first = False
            wanted = self.wanted.get(tag, 0)
            small = length <= self.small and tag < _PIXELS and vr not in _SEQUENCES
            if small and not wanted and self.unseen_left > 0:
                self.unseen_left -= length // 8 if self.implicit else 0
                self.skip(length)
                continue
            self.check_length(tag, length)
            start = self.base + self.at
            if length == _UNDEFINED and tag == _PIXEL_DATA:
                self.fragments()
            elif length == _UNDEFINED or self.is_sequence(vr, length, implicit=self.implicit, depth=0):
                self.sequence(tag, vr, length, wanted)
            elif wanted and length <= wanted:
                self.keep(tag, vr, self.take(length))
            else:
                self.left_out |= bool(wanted)
                self.skip(length)
            if tag >> 16 == _PIXEL_GROUP:
                self.pixels = self.pixels[0] or start, self.base + self.at
            if not self.implicit:
                self.plain()

    def plain(self) -> None:
        """Past the elements from here on whose header has eight bytes, as `top_level` would.

        Most of an image's are such, and all of them wait for the answer: so they are walked without a call for each.
        """
        data, at, last, unpack = self.data, self.at, self.end - 8, self.four
        short, wanted = self.short_vrs, self.wanted
        while at <= last:
            group, element, vr, length = unpack(data, at)
            tag = group << 16 | element
            if vr not in short or not _FIRST <= tag < _DELIMITERS:
                break
            if tag in wanted and length <= wanted[tag]:
                if at + 8 + length > self.end:
                    break  # not all of it is in this piece
                self.keep(tag, bytes(data[at + 4 : at + 6]), bytes(data[at + 8 : at + 8 + length]))
            at += 8 + length
        self.skip(at - self.at)

    def keep(self, tag: int, vr: bytes, value: bytes) -> None:
        """A wanted element, in whatever order they come; of two the last counts, as pydicom has it.

        Raises Rejected where two of them say otherwise whose the object is.
        """
        name = self.unique.get(tag)
        if name and tag in self.found and self.found[tag][1].strip(_PADDING) != value.strip(_PADDING):
            raise Rejected(Reason.ELEMENT_TWICE, f"{name} occurs twice, with two values")
        if tag in _SIZES:
            unsaid = tag == _FRAMES and vr in {b"", b"UN"}  # then it is what the dictionary says; of the others, too
            number = _number(b"IS" if unsaid else vr, value, big=self.big)
            if number is not None and number > 0:
                self.size[tag] = max(number, self.size.get(tag, number))
            elif tag == _FRAMES and value.strip(_PADDING):
                self.frames_unreadable = True
        self.found[tag] = vr, value

    def ends_in_zeros(self) -> bool:
        """Whether nothing but zeros follows: some senders pad a data set to the size of a block."""
        self.there(_ELEMENT_BYTES)
        if any(self.data[self.at : self.at + _ELEMENT_BYTES]):
            return False
        while self.at < self.end or self.there(1):
            if bytes(self.data[self.at : self.at + _CHUNK_BYTES]).strip(b"\0"):
                raise _none()  # a tag that is none, and more behind it
            self.at = min(self.at + _CHUNK_BYTES, self.end)
        return True

    def header(self, implicit: bool, *, first: bool = False) -> tuple[int, bytes, int]:
        """The next element's tag, VR and length; the position is at its value."""
        if self.at + 12 > self.end and not self.there(12):
            self.need(8)
        at, data, vr, ahead = self.at, self.data, b"", 8
        group, element, length = self.without_vr(data, at)
        if not implicit and group != 0xFFFE:
            group, element, vr, length = self.with_vr(data, at)
            if vr in _LONG_VRS:
                ahead = 12
                self.need(ahead)
                (length,) = self.u32(data, at + 8)
            elif vr not in _SHORT_VRS and not (vr.isalpha() and vr.isupper()):
                raise _none() if first else _no_vr(group, element)
        self.skip(ahead)
        return group << 16 | element, vr, length

    def check_length(self, tag: int, length: int) -> None:
        """Raise Rejected for a value that is too long for anything but pixels."""
        limit = self.limits.max_element_bytes
        if length != _UNDEFINED and length > limit and tag >> 16 != _PIXEL_GROUP:
            raise _beyond(f"element longer than {_size(limit)}", "max_element_bytes")

    def is_small(self, length: int, depth: int) -> bool:
        """Whether so little need not be looked into."""
        return length <= _SMALL_BYTES and length <= (self.levels - depth) * _LEVEL_BYTES and self.unseen_left > 0

    def is_sequence(self, vr: bytes, length: int, *, implicit: bool, depth: int) -> bool:
        """Whether a value of known length is a sequence that has to be looked into, or may be one."""
        if self.is_small(length, depth):
            self.unseen_left -= length // 8 if vr in _SEQUENCES or implicit else 0
            return False
        if vr == b"SQ":
            return True
        if not (implicit or vr == b"UN") or length < 8 or not self.there(8):
            return False
        return self.without_vr(self.data, self.at)[:2] == (0xFFFE, 0xE000)

    def sequence(self, tag: int, vr: bytes, length: int, wanted: int) -> None:
        """Past a sequence at the top level; it is copied where it is wanted."""
        implicit = self.implicit or vr == b"UN"
        if wanted:
            self.copy = _Copy(wanted)
        self.values(length, implicit=implicit, depth=1)
        if self.copy is not None:
            self.found[tag] = vr, self.copy.whole_items()
            self.left_out |= self.copy.is_cut
        self.copy = None

    def values(self, length: int, *, implicit: bool, depth: int) -> None:
        """Past the items of a sequence of known or undefined length."""
        if depth > self.levels:
            raise _beyond(f"nested deeper than {self.levels}", "max_nesting")
        if length == _UNDEFINED:
            self.items(implicit=implicit, depth=depth)
        else:
            self.within(length, lambda: self.items(implicit=implicit, depth=depth))

    def within(self, length: int, walk: Callable[[], None]) -> None:
        """Past a value of known length. What in it is no data set is passed over: its end is known."""
        outer = self.last
        end = self.base + self.at + length
        if end > outer:
            raise _cut_short()
        self.last = end
        try:
            walk()
        except Rejected as error:
            if error.reason is Reason.TOO_LARGE or (self.more is None and end > self.end):
                raise
        finally:
            self.last = outer
        self.skip(end - self.base - self.at)

    def items(self, *, implicit: bool, depth: int) -> None:
        """Past items until the sequence ends."""
        while self.base + self.at < self.last:
            tag, _, length = self.header(implicit=True)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise Rejected(Reason.TRUNCATED, "a sequence does not end")
            self.count_item()
            if length == _UNDEFINED:
                self.item(implicit=implicit, depth=depth)
            elif self.is_small(length, depth):
                self.unseen_left -= length // 8
                self.skip(length)
            else:
                self.within(length, lambda: self.item(implicit=implicit, depth=depth))
            if depth == 1 and self.copy is not None:
                self.copy.mark()

    def count_item(self) -> None:
        """One more item, of a sequence or of encapsulated pixels."""
        self.items_left -= 1
        if self.items_left < 0:
            raise _beyond(f"more than {self.limits.max_items} items", "max_items")

    def item(self, *, implicit: bool, depth: int) -> None:
        """Past the elements of one item."""
        while self.base + self.at < self.last:
            tag, vr, length = self.header(implicit)
            if tag == _ITEM_END:
                return
            self.check_length(tag, length)
            if length == _UNDEFINED or self.is_sequence(vr, length, implicit=implicit, depth=depth):
                self.values(length, implicit=implicit or vr == b"UN", depth=depth + 1)
            else:
                self.skip(length)

    def fragments(self) -> None:
        """Past encapsulated pixel data (PS3.5 A.4)."""
        while True:
            tag, _, length = self.header(implicit=True)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise Rejected(Reason.TRUNCATED, "encapsulated pixel data does not end")
            self.count_item()
            self.fragment_count += 1
            self.skip(length)

    def there(self, count: int) -> bool:
        """Whether so many bytes follow; they are in the piece then."""
        if self.at + count <= self.end:
            return True
        if self.more is None:
            return False
        rest = bytes(self.data[self.at :])
        while len(rest) < count and (piece := self.more()):
            rest += piece
        self.base += self.at
        self.data, self.at, self.end = rest, 0, len(rest)
        return count <= self.end

    def need(self, count: int) -> None:
        """So many bytes in the piece; Rejected past the end."""
        if self.base + self.at + count > self.last or not self.there(count):
            raise _cut_short()

    def take(self, count: int) -> bytes:
        """The next bytes, of which there are few."""
        self.need(count)
        at = self.at
        self.at += count
        return bytes(self.data[at : self.at])

    def skip(self, count: int) -> None:
        """Move on; Rejected past the end."""
        at = self.at + count
        if at <= self.end and self.base + at <= self.last and self.copy is None:
            self.at = at
            return
        if self.base + self.at + count > self.last:
            raise _cut_short()
        while self.at + count > self.end:
            if self.copy is not None:
                self.copy.add(self.data[self.at : self.end])
            count -= self.end - self.at
            self.at = self.end
            if not self.there(1):
                raise _cut_short()
        if self.copy is not None:
            self.copy.add(self.data[self.at : self.at + count])
        self.at += count


class _Copy:
    """The beginning of a sequence: whole items of it."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._content = bytearray()
        self._whole = 0

    def add(self, content: bytes | memoryview) -> None:
        if len(self._content) <= self._most_bytes:
            self._content += content[: self._most_bytes + 1]

    def mark(self) -> None:
        """An item ends here."""
        if len(self._content) <= self._most_bytes:
            self._whole = len(self._content)

    @property
    def is_cut(self) -> bool:
        return len(self._content) > self._most_bytes

    def whole_items(self) -> bytes:
        return bytes(self._content[: self._whole])


def _check_pixels(walker: _Walker) -> None:
    """Raise Rejected where the header says that more would come out of the pixels than anybody should decode.

    Where an element occurs twice the larger value counts: some readers stop before Pixel Data. Nobody decodes an image
    without Rows. Number of Frames is one where it is absent (PS3.3 C.7.6.6); where it cannot be read, it is as large as
    the pixel data allow: a frame a fragment, or all of their length.
    """
    size, most = walker.size, Decimal(8 * walker.limits.max_pixel_bytes)
    frame = (
        size.get(_ROWS, Decimal(0)) * size.get(_COLUMNS, Decimal(0)) * size.get(_SAMPLES, Decimal(1))
        * size.get(_BITS, Decimal(8))
    )  # fmt: skip
    bits = frame * size.get(_FRAMES, Decimal(1))
    if walker.frames_unreadable:
        begin, end = walker.pixels
        bits = max(bits, frame * walker.fragment_count or Decimal(8 * (end - begin)))
    if bits > most:
        raise _beyond(f"decodes to more than {_size(walker.limits.max_pixel_bytes)}", "max_pixel_bytes")


_BINARY = {b"": "H", b"UN": "H", b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"UV": "Q", b"SV": "q", b"FL": "f",
           b"FD": "d"}  # fmt: skip


_LARGEST = Decimal(1 << 64)  # what is counted; products of more would overflow


def _number(vr: bytes, value: bytes, *, big: bool) -> Decimal | None:
    """One number in whatever VR it came; None where there is none, or several. 1E99999999 is one, and no int."""
    code = _BINARY.get(vr)
    if code is None:
        text = value.strip(_PADDING).decode("ascii", "replace")
        try:
            found = Decimal(text)
        except InvalidOperation:
            return None
        return min(found, _LARGEST) if found.is_finite() else None
    form = struct.Struct(">" + code if big else "<" + code)
    if len(value) != form.size:
        return None
    (number,) = form.unpack(value)
    return min(Decimal(number), _LARGEST) if math.isfinite(number) else None


def _no_vr(group: int, element: int) -> Rejected:
    """What follows an element without a VR cannot be found: its length may have two bytes or four."""
    return Rejected(Reason.NOT_DICOM, f"element ({group:04X},{element:04X}) has a VR that is none")


def _none() -> Rejected:
    return Rejected(Reason.NOT_DICOM, "not a DICOM data set in the negotiated transfer syntax")


def _cut_short() -> Rejected:
    return Rejected(Reason.TRUNCATED, "data set is cut short")


def _beyond(what: str, key: str) -> Rejected:
    return Rejected(Reason.TOO_LARGE, f"{what} (limits.{key})")


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count:,} bytes"
