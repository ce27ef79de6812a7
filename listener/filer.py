"""The filer: one thread that moves landed objects into their studies and enters them in the ledger.

Everything it is told goes through one queue in order, so a release is never seen before its images. Each step
repeats harmlessly: after a crash the arrivals folder alone says what is left to do.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from cauda.core import gaps, intake, log, metrics, peers, processes, seal, slots, spool, stack
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.folders import fsync_file, fsync_folder
from cauda.core.intake import Filed, Outcome
from cauda.core.ledger import Ledger, record
from cauda.core.pixels import Bounds, Decoder
from cauda.core.processes import Backlog
from cauda.core.steady_clock import boot_seconds
from cauda.listener import compare, landed, part10, suspects
from cauda.listener.compare import Comparison
from cauda.listener.part10 import Origin

BATCH = 64
_ADOPT_S, _ADOPT_BATCH = 5.0, 16  # at a time: comparing two versions may take seconds
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
# Filing costs more processor time than receiving, and both want the interpreter: a burst is received first and filed in
# the pauses.
_QUIET_S, _PATIENCE_S = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class Opened:
    """An association was established."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class Arrived:
    """An object has landed and was acknowledged."""

    path: Path


@dataclass(frozen=True, slots=True)
class Ended:
    """An association ended: released or aborted."""

    association_id: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A peer was refused, so many times; the title is empty where none was read."""

    aet: str
    address: str
    reason: Reason
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A peer was let in to be known from now on."""

    aet: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedImage:
    """An MR image was refused for a passing reason: its sender may send it again."""

    association_id: str
    sop_uid: str
    study_uid: str | None  # where it was known by then
    reason: Reason


Told = Opened | Arrived | Ended | Refused | Learned | RefusedImage
_BUSY = (Opened, Arrived)  # whoever opens an association is about to send


# OSError: a disk that is full or away; the object is not to blame.
# IntegrityError: another listener entered the same object first; it is a duplicate next time.
PASSING = (Unavailable, IntegrityError, OSError)


