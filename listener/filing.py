"""A batch of what the doors told, filed: images named in their studies, synced, entered in the ledger.

Each step repeats harmlessly: after a crash the arrivals folder alone says what is left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from cauda.core import gaps, intake, log, metrics, peers, seal, slots, spool, stack
from cauda.core.errors import Rejected, Unavailable
from cauda.core.folders import fsync_file, fsync_folder
from cauda.core.intake import Filed, Outcome
from cauda.core.ledger import Ledger, record
from cauda.core.pixels import Decoder
from cauda.listener import compare, landed, part10, suspects
from cauda.listener.beside import Item, Key, Line
from cauda.listener.compare import Comparison
from cauda.listener.told import Arrived, Ended, Learned, Opened, Refused, RefusedImage, Told

# OSError: a disk that is full or away; the object is not to blame.
# IntegrityError: another listener entered the same object first; it is a duplicate next time.
# Outdated: another version of it was entered first; it is compared with that next time.
PASSING = (Unavailable, IntegrityError, intake.Outdated, OSError)


def file_or_set_aside(
    ledger: Ledger,
    store: spool.Spool,
    listener: str,
    decoder: Decoder | None,
    batch: Sequence[Told],
    line: Line | None = None,
) -> None:
    """File a batch; an object that meets a bug is set aside, so that nothing else waits for it.

    What has to be decoded to be compared is put into ``line``. Where there is none it is decoded by ``decoder``, and
    where that is None, too, it counts as another picture.
    Raises what is PASSING: the same batch may be tried again, whatever was done of it.
    """
    paths = [one.path for one in batch if isinstance(one, Arrived) and one.path.exists()]
    try:
        with suspects.written_down(paths, suspects.MARKER if line is not None else suspects.BESIDE):
            file_batch(ledger, store, listener, decoder, batch, line)
    except PASSING:
        raise
    except Exception as error:  # noqa: BLE001  one strange object must not stop all filing
        if len(batch) > 1:
            for one in batch:
                file_or_set_aside(ledger, store, listener, decoder, [one], line)
        else:
            log.get("filer").error("filing_failed", stack=stack.of(error))
            _set_aside(ledger, store, batch[0])


@dataclass(slots=True)
class _Placed:
    """A batch whose files have their names; what cannot be read, and what has to come later."""

    batch: Sequence[Told]
    rest: Sequence[Told] = ()  # in a batch of its own
    filed: dict[Path, Filed] = field(default_factory=dict)
    unreadable: list[Path] = field(default_factory=list)
    beside: list[Item] = field(default_factory=list)  # for the line

    def waits(self, one: Told, line: Line | None) -> bool:
        """Whether it is the end of an association of which something is in the line, or goes there."""
        if line is None or not isinstance(one, Ended):
            return False
        return line.has_of(one.association_id) or any(
            item.association_id == one.association_id for item in self.beside
        )  # fmt: skip


def file_batch(
    ledger: Ledger,
    store: spool.Spool,
    listener: str,
    decoder: Decoder | None,
    batch: Sequence[Told],
    line: Line | None,
) -> None:
    """File a batch: link and sync first, one ledger transaction, then drop the arrivals.

    Only when that is done goes what has to be compared into the line: an image never before its association, and
    nothing twice where a transaction is tried again.
    """
    while batch:
        placed = _place(ledger, store, decoder, batch, line)
        for path in placed.filed:
            if path.suffix == slots.SUFFIX:
                fsync_file(path)  # it was cut
        for folder in {store.absolute(one.path).parent for one in placed.filed.values()}:
            fsync_folder(folder)
        with ledger.write() as conn:
            outcomes = _enter(ledger, conn, listener, placed, line)
        if line is not None:
            for item in placed.beside:
                line.put(item)
        for path in placed.filed:
            path.unlink(missing_ok=True)
        for path in placed.unreadable:
            _set_aside(ledger, store, Arrived(path))
        for outcome in outcomes:
            metrics.filed.labels(outcome).inc()
        batch = placed.rest


def _place(
    ledger: Ledger, store: spool.Spool, decoder: Decoder | None, batch: Sequence[Told], line: Line | None
) -> _Placed:
    placed = _Placed(batch)
    read: list[tuple[Arrived, landed.Landed, Sequence[Row[Any]]]] = []
    seen: set[Key] = set()
    with ledger.read() as conn:
        for place, one in enumerate(batch):
            if not isinstance(one, Arrived) or (line is not None and one.path in line) or not one.path.exists():
                continue  # a repeated batch: in the line already, or filed before the crash
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
            read.append((one, found, intake.versions(conn, header.study_uid, header.sop_uid)))
    for one, found, kept in read:
        key = found.header.study_uid, found.header.sop_uid
        filed = None if line is not None and line.holds(key) else _placed(store, one, found, kept, decoder, line)
        if filed is not None:
            placed.filed[one.path] = filed
        else:
            placed.beside.append(Item(what=one, path=one.path, key=key, association_id=_association_of(found)))
    return placed


def _enter(ledger: Ledger, conn: Connection, listener: str, placed: _Placed, line: Line | None) -> list[Outcome]:
    """Enter what a batch tells, in order: images that follow one another together."""
    outcomes: list[Outcome] = []
    images: list[Filed] = []
    later: list[Item] = []
    for one in placed.batch:
        if isinstance(one, Arrived):
            if one.path in placed.filed:
                images.append(placed.filed[one.path])
        elif placed.waits(one, line):
            later.append(Item(what=one))
        else:
            outcomes += intake.file_instances(ledger, conn, images)
            images = []
            _note(ledger, conn, listener, one)
    outcomes += intake.file_instances(ledger, conn, images)
    placed.beside += later
    return outcomes


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


def _placed(
    store: spool.Spool,
    one: Arrived,
    found: landed.Landed,
    kept: Sequence[Row[Any]],
    decoder: Decoder | None,
    line: Line | None,
) -> Filed | None:
    """None: it has to be compared in the line."""
    header, path = found.header, one.path
    sha256, dataset_sha256, size = part10.digests(path)
    known = next((row for row in kept if row.dataset_sha256 == dataset_sha256), None)
    current = next((row for row in kept if row.current), None)
    beside = None
    if current is not None and known is None:
        beside = _compared(store.absolute(current.path), path, decoder)
        if beside is None and line is not None:
            return None
        beside = beside or Comparison.OTHER
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
    return Filed(
        header=header,
        path=store.relative(stored),
        version=version,
        sha256=sha256,
        dataset_sha256=dataset_sha256,
        bytes=size,
        association_id=_association_of(found),
        source=found.origin.calling_aet if found.origin else "unknown",
        compared=None if current is None else current.version,
        same_picture=None if beside is None else beside is Comparison.SAME,
        broken=beside is Comparison.BROKEN,
        mends=beside is Comparison.MENDS,
    )


def _association_of(found: landed.Landed) -> str | None:
    return found.origin.association_id if found.origin else None


def _compared(current: Path, later: Path, decoder: Decoder | None) -> Comparison | None:
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


def quarantine(ledger: Ledger, store: spool.Spool, path: Path, deaths: int) -> None:
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
