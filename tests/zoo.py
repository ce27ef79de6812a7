"""The zoo's files as senders would send them: data set bytes untouched, announced by what the file says of itself.

As DCMTK's storescu does it, the command carries the UIDs of the data set, the File Meta's where it has none. A clumsy
sender has a file without File Meta: it proposes the encoding that the first element looks like, and MR Image Storage
where no class is named. Nothing here is the product's or pydicom's.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT"}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What goes over the wire."""

    sop_class: str
    sop_uid: str
    meta_sop_uid: str | None  # what the File Meta calls it
    syntax: str
    data: bytes


def as_sent(path: Path) -> Sent:
    """What a sender makes of a file."""
    content = path.read_bytes()
    meta, at = _meta(content, 132 if content[128:134] == b"DICM\x02\x00" else 0)
    data = content[at:]
    syntax = meta.get(0x00020010) or _looks_like(data)
    inside = _top(zlib.decompress(data, wbits=-15) if syntax == DEFLATED else data, syntax)
    return Sent(
        sop_class=inside.get(0x00080016) or meta.get(0x00020002) or MR_IMAGE,
        sop_uid=inside.get(0x00080018) or meta.get(0x00020003) or "1.2.3.4.5",
        meta_sop_uid=meta.get(0x00020003),
        syntax=syntax,
        data=data,
    )


def _meta(content: bytes, at: int) -> tuple[dict[int, str], int]:
    """The File Meta's UIDs, and where the data set begins, whatever its group length says (PS3.10 7.1)."""
    found: dict[int, str] = {}
    while content[at : at + 2] == b"\x02\x00":
        tag, length, at = _explicit(content, at, "<")
        found[tag] = _text(content[at : at + length])
        at += length
    return found, at


def _looks_like(data: bytes) -> str:
    if data[4:6].isalpha() and data[4:6].isupper():
        return EXPLICIT if data[1] == 0 else BIG
    return IMPLICIT


def _top(data: bytes, syntax: str) -> dict[int, str]:
    """The text of the first elements of group 0008, as far as they are plain."""
    found: dict[int, str] = {}
    at = 0
    order = ">" if syntax == BIG else "<"
    while at + 8 <= len(data) and struct.unpack_from(order + "H", data, at)[0] <= 0x0008:
        if syntax == IMPLICIT:
            group, number, length = struct.unpack_from("<HHI", data, at)
            tag, at = group << 16 | number, at + 8
        else:
            tag, length, at = _explicit(data, at, order)
        if length == 0xFFFFFFFF:
            break
        found[tag] = _text(data[at : at + length])
        at += length
    return found


def _explicit(content: bytes, at: int, order: str) -> tuple[int, int, int]:
    group, number = struct.unpack_from(order + "HH", content, at)
    if content[at + 4 : at + 6] in _LONG:
        return group << 16 | number, struct.unpack_from(order + "I", content, at + 8)[0], at + 12
    return group << 16 | number, struct.unpack_from(order + "H", content, at + 6)[0], at + 8


def _text(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("latin-1")
