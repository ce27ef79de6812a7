"""What becomes of one object, whichever door brings its bytes: checked, durable, told to the filer, answered.

The border of the doors: whatever happens becomes a status, never a dead thread.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cauda.core import errors, headers, log, metrics, slots, spool, stack, uids
from cauda.core.domain import Reason
from cauda.core.draft import LEAST_BYTES, Draft
from cauda.core.errors import Rejected
from cauda.core.part import Part
from cauda.core.settings import Settings
from cauda.listener import accepted, head
from cauda.listener.guests import Guests
from cauda.listener.part10 import Origin, file_meta
from cauda.listener.refusals import Refusals
from cauda.listener.told import Arrived, RefusedImage, Told

_SOP_CLASSES = frozenset(accepted.SOP_CLASSES)
_MOST_TOLD = 10_000  # refusals of one association that are kept one by one


@dataclass(slots=True)
class Session:
    """What one association, or one STOW request, did."""

    origin: Origin
    began: float
    max_object_bytes: int
    door: str = "dimse"
    instances: int = 0
    refused: int = 0
    bytes: int = 0
    ended: bool = False
    established: bool = True  # False while the caller is let in and the association is being negotiated


@dataclass(frozen=True, slots=True)
class Door:
    """The doors' state: where they land objects and whom they tell."""

    settings: Settings
    spool: spool.Spool
    arrivals: Path
    tell: Callable[[Told], None]
    guests: Guests
    slots: slots.Slots | None = None
    refusals: Refusals = field(default_factory=Refusals)
    sessions: dict[int, Session] = field(default_factory=dict)  # by id() of an association or request
    lock: threading.Lock = field(default_factory=threading.Lock)
    counter: itertools.count[int] = field(default_factory=itertools.count)
    closing: threading.Event = field(default_factory=threading.Event)  # nothing new is begun
    run: str = field(default_factory=lambda: f"{time.time_ns():020d}-{secrets.token_hex(4)}")

    def name(self) -> str:
        """A landing name that sorts by arrival and owes nothing to the peer."""
        return f"{self.run}-{next(self.counter):010d}"  # next() of a count is one step of the interpreter


class Request(NamedTuple):
    """What a C-STORE-RQ announces and the presentation context that it came in, or what a file's File Meta says."""

    sop_class_uid: str
    sop_uid: str
    abstract_syntax: str
    transfer_syntax: str
    study_uid: str | None = None  # the study that it must belong to, where the sender names one


@dataclass(frozen=True, slots=True)
class Answer:
    """A status in each door's terms, and its Error Comment."""

    said: errors.Answer
    comment: str = ""

    @property
    def status(self) -> int:
        """The C-STORE status."""
        return self.said.dimse


_STORED = Answer(errors.SUCCESS)


