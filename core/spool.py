"""Files on disk, durable before anybody is told so.

    <data>/arrivals/<listener>/   landed, acknowledged, not yet filed; locked by its living listener
    <data>/studies/<study uid>/   filed images, ``<sop uid>.dcm``; a later version is ``<sop uid>.v2.dcm``
    <data>/outbox/<study uid>/    results, ``<sop uid>.dcm``; what is there under a UID is delivered, never rebuilt
    <data>/unfiled/               acknowledged, but no study can be read from it; kept for a person to look at

How a file becomes durable in the first of them is told in `part` and `slots`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cauda.core import seal, slots, uids
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.folders import fsync_file, fsync_folder, make_folder
from cauda.core.part import PART, disk_error, write_all

_LENGTH = re.compile(r"\.(\d+)\.dcm$")  # in the name of what landed with one sync
_LOCK_TRIES, _LOCK_WAIT_S = 50, 0.02


@dataclass(frozen=True, slots=True)
class Spool:
    """The folders under one data directory. Paths stored elsewhere are relative to ``data``."""

    data: Path
    min_free_bytes: int = 0

    @property
    def arrivals(self) -> Path:
        """Where every listener has a folder of its own."""
        return self.data / "arrivals"

    @property
    def studies(self) -> Path:
        """Filed images."""
        return self.data / "studies"

    @property
    def outbox(self) -> Path:
        """Results."""
        return self.data / "outbox"

    @property
    def unfiled(self) -> Path:
        """Acknowledged files from which no study can be read."""
        return self.data / "unfiled"

    def prepare(self) -> None:
        """Make the folders; Misconfigured where the data directory cannot be written."""
        try:
            for folder in (self.arrivals, self.studies, self.outbox, self.unfiled):
                make_folder(folder)
        except OSError as error:
            raise Misconfigured(f"data: {self.data} cannot be written ({error.strerror})") from error

    def check_room(self, incoming: int = 0) -> None:
        """Raise Unavailable(no_room) when storing ``incoming`` bytes would go below the free-space floor."""
        found = os.statvfs(self.data)
        free = found.f_bavail * found.f_frsize
        if free - incoming < self.min_free_bytes:
            raise Unavailable(Reason.NO_ROOM, f"no room: {free >> 20} MiB free, {self.min_free_bytes >> 20} MiB kept")

    def absolute(self, path: str) -> Path:
        """The place of a stored relative path."""
        return self.data / path

    def relative(self, path: Path) -> str:
        """How a path is stored."""
        return str(path.relative_to(self.data))


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One living listener's landing folder; holds its lock until closed or the process ends."""

    folder: Path
    lock_fd: int

    def close(self) -> None:
        """Give the folder up, so that another listener may adopt what is left in it."""
        os.close(self.lock_fd)


def open_arrivals(spool: Spool, name: str) -> Arrivals:
    """Make and lock a landing folder; the name must be unique among living listeners."""
    folder = spool.arrivals / name
    for _ in range(_LOCK_TRIES):
        make_folder(folder)
        fd = _try_lock(folder)
        if fd is not None:
            fsync_folder(folder)
            return Arrivals(folder, fd)
        time.sleep(_LOCK_WAIT_S)  # another listener takes a new folder for an abandoned one, for a moment
    raise Misconfigured(f"{folder} is in use by another listener; only one may use this name")


def abandoned(spool: Spool, own: Path) -> Iterator[Arrivals]:
    """Landing folders whose listener has died, each locked by us now; the caller closes them."""
    for folder in sorted(spool.arrivals.iterdir()):
        if folder == own or not folder.is_dir():
            continue
        fd = _try_lock(folder)
        if fd is not None:
            yield Arrivals(folder, fd)


def remove_prepared(spool: Spool, own: Path) -> int:
    """Give back the room of the files that dead listeners had prepared; returns how many there were."""
    count = 0
    for arrivals in abandoned(spool, own):
        try:
            count += remove_unacknowledged(arrivals)
        finally:
            arrivals.close()
    return count


def remove_unacknowledged(arrivals: Arrivals) -> int:
    """Remove what was prepared or half received in a landing folder that is not in use; returns how many files.

    Each crash leaves as much as `Slots` makes: it goes before anything else is done with the folder.
    """
    count = 0
    for path in arrivals.folder.iterdir():
        if path.suffix == PART or _cut_short(path) or (path.suffix == slots.SUFFIX and seal.name_in(path) is None):
            with suppress(OSError):
                path.unlink()  # never acknowledged
                count += 1
    return count


