"""A file put together in memory from which a disk takes it directly: it begins at a page and goes in whole blocks."""

from __future__ import annotations

import mmap
from contextlib import suppress

BLOCK = 4096  # what few disks ask for more than (open(2), O_DIRECT); `slots` asks them
LEAST_BYTES = 1 << 16  # of room, or it is full
_BYTES = (2 << 20) + 2 * LEAST_BYTES  # an image of 1024 x 1024 with its headers is there whole
_FULL_BYTES = _BYTES - LEAST_BYTES


class Draft:
    """One file after the other, each from `begin` on."""

    def __init__(self) -> None:
        """Pages that nothing comes into cost nothing."""
        self._memory = mmap.mmap(-1, _BYTES)
        self._whole = memoryview(self._memory)
        self.length = 0  # bytes that are there

    def begin(self, front: bytes = b"") -> None:
        """Forget what is there, and begin with this."""
        self._whole[: len(front)] = front
        self.length = len(front)

    @property
    def content(self) -> memoryview:
        """What is there, until the next `begin`."""
        return self._whole[: self.length]

    def room(self, most_bytes: int) -> memoryview:
        """Where so much of it at most can be received, and `grow` told so."""
        return self._whole[self.length : self.length + most_bytes]

    @property
    def full(self) -> bool:
        """Whether to write it out and begin anew before more comes."""
        return self.length > _FULL_BYTES

    def grow(self, count: int) -> bool:
        """So many bytes lie in its room now; returns whether it is full."""
        self.length += count
        return self.length > _FULL_BYTES

    def add(self, content: bytes | memoryview) -> bool:
        """Append; there must be room, as there is for `LEAST_BYTES` where it is not full. Returns whether it is now."""
        self._whole[self.length : self.length + len(content)] = content
        return self.grow(len(content))

    def blocks(self) -> memoryview:
        """All of it in whole blocks, the last filled up with zeros."""
        end = -(-self.length // BLOCK) * BLOCK
        self._whole[self.length : end] = bytes(end - self.length)
        return self._whole[:end]

    def close(self) -> None:
        """Give the memory back at once; nothing may be put into it after."""
        self._whole = memoryview(b"")
        self.length = 0
        with suppress(BufferError):  # somebody still looks at it: then the collector does it
            self._memory.close()
