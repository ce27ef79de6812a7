"""What the disk alone takes for images of a size, whoever receives them: no server can be faster and as durable."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

PREPARED, PORTABLE = "the disk alone, into files that are there", "the disk alone, into new files"
FORMS = (PREPARED, PORTABLE)
_SLOT_BYTES = 1 << 20


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
    for file in (file for mine in files for file in mine):
        with file.open("wb") as made:
            made.write(bytes(_SLOT_BYTES))
            made.flush()
            os.fsync(made.fileno())
    return [[partial(_prepared, file, content) for file in mine] for mine in files]


def _prepared(file: Path, content: bytes) -> None:
    fd = os.open(file, os.O_RDWR)
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