def remove_if_empty(arrivals: Arrivals) -> None:
    """Remove an adopted landing folder that holds nothing any more."""
    remove_unacknowledged(arrivals)
    for name in (".filing", ".comparing", ".lock"):  # what `suspects` wrote, and the lock
        (arrivals.folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something landed meanwhile: leave it
        arrivals.folder.rmdir()


def _try_lock(folder: Path) -> int | None:
    """The descriptor of the folder's lock; None when somebody holds it, or is just removing the folder."""
    lock = folder / ".lock"
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), lock.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)  # not ours, or a lock on a name that is gone
    return None


def waiting(folder: Path) -> list[Path]:
    """Landed files in the order of their arrival; what is unfinished is not among them.

    Those that only a seal makes whole are given their names first. Nothing may be landing there meanwhile.
    """
    for path in folder.iterdir():
        if path.suffix == slots.SUFFIX and (name := seal.name_in(path)) is not None:
            seal.cut(path)
            fsync_file(path)
            # without a journal a rename that a crash interrupts may leave neither name
            with suppress(FileExistsError):
                os.link(path, folder / f"{name}.dcm")
            fsync_folder(folder)
            path.unlink()
    return sorted(p for p in folder.iterdir() if p.suffix == ".dcm" and not _cut_short(p))


def _cut_short(path: Path) -> bool:
    """Whether a crash came after the name and before the content: landed with one sync, and never acknowledged."""
    length = _LENGTH.search(path.name)
    return length is not None and path.stat().st_size != int(length[1])


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files are equal."""
    return sha256(one) == sha256(other)


def file_image(
    spool: Spool,
    arrival: Path,
    study_uid: str,
    sop_uid: str,
    *,
    first_version: int = 1,
    same: Callable[[Path, Path], bool] = same_bytes,
) -> tuple[Path, int]:
    """Give a landed file its name in the study's folder, never replacing one; returns path and version.

    Not durable until the folder is synced. Repeats harmlessly: what is ``same`` as the file there keeps its name.
    """
    folder = spool.studies / uids.checked(study_uid, "Study Instance UID")
    uids.checked(sop_uid, "SOP Instance UID")
    try:
        make_folder(folder)
    except OSError as error:
        raise disk_error(error) from error
    version = first_version
    while True:
        final = folder / (f"{sop_uid}.dcm" if version == 1 else f"{sop_uid}.v{version}.dcm")
        try:
            os.link(arrival, final)
        except FileExistsError:
            if final.samefile(arrival) or same(final, arrival):
                return final, version
            version += 1
        except OSError as error:
            raise disk_error(error) from error
        else:
            return final, version


def put_result(spool: Spool, study_uid: str, sop_uid: str, content: bytes) -> tuple[Path, str]:
    """Store a result unless one is there under this UID; returns its path and the SHA-256 of what is there."""
    folder = spool.outbox / uids.checked(study_uid, "Study Instance UID")
    final = folder / f"{uids.checked(sop_uid, 'SOP Instance UID')}.dcm"
    part = folder / f"{sop_uid}.{os.getpid()}{PART}"
    try:
        make_folder(folder)
        if not final.exists():
            with open_synced(part) as fd:
                write_all(fd, content)
            with suppress(FileExistsError, FileNotFoundError):  # somebody else's is there, and ours was cleared away
                os.link(part, final)
        remove_parts(folder, sop_uid)
        fsync_folder(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error) from error
    return final, sha256(final)


def remove_parts(folder: Path, name: str) -> None:
    """Clear away what killed processes left behind while they wrote a file of this name, which is there now."""
    for part in folder.glob(f"{name}.*{PART}"):
        part.unlink(missing_ok=True)


@contextmanager
def open_synced(path: Path) -> Iterator[int]:
    """A new or emptied file's descriptor; its data is durable when the block ends."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        yield fd
        os.fdatasync(fd)
    finally:
        os.close(fd)


def read(spool: Spool, path: str) -> bytes:
    """A stored file's bytes. A listed file that is not there is the world's fault: a mount that is away."""
    try:
        return spool.absolute(path).read_bytes()
    except FileNotFoundError as error:
        raise Unavailable(Reason.FILE_MISSING, f"file not there: {path}; is the data folder mounted?") from error
    except OSError as error:
        raise disk_error(error) from error


def sha256(path: Path) -> str:
    """The hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
