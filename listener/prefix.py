"""The beginning of a Part 10 file that a peer sends: preamble, prefix and File Meta Information (PS3.10 section 7.1).

What it says is believed no further than a C-STORE command is: the data set is checked against it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cauda.core.domain import Reason
from cauda.core.errors import Rejected

MAX_BYTES = 1 << 16  # an honest one has 400
_LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR"})
_AT = 132
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_TAG_VR = struct.Struct("<HH2s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """UIDs as sent, checked later, and where the data set begins."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    length: int


def read(content: bytes | bytearray) -> Prefix | None:
    """The beginning of a file, or None when more of it must come first. Raises Rejected.

    Elements of group 0002 are walked rather than its group length believed: files without one exist.
    """
    if content[128:_AT] != b"DICM"[: max(len(content) - 128, 0)]:
        raise none()
    found: dict[int, bytes] = {}
    at = _AT
    while at + 8 <= len(content):
        group, element, vr = _TAG_VR.unpack_from(content, at)
        if group != 0x0002:
            return _prefix(found, at)
        long = vr in _LONG_VRS
        if long and at + 12 > len(content):
            break
        size: int = struct.unpack_from("<I" if long else "<H", content, at + (8 if long else 6))[0]
        at += 12 if long else 8
        if at + size > MAX_BYTES:
            raise Rejected(Reason.NOT_DICOM, "File Meta Information longer than any honest one")
        if at + size > len(content):
            return None
        found[element] = bytes(content[at : at + size])
        at += size
    return None


def none() -> Rejected:
    """For a file that has no such beginning."""
    return Rejected(Reason.NOT_DICOM, "not a DICOM Part 10 file")


def _prefix(found: dict[int, bytes], length: int) -> Prefix:
    def text(element: int) -> str:
        return found.get(element, b"")[:256].rstrip(b"\0 ").decode("ascii", "replace")

    if not text(_TRANSFER_SYNTAX):
        raise Rejected(Reason.NOT_DICOM, "File Meta Information without a transfer syntax")
    return Prefix(
        sop_class_uid=text(_SOP_CLASS),
        sop_uid=text(_SOP_INSTANCE),
        transfer_syntax=text(_TRANSFER_SYNTAX),
        length=length,
    )
