"""Data sets whose elements stand out of order: what pydicom and others read whole, and never write."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"}


def behind_the_picture(content: bytes, tags: Collection[int]) -> bytes:
    """A Part 10 file in explicit VR little endian, with these top-level elements moved behind all others."""
    start = 144 + int.from_bytes(content[140:144], "little")
    parts = list(_elements(content[start:]))
    front = [element for tag, element in parts if tag not in tags]
    back = [element for tag, element in parts if tag in tags]
    return content[:start] + b"".join([*front, *back])


def _elements(dataset: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(dataset):
        group, element = struct.unpack_from("<HH", dataset, at)
        if dataset[at + 4 : at + 6] in _LONG:
            end = at + 12 + int.from_bytes(dataset[at + 8 : at + 12], "little")
        else:
            end = at + 8 + int.from_bytes(dataset[at + 6 : at + 8], "little")
        if end > len(dataset):
            raise ValueError("an element of undefined length")
        yield group << 16 | element, dataset[at:end]
        at = end
