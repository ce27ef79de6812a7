"""A file that is being received, and how it becomes durable: nothing half ever counts as an image.

Portable: write, fdatasync, rename to the final name, fsync of the folder. Prepared: name and blocks are on disk since
before (`slots`), so that one fdatasync is all a sender waits for; a `seal` says that the file is whole, and how long.
It is written last, when the disk has begun with the rest.
One: where `journal.one_sync` allows it, write, rename, fsync of the file; its name says its length.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from cauda.core import seal, writeback
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.folders import fsync_folder

Sync = Literal["portable", "prepared", "one"]

PART = ".part"
_IOV_MAX = 1024
_BLOCK = 4096  # what O_DIRECT asks of lengths and addresses, on every disk of today


class Part:
    """A file that is being received: nothing whole stands under its final name until `land` gives it that.

    With a ``stage``, an anonymous mmap of whole blocks, content is gathered there and written past the page cache
    (O_DIRECT) where the file system allows it, which spares the processor a copy. Every method raises
    Unavailable(no_room | disk_failed); `drop` must be called then, and leaves nothing behind.
    """

    def __init__(
        self,
        arrivals: Path,
        name: str,
        stage: mmap.mmap | None = None,
        *,
        sync: Sync = "portable",
        slot: Path | None = None,
    ) -> None:
        """``name`` must be new; ``sync`` may be "one" in a folder of which `journal.one_sync` has nothing to say.

        A ``slot`` of the folder takes a Part 10 file that fits its stage with one sync. It then keeps the slot's name
        and length until it is cut (`seal.cut`).
        """
        self._folder = arrivals
        self._name = name
        self._sync = sync
        self._part = arrivals / f"{name}{PART}" if slot is None else slot
        self._final: Path | None = None  # once something may stand there
        self._stage: memoryview | None = None if stage is None else memoryview(stage)
        self._staged = 0  # bytes in the stage that are not in the file
        self._written = 0
        self._slot = slot
        self._begun = False  # the slot has all of it but the first block
        try:
            self._fd = self._open()
        except OSError as error:
            raise disk_error(error) from error

    def _open(self) -> int:
        if self._slot is not None:
            return os.open(self._slot, os.O_RDWR | os.O_CLOEXEC)  # through the page cache, where filing finds it again
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        if self._stage is not None:
            try:
                return os.open(self._part, flags | os.O_DIRECT, 0o640)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._stage = None  # this file system has no such way
                self._part.unlink(missing_ok=True)  # some make the file before they say so
        return os.open(self._part, flags, 0o640)

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Append."""
        try:
            if self._stage is None:
                write_all(self._fd, chunks)
            else:
                for chunk in chunks:
                    self._gather(self._stage, memoryview(chunk))
        except OSError as error:
            raise disk_error(error) from error

    def _gather(self, stage: memoryview, chunk: memoryview) -> None:
        while len(chunk) > len(stage) - self._staged:
            room = len(stage) - self._staged
            stage[self._staged :] = chunk[:room]
            chunk = chunk[room:]
            write_all(self._fd, [stage])
            self._written += len(stage)
            self._staged = 0
        stage[self._staged : self._staged + len(chunk)] = chunk
        self._staged += len(chunk)

    def content(self) -> memoryview:
        """What was written, while the disk begins with it; nothing may be written after.

        The file may not be empty where it outgrew its stage.
        """
        try:
            self._begin()
            if self._stage is not None and not self._written:
                return self._stage[: self._staged]
            self._flush()
            length = self._written if self._slot is not None else 0
            return memoryview(mmap.mmap(self._fd, length, prot=mmap.PROT_READ))
        except OSError as error:
            raise disk_error(error) from error

    def _begin(self) -> None:
        """Let the disk begin with what a slot takes with one sync: a Part 10 file that fits its stage.

        The first block, with the seal, is for `land`: until then a crash leaves nothing that counts.
        """
        if self._begun or self._slot is None or self._stage is None or self._written or self._staged < seal.PREAMBLE:
            return
        whole = -(-self._staged // _BLOCK) * _BLOCK  # part of a block would have the rest of it read first
        self._stage[self._staged : whole] = bytes(whole - self._staged)
        _write_at(self._fd, self._stage[_BLOCK:whole], _BLOCK)
        writeback.begin(self._fd, _BLOCK, whole - _BLOCK)
        self._begun = True

    def _flush(self) -> None:
        """The rest of the stage goes to the file: what fills no block through the page cache, without O_DIRECT."""
        if self._stage is None or not self._staged:
            return
        whole = self._staged // _BLOCK * _BLOCK
        write_all(self._fd, [self._stage[:whole]])
        if whole < self._staged:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, 0)
            write_all(self._fd, [self._stage[whole : self._staged]])
        self._written += self._staged
        self._staged = 0

    def land(self) -> Path:
        """Give it its final name so that it survives a crash the moment this returns; nothing may be written after."""
        try:
            self._begin()
            landed = self._sealed(self._stage) if self._begun and self._stage is not None else self._renamed()
        except OSError as error:
            raise disk_error(error) from error
        self.close()
        return landed

    def _sealed(self, stage: memoryview) -> Path:
        content = stage[: self._staged]
        seal.put(content, self._name)
        _write_at(self._fd, stage[:_BLOCK], 0)
        os.fdatasync(self._fd)
        return self._part  # its name was durable before

    def _renamed(self) -> Path:
        self._flush()
        if self._slot is not None:
            os.ftruncate(self._fd, self._written)
        if self._sync == "one":
            self._final = self._folder / f"{self._name}.{os.fstat(self._fd).st_size}.dcm"
            self._part.rename(self._final)
            os.fsync(self._fd)
        else:
            self._final = self._folder / f"{self._name}.dcm"
            os.fdatasync(self._fd)
            self._part.rename(self._final)
            fsync_folder(self._folder)
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
        part.write(chunks)
        return part.land()
    except BaseException:
        part.drop()
        raise


def disk_error(error: OSError) -> Unavailable:
    """What a failed write means for the sender."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Unavailable(Reason.NO_ROOM, "no room: disk or quota is full")
    return Unavailable(Reason.DISK_FAILED, f"disk: {error.strerror or type(error).__name__}")


def write_all(fd: int, chunks: Sequence[bytes | memoryview]) -> None:
    """Every byte, however little the system takes at a time."""
    left = [memoryview(chunk) for chunk in chunks if len(chunk)]
    while left:
        written = os.writev(fd, left[:_IOV_MAX])
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


def _write_at(fd: int, content: memoryview, at: int) -> None:
    """As `write_all`, from there on."""
    while content:
        written = os.pwrite(fd, content, at)
        content, at = content[written:], at + written
