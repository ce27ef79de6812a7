"""Files of zeros that are on disk already, name and blocks: what is written into one needs a single sync of its data.

The journal of a file system has nothing to add to it, since neither its length nor where it lies changes; a `seal` says
that the file is whole, and how long. A thread makes them in the pauses between images, for it costs the disk as much as
the images do. Where none is ready, an image lands in the portable way: `part`.
"""

from __future__ import annotations

import itertools
import mmap
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cauda.core import log, seal
from cauda.core.draft import BLOCK, Draft
from cauda.core.errors import Unavailable
from cauda.core.folders import fsync_folder
from cauda.core.part import disk_error, write_all

SUFFIX = ".slot"
BYTES = 1 << 20  # of each; a longer image makes its file longer
_ZEROS = mmap.mmap(-1, BYTES)
_BATCH = 8
_SPARE = 4  # times what all of them take must be free: results and the ledger need the disk too
_QUIET_S = 0.03  # since the last was taken
_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Slot:
    """One of them."""

    path: Path
    flags: int  # how to open it to write: past the page cache where the file system can, which costs half as much


class Slots:
    """The slots of one landing folder."""

    def __init__(
        self,
        folder: Path,
        count: int,
        check_room: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """None is there before `start`. ``check_room`` raises Unavailable where so many bytes are too many."""
        self._folder = folder
        self._count = count
        self._check_room = check_room
        self._clock = clock
        self._names = (f"{secrets.token_hex(8)}-{number:010d}{SUFFIX}" for number in itertools.count())
        self._ready: deque[Slot] = deque()
        self._flags = 0
        self._taken_at = 0.0
        self._without = False  # the last could not be made, which is said once
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slots", daemon=True)

    def start(self) -> None:
        """Make the first, then keep making them."""
        self._flags = _direct(self._folder)
        self._make()
        self._wanted.set()
        self._thread.start()

    def take(self) -> Slot | None:
        """One that nobody else has; None when none is ready."""
        self._taken_at = self._clock()
        if not self._wanted.is_set():
            self._wanted.set()
        try:
            return self._ready.popleft()
        except IndexError:
            return None

    def ready(self) -> int:
        """How many there are."""
        return len(self._ready)

    def close(self) -> None:
        """Make no more, and remove those that nobody took."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()
        self._give_back()

    def _give_back(self) -> None:
        """Remove those that nobody took."""
        with suppress(IndexError):
            while True:
                _remove(self._ready.popleft().path)

    def _run(self) -> None:
        while self._wanted.wait() and not self._closing.is_set():
            self._wanted.clear()
            while len(self._ready) < self._count and self._pause():
                if not self._make():
                    self._closing.wait(_RETRY_S)

    def _pause(self) -> bool:
        """Wait for one between images; False when it is time to end."""
        while (left := self._taken_at + _QUIET_S - self._clock()) > 0:
            if self._closing.wait(left):
                break
        return not self._closing.is_set()

    def _make(self) -> bool:
        made: list[Slot] = []
        try:
            self._check_room(_SPARE * self._count * BYTES)
            for _ in range(min(_BATCH, self._count - len(self._ready))):
                made.append(Slot(self._folder / next(self._names), self._flags))
                _write(made[-1])
            fsync_folder(self._folder)
        except (OSError, Unavailable) as error:  # a disk that is full or fails is said to the senders
            if not self._without:
                why = getattr(error, "strerror", None) or str(error)
                log.get("slots").warning("no_slots", message=f"{why}; images land in new files meanwhile, more slowly")
            self._without = True
            for slot in made:
                _remove(slot.path)
            self._give_back()
            return False
        self._ready.extend(made)
        self._without = False
        return True


def land(slot: Slot, name: str, draft: Draft) -> Path:
    """Write a Part 10 file into a slot so that it survives a crash the moment this returns.

    Its preamble is written over; ``name`` says where it stands in the order of arrival. The file keeps the slot's name,
    and its length until it is cut (`seal.cut`). Raises Unavailable(no_room | disk_failed); then nothing is left behind.
    """
    try:
        content = draft.content
        content[: seal.PREAMBLE] = seal.preamble(content[seal.PREAMBLE :], name)
        _fill(slot, draft.blocks())
    except OSError as error:
        _remove(slot.path)
        raise disk_error(error) from error
    except BaseException:
        _remove(slot.path)
        raise
    return slot.path


def _fill(slot: Slot, content: memoryview) -> None:
    fd = os.open(slot.path, os.O_WRONLY | os.O_CLOEXEC | slot.flags)
    try:
        write_all(fd, content)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _direct(folder: Path) -> int:
    """O_DIRECT; 0 where the file system does not take a slot or a block by it: some refuse only the write (open(2))."""
    probe = Slot(folder / f"{secrets.token_hex(8)}.probe{SUFFIX}", os.O_DIRECT)
    try:
        _write(probe)
        _fill(probe, memoryview(_ZEROS)[:BLOCK])
    except OSError:
        return 0
    finally:
        _remove(probe.path)
    return os.O_DIRECT


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _write(slot: Slot) -> None:
    fd = os.open(slot.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | slot.flags, 0o640)
    try:
        write_all(fd, memoryview(_ZEROS))
        os.fsync(fd)
    finally:
        os.close(fd)
