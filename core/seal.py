"""A file that says of itself that it is whole: length and checksum in its preamble, which is free for it (PS3.10 7.1).

A crash may keep any blocks of a file that was never synced, and its length too; what it has kept is told by the seal.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

PREAMBLE = 128
_SEAL = struct.Struct("<8sQI64s")  # magic, length of the file, CRC-32 of all behind the preamble, its name by arrival
_MAGIC = b"CAUDA\x00S1"


def put(content: memoryview, name: str) -> None:
    """Seal a Part 10 file in memory. ``name``: where it stands in the order of arrival."""
    checksum = zlib.crc32(content[PREAMBLE:])
    _SEAL.pack_into(content, 0, _MAGIC, len(content), checksum, name.encode("ascii"))


def name_in(path: Path) -> str | None:
    """The name that a file was sealed with; None when it was not, or is not whole."""
    try:
        content = path.read_bytes()
    except OSError:  # a crash has kept the name and not the file
        return None
    if len(content) < PREAMBLE:
        return None
    magic, length, checksum, name = _SEAL.unpack_from(content)
    if magic != _MAGIC or length != len(content) or checksum != zlib.crc32(memoryview(content)[PREAMBLE:]):
        return None
    return str(name.rstrip(b"\0").decode("ascii", "replace"))
