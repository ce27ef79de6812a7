"""The worker's tick: says that it is there, rings for due work, and notices when nobody hears the ringing.

A process that forks must hold no database connection and no lock of the database library at that moment (SQLite's
and libpq's own rule). So the ledger is opened anew in each tick, and a fork waits until the tick is over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cauda.core import log, processes
from cauda.core.doorbell import Doorbell
from cauda.core.errors import Unavailable
from cauda.core.ledger import Ledger

SEEN_EVERY_S = 10.0


@dataclass(kw_only=True)
class Ear:
    """Whether the consumer still hears: due work, a bell that rang, a worker at leisure, and no task begun since."""

    patience_s: float
    begun: int = 0
    since: float | None = None

    def deaf(self, now: float, *, rang: bool, busy: bool, begun: int) -> bool:
        """Look once; ``begun`` counts the tasks begun so far."""
        if not rang or busy or begun != self.begun:
            self.begun, self.since = begun, None
        elif self.since is None:
            self.since = now
        return self.since is not None and now - self.since > self.patience_s


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the tick asks of the worker that it runs in."""

    slots: Callable[[], int]  # how much it can do at once; 0 while it cannot yet
    busy: Callable[[], bool]
    begun: Callable[[], int]
    deaf: Callable[[], None]  # called when nobody hears


@dataclass(kw_only=True)
class Tick:
    """One process's tick; `run` is a thread's target."""

    ledger: Ledger
    bell: Doorbell
    task: str
    role: str
    token: str
    known: tuple[str, ...]
    every_s: float
    work: Work
    ear: Ear
    clock: Callable[[], float]
    stop: threading.Event = field(default_factory=threading.Event)
    _quiet: threading.Lock = field(default_factory=threading.Lock)
    _away: bool = False
    _seen: tuple[float, int] | None = None  # when, and with how many slots

    def guard_forks(self) -> None:
        """Let every fork of this process wait for the end of a tick."""
        os.register_at_fork(
            before=self._quiet.acquire, after_in_parent=self._quiet.release, after_in_child=self._quiet.release
        )

    def run(self) -> None:
        """Tick until `stop` is set."""
        while not self.stop.wait(self.every_s):
            with self._quiet:
                try:
                    self._look()
                    self._away = False
                except Unavailable as error:
                    self.ear.since = None
                    if not self._away:
                        log.get("tick").warning("ledger_away", reason=error.reason)
                    self._away = True
                finally:
                    self.ledger.engine.dispose()

    def _look(self) -> None:
        now, slots = self.clock(), self.work.slots()
        if self._seen is None or now - self._seen[0] >= SEEN_EVERY_S or self._seen[1] != slots:
            with self.ledger.write() as conn:
                processes.seen(self.ledger, conn, token=self.token, role=self.role, slots=slots)
                processes.forget_dead(self.ledger, conn)
            self._seen = (now, slots)
        heard = True

        def ring(task: str) -> None:
            nonlocal heard
            heard = self.bell(task) is not False and heard

        rings = processes.ring_due(self.ledger, ring, self.known)
        rang = rings[self.task] > 0 and heard and slots > 0
        if self.ear.deaf(now, rang=rang, busy=self.work.busy(), begun=self.work.begun()):
            self.work.deaf()

    def goodbye(self) -> None:
        """End the tick and leave the list of processes."""
        self.stop.set()
        with self._quiet:
            try:
                with self.ledger.write() as conn:
                    processes.gone(conn, self.token)
            except Unavailable:
                log.get("tick").warning("no_goodbye")
            finally:
                self.ledger.engine.dispose()
