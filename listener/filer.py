"""The filer: one thread that has landed objects filed, batch by batch (`filing`), until it is done.

Everything it is told goes through one queue in order, so a release is never seen before its images. Only what has to
be decoded first, to be compared with another version, goes on in a thread of its own (`beside`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from cauda.core import log, metrics, spool
from cauda.core.ledger import Ledger
from cauda.core.pixels import Bounds, Decoder
from cauda.core.processes import COMPARING, Backlog
from cauda.core.steady_clock import boot_seconds
from cauda.listener.beside import Line
from cauda.listener.filing import PASSING, file_or_set_aside
from cauda.listener.told import BUSY, Arrived, Told

BATCH = 64
_COMPARING = Bounds(total_s=20)  # of each picture; `beside` bounds what many of them take together
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
# Filing costs more processor time than receiving, and both want the interpreter: a burst is received first and filed in
# the pauses.
_QUIET_S, _PATIENCE_S = 0.05, 2.0


class Filer:
    """Owns the queue and its thread."""

    def __init__(self, ledger: Ledger, store: spool.Spool, listener: str, arrivals: str = "") -> None:
        """``listener`` is the process token that its associations are entered under, ``arrivals`` its folder's name."""
        self.decoder = Decoder(_COMPARING)
        self.line = Line()
        self._ledger = ledger
        self._spool = store
        self._listener = listener
        self._arrivals = arrivals
        self._queue: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._unfiled: dict[Path, float] = {}  # boot_seconds of what was acknowledged and is not filed, oldest first
        self._unfiled_lock = threading.Lock()
        self._busy_at = 0.0
        self._behind = False  # the queue was not emptied since we last gave way
        self._thread = threading.Thread(target=self._run, name="filer")
        self._beside = threading.Thread(target=self._run_beside, name="filer-beside")
        self._log = log.get("filer")
        self._waits_for: dict[str, str] = {}  # why filing waits, by thread

    def tell(self, what: Told) -> None:
        """Queue an event; never blocks."""
        if isinstance(what, Arrived):
            with self._unfiled_lock:
                self._unfiled[what.path] = boot_seconds()  # before it is acknowledged
            metrics.waiting.inc()
        if isinstance(what, BUSY):
            self._busy_at = time.monotonic()
        self._queue.put(what)

    def backlog(self) -> Backlog:
        """What was acknowledged and is not filed yet: for what is compared waits the study that it is of."""
        with self._unfiled_lock:
            unfiled = list(self._unfiled.items())
        studies, now = self.line.studies(), boot_seconds()
        since = min((at for path, at in unfiled if path not in studies), default=now)
        compared: dict[str, float] = {}
        for path, at in unfiled:
            if path in studies:
                compared[studies[path]] = max(now - at, compared.get(studies[path], 0.0))
        count = sum(path not in studies for path, _ in unfiled)
        why = next(iter(list(self._waits_for.values())), None if count else COMPARING)
        return Backlog(arrivals=self._arrivals, count=count, age_s=now - since, compared=compared,
                       compared_count=len(unfiled) - count, why=why if unfiled else None)  # fmt: skip

    def start(self) -> None:
        """Begin filing."""
        self._thread.start()
        self._beside.start()

    def finish(self) -> None:
        """File what was told so far, then end.

        With the ledger away the files stay for the next start, as do those that have yet to be compared.
        """
        self._stop.set()
        self._queue.put(None)
        self._thread.join()
        self.decoder.cancel()
        self.line.close()
        self._beside.join()
        self.decoder.close()

    def _run_beside(self) -> None:
        while (item := self.line.take()) is not None and not self._stop.is_set():
            before_s = self.decoder.spent_s
            decoder = None if self.line.is_late(item) else self.decoder
            if decoder is None and item.path is not None:
                self._log.warning("not_compared", message="too many images take too long to decode")
            if not self._insist([item.what], decoder):
                return
            self._filed([item.path] if item.path is not None else [])
            self.line.done(item, self.decoder.spent_s - before_s)

    def _run(self) -> None:
        while True:
            batch, last = self._take()
            if not self._insist(batch, None, self.line):
                return
            self._filed(one.path for one in batch if isinstance(one, Arrived) and one.path not in self.line)
            if last:
                return

    def _take(self) -> tuple[list[Told], bool]:
        batch: list[Told] = []
        first = self._queue.get()
        if isinstance(first, BUSY) and not self._behind:
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

    def _insist(self, batch: Sequence[Told], decoder: Decoder | None, line: Line | None = None) -> bool:
        """Try until it is done; False when told to stop while the world is away."""
        wait_s, thread = _FIRST_WAIT_S, threading.current_thread().name
        while True:
            try:
                file_or_set_aside(self._ledger, self._spool, self._listener, decoder, batch, line)
            except PASSING as error:
                why = str(getattr(error, "reason", type(error).__name__))
                if thread not in self._waits_for:
                    self._log.warning("filing_waits", reason=why)
                self._waits_for[thread] = why
                if self._stop.wait(wait_s):
                    return False
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            else:
                if self._waits_for.pop(thread, None) is not None:
                    self._log.info("filing_goes_on")
                return True

    def _filed(self, paths: Iterable[Path]) -> None:
        with self._unfiled_lock:
            count = sum(self._unfiled.pop(path, None) is not None for path in paths)
        metrics.waiting.dec(count)
