"""A new file that is being received, and how it becomes durable: nothing half ever stands under its final name.

Portable: write, fdatasync, rename to the final name, fsync of the folder. One: where `journal.one_sync` allows it,
write, rename, fsync of the file; its name says its length. What is there whole before its file is needs neither where
a slot is ready: `slots.land`.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.folders import fsync_folder

Sync = Literal["portable", "prepared", "one"]

PART = ".part"


class Part:
    """A file that is being received: nothing whole stands under its final name until `land` gives it that.

    Every method raises Unavailable(no_room | disk_failed); `drop` must be called then, and leaves nothing behind.
    """

    def __init__(self, arrivals: Path, name: str, *, sync: Sync = "portable") -> None:
        """``name`` must be new; ``sync`` may be "one" in a folder of which `journal.one_sync` has nothing to say."""
        self._folder = arrivals
        self._name = name
        self._sync = sync
        self._part = arrivals / f"{name}{PART}"
        self._final: Path | None = None  # once something may stand there
        try:
            self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise disk_error(error) from error

    def write(self, content: bytes | memoryview) -> None:
        """Append."""
        try:
            write_all(self._fd, content)
        except OSError as error:
            raise disk_error(error) from error

    def content(self) -> memoryview:
        """What was written, which may not be nothing."""
        try:
            return memoryview(mmap.mmap(self._fd, 0, prot=mmap.PROT_READ))
        except OSError as error:
            raise disk_error(error) from error

    def land(self) -> Path:
        """Give it its final name so that it survives a crash the moment this returns; nothing may be written after."""
        try:
            if self._sync == "one":
                self._final = self._folder / f"{self._name}.{os.fstat(self._fd).st_size}.dcm"
                self._part.rename(self._final)
                os.fsync(self._fd)
            else:
                self._final = self._folder / f"{self._name}.dcm"
                os.fdatasync(self._fd)
                self._part.rename(self._final)
                fsync_folder(self._folder)
        except OSError as error:
            raise disk_error(error) from error
        self.close()
        return self._final

    def close(self) -> None:
        """Give the descriptor back; harmless when that was done."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def drop(self) -> None:
        """Leave nothing behind; only before `land` has returned."""
        self.close()
        for path in filter(None, (self._part, self._final)):
            with suppress(OSError):
                path.unlink()


def land(arrivals: Path, name: str, chunks: Sequence[bytes | memoryview]) -> Path:
    """Write a file so that it survives a crash the moment this returns.

    ``name`` must be new. Raises Unavailable(no_room | disk_failed); then nothing is left behind.
    """
    part = Part(arrivals, name)
    try:
        for chunk in chunks:
            part.write(chunk)
        return part.land()
    except BaseException:
        part.drop()
        raise


def disk_error(error: OSError) -> Unavailable:
    """What a failed write means for the sender."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Unavailable(Reason.NO_ROOM, "no room: disk or quota is full")
    return Unavailable(Reason.DISK_FAILED, f"disk: {error.strerror or type(error).__name__}")


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Every byte, however little the system takes at a time."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]
