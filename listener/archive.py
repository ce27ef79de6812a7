"""Asks the archive what the studies that are being received should hold, beside everything else the listener does.

One thread, whose answers lie in the ledger: an archive that is away, slow or silent costs nobody's time but its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pynetdicom.association import Association

from cauda.archive.find import ListedSeries, echoes_any_key, series_of, studies_with
from cauda.archive.matches import text
from cauda.archive.protocol import Archive, open_archive
from cauda.core import doubles, headers, listings, log, stack
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.ledger import Ledger
from cauda.core.settings import Settings

_LOOK_EVERY_S = 0.5
_AT_ONCE = 20  # questions on one association

Question = Callable[[str], list[ListedSeries]]


class Asker:
    """Owns the thread. Without a source configured it does nothing."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        """Nothing is opened here."""
        self._ledger = ledger
        self._settings = settings
        self._stop = threading.Event()
        self._association: Association | None = None
        self._away = False
        self._asked_at: dict[str, float] = {}  # studies that share images, and when the archive was last asked
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._log = log.get("archive")

    def start(self) -> None:
        """Begin asking."""
        if self._settings.source.url is not None:
            self._thread.start()

    def finish(self) -> None:
        """Ask no more; a question that hangs is broken off."""
        self._stop.set()
        if self._thread.ident is None:
            return
        if (association := self._association) is not None and association.is_established:
            association.dimse.msg_queue.put((None, None))  # "no answer", to the thread that waits for one
        self._thread.join(timeout=self._settings.source.timeout_s + 1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.ask_due()
                self.decide_due(time.monotonic())
            except Unavailable as error:  # the ledger's; what the archive does is in the ledger
                self._log.debug("asking_waits", reason=error.reason)
            except Exception as error:  # noqa: BLE001  a peer's strange answer must not end all asking
                self._log.error("asking_failed", stack=stack.of(error))
            self._stop.wait(_LOOK_EVERY_S)

    def ask_due(self) -> int:
        """Ask about every study whose time has come; returns how many were answered."""
        source = self._settings.source
        due = listings.take_due(self._ledger, every_s=source.ask_every_s, most=_AT_ONCE)
        if not due:
            return 0
        count = 0
        try:
            with self._open() as question:
                for uid in due:
                    listings.answered(self._ledger, uid, self._counts(uid, question(uid)))
                    count += 1
        except (Unavailable, Rejected) as error:
            if error.reason is Reason.LEDGER_DOWN:
                raise
            self._say(error.reason)
            for uid in due[count:]:
                listings.unanswered(self._ledger, uid, error.message)
        else:
            self._say(None)
        return count

    def decide_due(self, now_s: float) -> int:
        """Ask whose the images are that two studies have; returns how many studies the answer decided."""
        source = self._settings.source
        with self._ledger.read() as conn:
            waiting = doubles.undecided(conn)
        self._asked_at = {uid: at for uid, at in self._asked_at.items() if uid in waiting}
        due = [uid for uid in waiting if now_s - self._asked_at.get(uid, -math.inf) >= source.ask_every_s]
        due = sorted(due, key=lambda uid: self._asked_at.get(uid, -math.inf))[:_AT_ONCE]
        if not due:
            return 0
        self._asked_at |= dict.fromkeys(due, now_s)
        try:
            with self._opened() as archive:
                return sum(self._decide(archive, uid) for uid in due)
        except (Unavailable, Rejected) as error:
            if error.reason is Reason.LEDGER_DOWN:
                raise
            self._say(error.reason)
            return 0

    def _decide(self, archive: Archive, study_uid: str) -> bool:
        with self._ledger.read() as conn:
            image = doubles.shared_image(conn, study_uid)
        answer = studies_with(archive, image) if image is not None else None
        holders = {text(match, "StudyInstanceUID") for match in answer.matches} if answer is not None else set()
        if holders != {study_uid} or echoes_any_key(archive, "SOPInstanceUID"):
            return False
        with self._ledger.write() as conn:
            moved = doubles.decided(self._ledger, conn, study_uid, holders)
        if moved:
            self._log.info("images_moved", study=study_uid)
        return moved

    def _say(self, reason: Reason | None) -> None:
        """Once when the archive goes, once when it comes back."""
        if reason is not None and not self._away:
            self._log.warning("archive_does_not_answer", reason=reason)
        if reason is None and self._away:
            self._log.info("archive_answers")
        self._away = reason is not None

    def _counts(self, study_uid: str, found: list[ListedSeries]) -> dict[str, int | None]:
        """The MR series among them; of a series without a modality, those that came here as MR."""
        with self._ledger.read() as conn:
            known, made = listings.series_here(conn, study_uid)
        return {
            one.series_uid: one.images
            for one in found
            if (one.modality == "MR" or (not one.modality and one.series_uid in known))
            and one.series_uid not in made
            and not headers.never_input(one.description)
        }

    @contextmanager
    def _open(self) -> Iterator[Question]:
        with self._opened() as archive:
            yield lambda uid: series_of(archive, uid)

    @contextmanager
    def _opened(self) -> Iterator[Archive]:
        source = self._settings.source
        with open_archive(
            source.archive(), self._settings.node.aet, (), timeout_s=source.timeout_s, on_open=self._remember
        ) as archive:
            try:
                yield archive
            finally:
                self._association = None

    def _remember(self, association: Association) -> None:
        self._association = association