class Filer:
    """Owns the queue and its thread."""

    def __init__(self, ledger: Ledger, store: spool.Spool, listener: str, arrivals: str = "") -> None:
        """``listener`` is the process token that its associations are entered under, ``arrivals`` its folder's name."""
        self.decoder = Decoder(Bounds())
        self._ledger = ledger
        self._spool = store
        self._listener = listener
        self._arrivals = arrivals
        self._queue: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._unfiled: deque[float] = deque()  # boot_seconds of what was acknowledged and is not filed, oldest first
        self._busy_at = 0.0
        self._behind = False  # the queue was not emptied since we last gave way
        self._thread = threading.Thread(target=self._run, name="filer")
        self._log = log.get("filer")
        self._waits_for: str | None = None  # why filing waits

    def tell(self, what: Told) -> None:
        """Queue an event; never blocks."""
        if isinstance(what, Arrived):
            self._unfiled.append(boot_seconds())  # before it is acknowledged
            metrics.waiting.inc()
        if isinstance(what, _BUSY):
            self._busy_at = time.monotonic()
        self._queue.put(what)

    def backlog(self) -> Backlog:
        """What was acknowledged and is not filed yet."""
        try:
            age_s = boot_seconds() - self._unfiled[0]
        except IndexError:
            return Backlog(arrivals=self._arrivals)
        return Backlog(arrivals=self._arrivals, count=len(self._unfiled), age_s=age_s, why=self._waits_for)

    def start(self) -> None:
        """Begin filing."""
        self._thread.start()

    def finish(self) -> None:
        """File what was told so far, then end; with the ledger away the files stay for the next start."""
        self._stop.set()
        self._queue.put(None)
        self._thread.join()
        self.decoder.close()

    def _run(self) -> None:
        while True:
            batch, last = self._take()
            if not self._insist(batch) or last:
                return

    def _take(self) -> tuple[list[Told], bool]:
        batch: list[Told] = []
        first = self._queue.get()
        if isinstance(first, _BUSY) and not self._behind:
            self._give_way()
        while first is not None:
            batch.append(first)
            self._behind = len(batch) == BATCH
            if self._behind:
                return batch, False
            try:
                first = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _give_way(self) -> None:
        """Wait for a pause in what comes: once for all that is waiting, never long, and not at the end.

        A stream without pauses is filed from then on as it comes: what arrived is never older than the patience and
        the time that filing takes.
        """
        until = time.monotonic() + _PATIENCE_S
        while True:
            now = time.monotonic()
            wait = min(self._busy_at + _QUIET_S, until) - now
            if wait <= 0 or self._stop.wait(wait):
                return

    def _insist(self, batch: Sequence[Told]) -> bool:
        """Try until it is done; False when told to stop while the world is away."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                file_or_set_aside(self._ledger, self._spool, self._listener, self.decoder, batch)
            except PASSING as error:
                why = str(getattr(error, "reason", type(error).__name__))
                if self._waits_for is None:
                    self._log.warning("filing_waits", reason=why)
                self._waits_for = why
                if self._stop.wait(wait_s):
                    return False
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            else:
                if self._waits_for is not None:
                    self._log.info("filing_goes_on")
                self._waits_for = None
                filed = sum(isinstance(one, Arrived) for one in batch)
                for _ in range(filed):
                    self._unfiled.popleft()
                metrics.waiting.dec(filed)
                return True


def adopt(ledger: Ledger, store: spool.Spool, own: Path, decoder: Decoder) -> int:
    """File what dead listeners left behind; returns how many objects that were.

    Not for longer than a few seconds: whoever calls has other things to do, and goes on with the rest later.
    """
    count, until = 0, time.monotonic() + _ADOPT_S
    for arrivals in spool.abandoned(store, own):
        try:
            spool.remove_unacknowledged(arrivals)
            left = spool.waiting(arrivals.folder)
            filed = _file_left(ledger, store, decoder, arrivals.folder, left, until)
            count += filed
            if filed < len(left):
                return count
            with ledger.write() as conn:
                processes.adopted(conn, arrivals.folder.name)
            spool.remove_if_empty(arrivals)
        finally:
            arrivals.close()
    return count


def _file_left(
    ledger: Ledger, store: spool.Spool, decoder: Decoder, folder: Path, left: Sequence[Path], until: float
) -> int:
    """File what a dead listener left: first what it died with, one by one, until it is known which of it is deadly.

    Begins nothing after ``until``, but once; returns how many were filed.
    """
    deaths = suspects.after_death(folder)
    under_suspicion = [path for path in left if path.name in deaths]
    for path in under_suspicion:  # all of them, for what is not done with is forgotten
        suspects.write(folder, {path.name: deaths[path.name]})
        if deaths[path.name] < suspects.MAX_DEATHS:
            file_or_set_aside(ledger, store, "", decoder, [Arrived(path)])
        else:
            _quarantine(ledger, store, path, deaths[path.name])
            (folder / suspects.MARKER).unlink(missing_ok=True)
    others = [path for path in left if path.name not in deaths]
    done = 0
    while done < len(others) and (done == 0 or time.monotonic() < until):
        batch = [Arrived(path) for path in others[done : done + _ADOPT_BATCH]]
        file_or_set_aside(ledger, store, "", decoder, batch)
        done += len(batch)
    return len(under_suspicion) + done


def file_or_set_aside(
    ledger: Ledger, store: spool.Spool, listener: str, decoder: Decoder, batch: Sequence[Told]
) -> None:
    """File a batch; an object that meets a bug is set aside, so that nothing else waits for it.

    Raises what is PASSING: the same batch may be tried again, whatever was done of it.
    """
    paths = [one.path for one in batch if isinstance(one, Arrived) and one.path.exists()]
    try:
        with suspects.written_down(paths):
            file_batch(ledger, store, listener, decoder, batch)
    except PASSING:
        raise
    except Exception as error:  # noqa: BLE001  one strange object must not stop all filing
        if len(batch) > 1:
            for one in batch:
                file_or_set_aside(ledger, store, listener, decoder, [one])
        else:
            log.get("filer").error("filing_failed", stack=stack.of(error))
            _set_aside(ledger, store, batch[0])


@dataclass(slots=True)
class _Placed:
    """A batch whose files have their names; what cannot be read, and what has to come in a later batch."""

    filed: dict[Path, Filed]
    unreadable: list[Path]
    batch: Sequence[Told]
    rest: Sequence[Told]


def file_batch(ledger: Ledger, store: spool.Spool, listener: str, decoder: Decoder, batch: Sequence[Told]) -> None:
    """File a batch: link and sync first, one ledger transaction, then drop the arrivals."""
    while batch:
        placed = _place(ledger, store, decoder, batch)
        for path in placed.filed:
            if path.suffix == slots.SUFFIX:
                fsync_file(path)  # it was cut
        for folder in {store.absolute(one.path).parent for one in placed.filed.values()}:
            fsync_folder(folder)
        with ledger.write() as conn:
            outcomes = _enter(ledger, conn, listener, placed)
        for path in placed.filed:
            path.unlink(missing_ok=True)
        for path in placed.unreadable:
            _set_aside(ledger, store, Arrived(path))
        for outcome in outcomes:
            metrics.filed.labels(outcome).inc()
        batch = placed.rest


def _place(ledger: Ledger, store: spool.Spool, decoder: Decoder, batch: Sequence[Told]) -> _Placed:
    placed = _Placed({}, [], batch, ())
    seen: set[tuple[str, str]] = set()
    with ledger.read() as conn:
        for place, one in enumerate(batch):
            if not isinstance(one, Arrived) or not one.path.exists():
                continue  # a repeated batch: filed before the crash
            if one.path.suffix == slots.SUFFIX:
                seal.cut(one.path)
            try:
                found = landed.read(one.path)
            except Rejected:
                placed.unreadable.append(one.path)
                continue
            header = found.header
            if (header.study_uid, header.sop_uid) in seen:
                # the same object twice: the second is compared with the first once that is entered
                placed.batch, placed.rest = batch[:place], batch[place:]
                break
            seen.add((header.study_uid, header.sop_uid))
            placed.filed[one.path] = _placed(store, one.path, found, conn, decoder)
    return placed


def _enter(ledger: Ledger, conn: Connection, listener: str, placed: _Placed) -> list[Outcome]:
    """Enter what a batch tells, in order: images that follow one another together."""
    outcomes: list[Outcome] = []
    images: list[Filed] = []
    for one in placed.batch:
        if isinstance(one, Arrived):
            if one.path in placed.filed:
                images.append(placed.filed[one.path])
        else:
            outcomes += intake.file_instances(ledger, conn, images)
            images = []
            _note(ledger, conn, listener, one)
    return outcomes + intake.file_instances(ledger, conn, images)


def _note(
    ledger: Ledger, conn: Connection, listener: str, one: Opened | Ended | Refused | Learned | RefusedImage
) -> None:  # fmt: skip
    match one:
        case Opened(origin):
            with suppress(IntegrityError), conn.begin_nested():  # a repeated batch
                intake.opened(
                    ledger,
                    conn,
                    association_id=origin.association_id,
                    listener=listener,
                    calling_aet=origin.calling_aet,
                    called_aet=origin.called_aet,
                    address=origin.address,
                )
        case Ended(association_id, how):
            intake.ended(ledger, conn, association_id, how)
        case RefusedImage():
            gaps.refused(ledger, conn, sop_uid=one.sop_uid, study_uid=one.study_uid,
                         association_id=one.association_id, reason=one.reason)  # fmt: skip
        case Refused():
            peers.refused(ledger, conn, one.aet, one.address, one.reason, count=one.count)
        case Learned():
            peers.learned(ledger, conn, one.aet, one.address)


def _placed(store: spool.Spool, path: Path, found: landed.Landed, conn: Connection, decoder: Decoder) -> Filed:
    header, origin = found.header, found.origin
    sha256, dataset_sha256, size = part10.digests(path)
    kept = intake.versions(conn, header.study_uid, header.sop_uid)
    known = next((row for row in kept if row.dataset_sha256 == dataset_sha256), None)
    current = next((row for row in kept if row.current), None)
    if known is not None:
        stored, version = store.absolute(known.path), known.version
    else:
        first = 1 + max((row.version for row in kept), default=0)
        # Another listener may have placed it a moment ago, with its own File Meta: the file that stays is entered.
        stored, version = spool.file_image(
            store, path, header.study_uid, header.sop_uid, first_version=first, same=part10.same_dataset
        )
        if not stored.samefile(path):
            sha256, dataset_sha256, size = part10.digests(stored)
    beside = None
    if current is not None and known is None:
        beside = _compared(store.absolute(current.path), path, decoder)
    return Filed(
        header=header,
        path=store.relative(stored),
        version=version,
        sha256=sha256,
        dataset_sha256=dataset_sha256,
        bytes=size,
        association_id=origin.association_id if origin else None,
        source=origin.calling_aet if origin else "unknown",
        same_picture=None if beside is None else beside is Comparison.SAME,
        broken=beside is Comparison.BROKEN,
        mends=beside is Comparison.MENDS,
    )


def _compared(current: Path, later: Path, decoder: Decoder) -> Comparison:
    """Whatever comes of it, the later one is filed; what cannot be compared counts as other."""
    try:
        return compare.compare(current, later, decoder)
    except FileNotFoundError:
        return Comparison.OTHER  # somebody removed the current version
    except OSError:
        raise  # of the disk: it passes
    except Exception as error:  # noqa: BLE001  a bug in comparing keeps no acknowledged image from its study
        log.get("filer").error("comparing_failed", stack=stack.of(error))
        return Comparison.OTHER


def _set_aside(ledger: Ledger, store: spool.Spool, one: Told) -> None:
    """Keep an acknowledged object from which no study can be read, and say so."""
    if isinstance(one, Arrived) and one.path.exists():
        with ledger.write() as conn:  # first, so that a ledger that is away leaves the arrival to be tried again
            record(ledger, conn, "object_unfiled", path=store.relative(_kept(store, one.path)))
        _keep(store, one.path)
        metrics.filed.labels("unfiled").inc()


def _quarantine(ledger: Ledger, store: spool.Spool, path: Path, deaths: int) -> None:
    """Keep an acknowledged object that ended the process again and again, and say so. Nothing looks at it any more."""
    # Reading whose it is may be what is deadly: then it is named by its file alone the next time.
    study_uid = _study_of(path) if deaths == suspects.MAX_DEATHS else None
    kept = store.relative(_kept(store, path))
    log.get("filer").error("object_quarantined", path=kept, study=study_uid, deaths=deaths)
    with ledger.write() as conn:
        record(ledger, conn, "object_quarantined", study_uid=study_uid, path=kept, deaths=deaths)
    _keep(store, path)
    metrics.filed.labels("quarantined").inc()


def _study_of(path: Path) -> str | None:
    with suppress(Rejected):
        return landed.read(path).header.study_uid
    return None


def _kept(store: spool.Spool, path: Path) -> Path:
    return store.unfiled / f"{path.stem}.dcm"


def _keep(store: spool.Spool, path: Path) -> None:
    path.rename(_kept(store, path))
    fsync_folder(store.unfiled)
