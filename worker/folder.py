"""A folder as destination: ``PATH/<study uid>/<sop uid>.dcm``, durable, never replaced."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cauda.core import uids
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.folders import fsync_folder, make_folder
from cauda.core.spool import open_synced, remove_parts


def store(root: Path, study_uid: str, sop_uid: str, content: bytes) -> str:
    """Put an object there unless it is; returns words worth keeping.

    Rejected when other bytes lie under its name, Unavailable when the folder cannot be written.
    """
    folder = root / uids.checked(study_uid, "Study Instance UID")
    final = folder / f"{uids.checked(sop_uid, 'SOP Instance UID')}.dcm"
    part = folder / f".{sop_uid}.{os.getpid()}.part"
    try:
        make_folder(folder)
        there = False
        try:
            with open_synced(part) as fd, os.fdopen(fd, "wb", closefd=False) as file:
                file.write(content)
            try:
                os.link(part, final)
            except FileExistsError:
                there = True
        finally:
            with suppress(OSError):
                part.unlink()
        remove_parts(folder, f".{sop_uid}")
        fsync_folder(folder)
        if there and final.read_bytes() != content:
            raise Rejected(Reason.DESTINATION_REFUSED, f"another object lies there as {final.name}")
    except OSError as error:
        words = f"folder cannot be written: {error.strerror or type(error).__name__}"
        raise Unavailable(Reason.DESTINATION_DOWN, words) from error
    return "was there already" if there else ""


def holds(root: Path, study_uid: str, sop_uid: str) -> bool:
    """Whether an object lies there."""
    return (root / uids.checked(study_uid, "Study Instance UID") / f"{sop_uid}.dcm").is_file()
