"""File systems of their own for tests: made in a file, mounted for a while. It takes the right to mount."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from needs import absent

KINDS = {
    "ext4": ["mkfs.ext4", "-q", "-O", "has_journal"],
    "xfs": ["mkfs.xfs", "-q"],
    "ext4 without a journal": ["mkfs.ext4", "-q", "-O", "^has_journal"],
}


def run(*argv: str | Path) -> None:
    """Or skip: it takes the right to mount, and the tools."""
    name = str(argv[0])
    done = subprocess.run(argv, check=False, capture_output=True) if shutil.which(name) else None
    if done is None or done.returncode:
        absent(f"{name}: {done.stderr.decode().strip() if done else 'not installed'}")


@contextmanager
def mounted(device: Path, folder: Path, *options: str) -> Iterator[Path]:
    """A file system in a file."""
    folder.mkdir()
    run("mount", "-o", ",".join(["loop", *options]), device, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def disk(tmp_path: Path, kind: str) -> Iterator[tuple[Path, Path]]:
    """A new file system: the file that is its device, and where it is mounted."""
    device = tmp_path / "device"
    with device.open("wb") as file:
        file.truncate(320 << 20)
    run(*KINDS[kind], device)
    with mounted(device, tmp_path / "disk") as folder:
        yield device, folder
