"""A folder as destination: ``PATH/<study uid>/<sop uid>.dcm``, durable, never replaced.

Others may write there: no symbolic link is followed in it, and nothing that lies there already is opened for writing.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from cauda.core import uids
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.folders import make_folder
from cauda.core.spool import remove_parts

_AS_IT_IS = os.O_NOFOLLOW | os.O_CLOEXEC


def store(root: Path, study_uid: str, sop_uid: str, content: bytes) -> str:
    """Put an object there unless it is; returns words worth keeping.

    Rejected when other bytes lie under its name, Unavailable when the folder cannot be written.
    """
    folder = root / uids.checked(study_uid, "Study Instance UID")
    name = f"{uids.checked(sop_uid, 'SOP Instance UID')}.dcm"
    try:
        make_folder(folder)
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _AS_IT_IS)
        try:
            is_new = _put(at, name, content)
            remove_parts(folder, f".{sop_uid}")
            os.fsync(at)
            if not is_new and _content(at, name, len(content)) != content:
                raise Rejected(Reason.DESTINATION_REFUSED, f"another object lies there as {name}")
        finally:
            os.close(at)
    except OSError as error:
        words = f"folder cannot be written: {error.strerror or type(error).__name__}"
        if folder.is_symlink():
            words = "folder cannot be written: a symbolic link lies where the study's folder belongs; remove it"
        raise Unavailable(Reason.DESTINATION_DOWN, words) from error
    return "" if is_new else "was there already"


def _put(at: int, name: str, content: bytes) -> bool:
    """Write under a name that nobody knows, then give it its own; False when something lies there already."""
    part = f".{name.removesuffix('.dcm')}.{secrets.token_hex(8)}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _AS_IT_IS, 0o640, dir_fd=at)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(fd)
        os.link(part, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        with suppress(OSError):
            os.unlink(part, dir_fd=at)
    return True


def _content(at: int, name: str, most_bytes: int) -> bytes | None:
    """A plain file's bytes, up to one more than expected; None of what is no plain file."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _AS_IT_IS, dir_fd=at)
    except OSError:
        return None  # a symbolic link, or gone
    with os.fdopen(fd, "rb") as file:
        return file.read(most_bytes + 1)


def holds(root: Path, study_uid: str, sop_uid: str) -> bool:
    """Whether an object lies there itself; what a symbolic link leads to is not it."""
    folder = root / uids.checked(study_uid, "Study Instance UID")
    try:
        return not folder.is_symlink() and S_ISREG((folder / f"{sop_uid}.dcm").lstat().st_mode)
    except OSError:
        return False
