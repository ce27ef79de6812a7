"""What the disk alone takes for images of a size, whoever receives them: no server can be faster and as durable."""

from __future__ import annotations

import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

PREPARED, PORTABLE = "the disk alone, into files that are there", "the disk alone, into new files"
FORMS = (PREPARED, PORTABLE)
_SLOT_BYTES, _BLOCK = 1 << 20, 4096


def measure(place: Path, content: bytes, writers: int, count: int, form: str) -> tuple[float, float, list[float]]:
    """So many images of each writer, all of whom begin together: seconds, of the processor too, and of every image."""
    folder = place / "floor"
    folder.mkdir()
    try:
        return _together(_jobs(folder, content, writers, count, form))
    finally:
        shutil.rmtree(folder)


def _jobs(folder: Path, content: bytes, writers: int, count: int, form: str) -> list[list[Callable[[], None]]]:
    files = [[folder / f"{writer}-{number}" for number in range(count)] for writer in range(writers)]
    if form == PORTABLE:
        return [[partial(_portable, file, content) for file in mine] for mine in files]
    flags = _direct(folder)
    zeros, whole = mmap.mmap(-1, _SLOT_BYTES), mmap.mmap(-1, -(-len(content) // _BLOCK) * _BLOCK)
    whole[: len(content)] = content
    for file in (file for mine in files for file in mine):
        _write(file, zeros, flags | os.O_CREAT)
    return [[partial(_write, file, whole, flags) for file in mine] for mine in files]


def _direct(folder: Path) -> int:
    """What goes past the page cache, where the file system takes that."""
    probe = folder / "probe"
    try:
        _write(probe, mmap.mmap(-1, _BLOCK), os.O_DIRECT | os.O_CREAT)
    except OSError:
        return 0
    finally:
        probe.unlink(missing_ok=True)
    return os.O_DIRECT


def _write(file: Path, content: mmap.mmap, flags: int) -> None:
    fd = os.open(file, os.O_WRONLY | flags)
    os.write(fd, content)
    os.fdatasync(fd)
    os.close(fd)


def _portable(file: Path, content: bytes) -> None:
    part = file.with_suffix(".part")
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(fd, content)
    os.fdatasync(fd)
    part.rename(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    os.close(fd)


def _together(jobs: Sequence[Sequence[Callable[[], None]]]) -> tuple[float, float, list[float]]:
    begin = threading.Barrier(len(jobs) + 1)
    each: list[float] = []

    def work(mine: Sequence[Callable[[], None]]) -> None:
        begin.wait()
        for job in mine:
            begun = time.perf_counter()
            job()
            each.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in jobs]
    for thread in threads:
        thread.start()
    begin.wait()
    begun, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun, time.process_time() - cpu, each
