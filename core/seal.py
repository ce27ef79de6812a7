"""A file that says of itself that it is whole: length and checksum in its preamble, which is free for it (PS3.10 7.1).

A crash may keep any blocks of a file that was never synced, and its length too; what it has kept is told by the seal.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import xxhash

PREAMBLE = 128
_SEAL = struct.Struct("<8sQQ64s")  # magic, length of the file, checksum, its name by arrival
_MAGIC = b"CAUDA\x00S2"


def preamble(content: bytes | memoryview, name: str) -> bytes:
    """The preamble that seals a Part 10 file with this content behind it.

    ``name``: where it stands in the order of arrival.
    """
    seal = _SEAL.pack(_MAGIC, PREAMBLE + len(content), _checksum(content), name.encode("ascii"))
    return seal.ljust(PREAMBLE, b"\0")


def _checksum(content: bytes | memoryview) -> int:
    """Of all behind the preamble: it has to find what a crash has lost, not what somebody forged."""
    return xxhash.xxh3_64_intdigest(content)


def name_in(path: Path) -> str | None:
    """The name that a file was sealed with; None when it was not, or is not whole. The file may go on behind it."""
    try:
        with path.open("rb") as file:
            magic, length, checksum, name = _read(file.read(PREAMBLE))
            content = file.read(length - PREAMBLE) if magic == _MAGIC and length >= PREAMBLE else b""
    except OSError:  # a crash has kept the name and not the file
        return None
    if magic != _MAGIC or length != PREAMBLE + len(content) or checksum != _checksum(content):
        return None
    return str(name.rstrip(b"\0").decode("ascii", "replace"))


def sealed_as(path: Path) -> str:
    """The name in a file's preamble, whether or not the file is whole."""
    with path.open("rb") as file:
        return str(_read(file.read(PREAMBLE))[3].rstrip(b"\0").decode("ascii", "replace"))


def cut(path: Path) -> None:
    """Bring a sealed file to its length; durable once it is synced."""
    with path.open("r+b") as file:
        magic, length, _, _ = _read(file.read(PREAMBLE))
        if magic == _MAGIC and length < file.seek(0, os.SEEK_END):
            file.truncate(length)


def _read(preamble: bytes) -> tuple[bytes, int, int, bytes]:
    found: tuple[bytes, int, int, bytes] = _SEAL.unpack_from(preamble.ljust(PREAMBLE, b"\0"))
    return found
