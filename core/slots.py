"""Empty files whose names are on disk already: what is written into one needs no sync of its folder.

A thread keeps some ready. Where there is none at the moment, or the file system has no O_DIRECT, an image lands in
the portable way.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cauda.core import log
from cauda.core.folders import fsync_folder

_READY = 64
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Slot:
    """An open file that waits for its content."""

    path: Path
    fd: int


class Slots:
    """The slots of one landing folder."""

    def __init__(self, folder: Path) -> None:
        """None is there before `start`."""
        self._folder = folder
        self._names = (f"{secrets.token_hex(8)}-{number:010d}.part" for number in itertools.count())
        self._ready: deque[Slot] = deque()
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="slots", daemon=True)

    def start(self) -> None:
        """Make the first, then keep making them."""
        self._make()
        self._thread.start()

    def take(self) -> Slot | None:
        """One that nobody else has; None when there is none at the moment."""
        if len(self._ready) <= _READY // 2:
            self._wanted.set()
        try:
            return self._ready.popleft()
        except IndexError:
            return None

    def close(self) -> None:
        """Make no more, and remove those that nobody took."""
        self._closed = True
        self._wanted.set()
        self._thread.join()
        for slot in self._ready:
            _remove(slot)
        self._ready.clear()

    def _run(self) -> None:
        while self._wanted.wait() and not self._closed:
            self._wanted.clear()
            self._make()

    def _make(self) -> None:
        made: list[Slot] = []
        try:
            while len(self._ready) + len(made) < _READY:
                made.append(_new(self._folder / next(self._names)))
            fsync_folder(self._folder)
        except OSError as error:  # a disk that is full or fails is said to the senders, by the portable way
            log.get("slots").warning("no_slots", message=error.strerror)
            for slot in made:
                _remove(slot)
        else:
            self._ready.extend(made)


def _new(path: Path) -> Slot:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_DIRECT
    try:
        return Slot(path, os.open(path, flags, 0o640))
    except OSError:
        path.unlink(missing_ok=True)  # some make the file before they say that they have no such way
        raise


def _remove(slot: Slot) -> None:
    os.close(slot.fd)
    with suppress(OSError):
        slot.path.unlink()