class Store:
    """One object under way: its data set is put together in a draft, by `add` or by whoever else fills that.

    `spill` makes room there, `answer` ends it, `drop` forgets it. None of them raises. After the first thing that went
    wrong nothing is written any more.
    """

    def __init__(self, door: Door, session: Session, request: Request, draft: Draft) -> None:
        """``draft`` is begun anew."""
        self._door = door
        self._session = session
        self._request = request
        self._draft = draft
        self._front = 0  # bytes of the draft before the data set: preamble and File Meta Information
        self._meta = 0  # as many, in the file
        self._spilled = 0  # bytes of the data set
        self._part: Part | None = None  # once something was spilled
        self._error: Exception | None = None
        self._study_uid = request.study_uid  # once known
        draft.begin()
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001  the border of the doors
            self._fail(error)

    @property
    def length(self) -> int:
        """Bytes of the data set, so far."""
        return self._spilled + self._draft.length - self._front

    def add(self, content: bytes | memoryview) -> None:
        """The next bytes of the data set."""
        left = memoryview(content)
        while left:
            full = self._draft.add(left[:LEAST_BYTES])  # which has room where it is not full
            left = left[LEAST_BYTES:]
            if full:
                self.spill()

    def spill(self) -> None:
        """What is in the draft goes to disk, and the draft begins anew."""
        if self._error is None:
            try:
                self._check_size()
                self._write()
            except Exception as error:  # noqa: BLE001  the border of the doors
                self._note_study()
                self._fail(error)
        self._spilled = self.length
        self._front = 0
        self._draft.begin()

    def answer(self, began: float) -> Answer:
        """All of it has come: success only when it is durable. ``began``: time.monotonic when its last byte came."""
        if self._error is None:
            try:
                self._check_size()
                self._door.tell(Arrived(self._land()))
            except Exception as error:  # noqa: BLE001  the border of the doors
                self._note_study()
                self._fail(error)
        if self._error is not None:
            self._tell_refused(self._error)
            return refuse(self._session, self._error)
        self._session.instances += 1
        self._session.bytes += self.length
        metrics.acknowledged.inc()
        metrics.acknowledge_seconds.observe(time.monotonic() - began)
        return _STORED

    def drop(self) -> None:
        """The rest will not come: leave nothing behind."""
        part, self._part = self._part, None
        if part is not None:
            part.drop()

    def _fail(self, error: Exception) -> None:
        # a stack knows us, as we know it, and all that it held of the object: only that of a bug is looked at
        self._error = error.with_traceback(None) if isinstance(error, errors.CaudaError) else error
        self.drop()

    def _note_study(self) -> None:
        """Which study an object belongs to that is about to be refused, if its beginning is here."""
        if self._study_uid is None and self._spilled == 0:
            with suppress(Exception):  # one fault is enough: this one is not looked into
                front = self._draft.content[self._front :]
                self._study_uid = head.study_uid(front, self._request.transfer_syntax)

    def _tell_refused(self, error: Exception) -> None:
        """An MR image that its sender may send again keeps its study open (`core.gaps`)."""
        session, request = self._session, self._request
        if isinstance(error, Rejected) or request.sop_class_uid not in headers.MR_IMAGE_CLASSES:
            return
        if not uids.is_uid(request.sop_uid) or session.refused >= _MOST_TOLD:
            return
        reason = getattr(error, "reason", Reason.BUG)
        self._door.tell(RefusedImage(association_id=session.origin.association_id, sop_uid=request.sop_uid,
                                     study_uid=self._study_uid, reason=reason))  # fmt: skip

    def _begin(self) -> None:
        request = self._request
        if request.sop_class_uid != request.abstract_syntax:
            raise Rejected(Reason.SOP_CLASS_NOT_SUPPORTED, "SOP Class UID differs from the presentation context's")
        if request.sop_class_uid not in _SOP_CLASSES:  # also in a context for C-ECHO or commitment
            raise Rejected(Reason.SOP_CLASS_NOT_SUPPORTED, "SOP class is not a storage class that is known here")
        meta = file_meta(
            sop_class_uid=request.sop_class_uid,
            sop_uid=uids.checked(request.sop_uid, "SOP Instance UID"),
            transfer_syntax=request.transfer_syntax,
            origin=self._session.origin,
        )
        self._draft.begin(meta)
        self._front = self._meta = len(meta)

    def _check_size(self) -> None:
        length, limit = self.length, self._session.max_object_bytes
        if length > limit:
            raise Rejected(Reason.TOO_LARGE, f"object is larger than {_size(limit)}")

    def _write(self) -> Part:
        self._door.spool.check_room(self._draft.length)  # a slot was given its own when it was made
        if self._part is None:
            self._part = Part(self._door.arrivals, self._door.name(), sync=self._door.settings.listener.sync)
        self._part.write(self._draft.content)
        return self._part

    def _land(self) -> Path:
        """In one go into a slot, or as a file of its own where it outgrew the draft or no slot is ready."""
        if self._part is None:
            self._look(self._draft.content[self._front :])
            slot = self._door.slots.take() if self._door.slots is not None else None
            if slot is not None:
                return slots.land(slot, self._door.name(), self._draft)
            part = self._write()
        else:
            part = self._write()
            self._look(part.content()[self._meta :])
        landed = part.land()
        self._part = None
        return landed

    def _look(self, data: memoryview) -> None:
        request = self._request
        found = head.parse(
            data,
            request.transfer_syntax,
            max_bytes=self._session.max_object_bytes,
            limits=self._door.settings.limits,
        )
        if found.sop_class_uid != request.sop_class_uid:
            raise Rejected(Reason.SOP_CLASS_MISMATCH, "SOP Class UID differs from the command's")
        if found.sop_uid != request.sop_uid:
            raise Rejected(Reason.UID_MISMATCH, "SOP Instance UID differs from the command's")
        self._study_uid = found.study_uid
        if request.study_uid not in {None, found.study_uid}:
            raise Rejected(Reason.UID_MISMATCH, "Study Instance UID differs from the request's")


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count:,} bytes"


def refuse(session: Session, error: Exception) -> Answer:
    """The answer to an object that is not stored; counted and logged."""
    session.refused += 1
    answer = Answer(errors.answer_for(error), errors.error_comment(error))
    reason = getattr(error, "reason", Reason.BUG)
    metrics.refused.labels(reason).inc()
    logger = log.get(session.door).bind(association=session.origin.association_id, status=f"{answer.status:04X}")
    if reason is Reason.BUG:
        logger.error("store_failed", stack=stack.of(error))
    else:
        logger.warning("store_refused", reason=reason, message=answer.comment)
    return answer
