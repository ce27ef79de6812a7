"""Folders that survive a crash, and what is in them: POSIX promises a name only after the fsync of its folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    _fsync(folder, os.O_DIRECTORY)


def fsync_file(path: Path) -> None:
    """Make a file's content and length durable."""
    _fsync(path)


def _fsync(path: Path, flags: int = 0) -> None:
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, each durable in its own parent."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    fsync_folder(folder.parent)
