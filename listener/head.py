"""The bounded head parse at the door: who an object says it is, and whether it is whole.

Walks element headers only; no value is decoded but five UIDs. Works on implicit, explicit, big endian and deflated
data sets (PS3.5 section 7).
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from cauda.core import uids
from cauda.core.domain import Reason
from cauda.core.errors import Rejected

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset({b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
                        b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"})  # fmt: skip
_SHORT_LITTLE = frozenset(int.from_bytes(vr, "little") for vr in _SHORT_VRS)
_SHORT_BIG = frozenset(int.from_bytes(vr, "big") for vr in _SHORT_VRS)
_LITTLE, _BIG = (
    tuple(struct.Struct(order + header).unpack_from for header in ("HHI", "HH2sH", "4H", "I")) for order in "<>"
)
_UNDEFINED = 0xFFFFFFFF
_MAX_DEPTH = 32
_PIXEL_DATA = 0x7FE00010
_FIRST, _BEHIND_PIXELS, _DELIMITERS = 0x00010000, 0x7FE10000, 0xFFFE0000  # of groups in a data set
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UID_TAGS = {
    0x00080016: "SOP Class UID",
    0x00080018: "SOP Instance UID",
    0x0020000D: "Study Instance UID",
    0x0020000E: "Series Instance UID",
}


class Head(NamedTuple):
    """The UIDs that decide where an object belongs."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str


def parse(data: bytes | memoryview, transfer_syntax: str, *, max_bytes: int) -> Head:
    """The head of a whole data set; Rejected when it is none, cut short, or without valid UIDs.

    ``max_bytes`` bounds what a deflated data set may inflate to.
    """
    if transfer_syntax == DEFLATED:
        data = _inflated(data, max_bytes)
    walker = _Walker(data, big=transfer_syntax == EXPLICIT_BIG, implicit=transfer_syntax == IMPLICIT_LITTLE)
    found = walker.top_level()
    values = []
    for tag, name in _UID_TAGS.items():
        raw = found.get(tag, b"").rstrip(b"\0 ")
        if not raw:
            raise Rejected(Reason.UID_INVALID, f"data set has no {name}")
        values.append(uids.checked(raw.decode("ascii", "replace"), name))
    return Head(*values)


def _inflated(data: bytes | memoryview, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = inflater.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise Rejected(Reason.NOT_DICOM, "deflated data set cannot be inflated") from error
    if len(out) > max_bytes:
        raise Rejected(Reason.TOO_LARGE, f"data set inflates to more than {max_bytes >> 20} MiB")
    if not inflater.eof:
        raise Rejected(Reason.TRUNCATED, "deflated data set is cut short")
    return out


class _Walker:
    """A position in a data set; every move is checked against its end."""

    def __init__(self, data: bytes | memoryview, *, big: bool, implicit: bool) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)
        self.without_vr, self.with_vr, self.four, self.u32 = _BIG if big else _LITTLE
        self.short_vrs = _SHORT_BIG if big else _SHORT_LITTLE
        self.implicit = implicit

    def top_level(self) -> dict[int, bytes]:
        """Walk to the end; returns the raw values of the UID elements."""
        found: dict[int, bytes] = {}
        previous = -1
        while self.at < self.end:
            if self.at + 8 > self.end and not any(self.data[self.at :]):
                return found  # padding
            tag, vr, length = self.header(self.implicit)
            if not previous < tag < _DELIMITERS or (previous < _FIRST and not _FIRST <= tag < _BEHIND_PIXELS):
                raise _none()
            previous = tag
            if length == _UNDEFINED:
                if tag == _PIXEL_DATA:
                    self.fragments()
                else:
                    self.items(implicit=self.implicit or vr == b"UN", depth=1)
                continue
            start = self.at
            self.skip(length)
            if tag in _UID_TAGS:
                found[tag] = bytes(self.data[start : self.at][:128])
            if not self.implicit:
                previous = self.plain(previous, found)
        return found

    def plain(self, previous: int, found: dict[int, bytes]) -> int:
        """Past the elements from here on whose header has eight bytes, as `top_level` would; returns the last tag.

        Most of an image's are such, and all of them wait for the answer: so they are walked without a call for each.
        """
        data, at, last, unpack = self.data, self.at, self.end - 8, self.four
        short, uid_tags = self.short_vrs, _UID_TAGS
        while at <= last:
            group, element, vr, length = unpack(data, at)
            tag = group << 16 | element
            if vr not in short or tag <= previous:
                break
            if tag in uid_tags:
                found[tag] = bytes(data[at + 8 : at + 8 + length][:128])
            at += 8 + length
            previous = tag
        if previous >= _DELIMITERS:  # tags only grow, so the last says it for all
            raise _none()
        self.skip(at - self.at)
        return previous

    def header(self, implicit: bool) -> tuple[int, bytes, int]:
        """The next element's tag, VR and length; the position is at its value."""
        at = self.at
        self.at = at + 8
        if self.at > self.end:
            raise _cut_short()
        data = self.data
        if implicit:
            group, element, length = self.without_vr(data, at)
            return group << 16 | element, b"", length
        group, element, vr, length = self.with_vr(data, at)
        if group == 0xFFFE:
            group, element, length = self.without_vr(data, at)
            return group << 16 | element, b"", length
        if vr in _SHORT_VRS:
            return group << 16 | element, vr, length
        if vr in _LONG_VRS:
            self.skip(4)
            (length,) = self.u32(data, at + 8)
        elif not (vr.isalpha() and vr.isupper()):
            raise _none()
        return group << 16 | element, vr, length

    def items(self, *, implicit: bool, depth: int) -> None:
        """Past a sequence of undefined length."""
        if depth > _MAX_DEPTH:
            raise Rejected(Reason.NOT_DICOM, f"sequences nested deeper than {_MAX_DEPTH}")
        while True:
            tag, _, length = self.header(implicit=True)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise Rejected(Reason.TRUNCATED, "a sequence does not end")
            if length == _UNDEFINED:
                self.item(implicit=implicit, depth=depth)
            else:
                self.skip(length)

    def item(self, *, implicit: bool, depth: int) -> None:
        """Past one item of undefined length."""
        while True:
            tag, vr, length = self.header(implicit)
            if tag == _ITEM_END:
                return
            if length == _UNDEFINED:
                self.items(implicit=implicit or vr == b"UN", depth=depth + 1)
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
            self.skip(length)

    def skip(self, count: int) -> None:
        """Move on; Rejected past the end."""
        self.at += count
        if self.at > self.end:
            raise _cut_short()


def _none() -> Rejected:
    return Rejected(Reason.NOT_DICOM, "not a DICOM data set in the negotiated transfer syntax")


def _cut_short() -> Rejected:
    return Rejected(Reason.TRUNCATED, "data set is cut short")
