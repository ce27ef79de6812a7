"""Whether a file system's journal keeps a rename and what was renamed together: `spool`'s landing with one sync.

POSIX promises no name for the fsync of a file. ext4 with a journal and XFS keep it nevertheless: a rename changes its
file's inode in the transaction that changes the folder, and fsync of the file commits that one. Neither journal says of
a file that it is longer than what was written of it (on ext4 in the data modes "ordered" and "journal"), so a file that
a crash has cut short is told by its length.
"""

from __future__ import annotations

import os
from pathlib import Path

_MODES = {"data=ordered", "data=journal"}


def one_sync(folder: Path, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> str | None:
    """Why one sync is not enough in a folder; None where it is.

    ext4 names its data mode only where it has a journal.
    """
    number = folder.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    kind = _kind(device, proc)
    if kind == "xfs":
        return None
    if kind != "ext4":
        return f"its file system is {kind or 'unknown'}, neither ext4 nor XFS"
    name = (sys / "dev" / "block" / device).resolve().name
    try:
        options = (proc / "fs" / "ext4" / name / "options").read_text().split()
    except OSError as error:
        return f"the options of its file system cannot be read ({error.strerror})"
    if _MODES.isdisjoint(options):
        return "its ext4 has no journal, or data=writeback"
    return None


def _kind(device: str, proc: Path) -> str | None:
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == device:
            return source.split()[0]
    return None
