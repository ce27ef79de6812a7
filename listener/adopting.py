"""What dead listeners left behind is filed by those that live."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from cauda.core import processes, spool
from cauda.core.ledger import Ledger
from cauda.core.spool import Arrivals
from cauda.listener import suspects
from cauda.listener.filer import Filer
from cauda.listener.filing import file_or_set_aside, quarantine
from cauda.listener.told import Arrived

_ADOPT_S, _BATCH = 5.0, 16  # at a time
_PATIENCE_S = 30.0  # for suspects that have to be compared: whoever files them has other things to do


class Adopter:
    """Owns the folders of which something is in the filer's line: no other listener takes them meanwhile."""

    def __init__(self, ledger: Ledger, store: spool.Spool, own: Path, filer: Filer) -> None:
        """``own`` is the landing folder of this listener."""
        self._ledger = ledger
        self._spool = store
        self._own = own
        self._filer = filer
        self._held: dict[Path, Arrivals] = {}

    def adopt(self) -> int:
        """File what dead listeners left behind; returns how many objects that were.

        Not for longer than a few seconds: whoever calls has other things to do, and goes on with the rest later. What
        has to be compared is filed by the filer beside its own.
        """
        count, until = 0, time.monotonic() + _ADOPT_S
        for arrivals in chain(list(self._held.values()), spool.abandoned(self._spool, self._own)):
            beside = False
            try:
                spool.remove_unacknowledged(arrivals)
                left = spool.waiting(arrivals.folder)
                count += self._file_left(arrivals.folder, left, until)
                beside = any(path in self._filer.line for path in left)
                if any(path.exists() for path in left):
                    if time.monotonic() >= until:
                        return count
                    continue  # what is left is compared
                with self._ledger.write() as conn:
                    processes.adopted(conn, arrivals.folder.name)
                spool.remove_if_empty(arrivals)
            finally:
                if beside:
                    self._held[arrivals.folder] = arrivals
                else:
                    self._held.pop(arrivals.folder, None)
                    arrivals.close()
        return count

    def close(self) -> None:
        """Give the folders up; the filer has ended."""
        for arrivals in self._held.values():
            arrivals.close()
        self._held.clear()

    def _file_left(self, folder: Path, left: Sequence[Path], until: float) -> int:
        """File what a dead listener left: first what it died with, one by one, until it is known which is deadly.

        Begins nothing after ``until``, but once; returns how many were filed.
        """
        line = self._filer.line
        deaths: dict[str, int] = {}
        if not any(path in line for path in left):  # else we are filing them: what is written there is of us
            deaths = suspects.after_death(folder)
            (folder / suspects.BESIDE).unlink(missing_ok=True)
        under_suspicion = [path for path in left if path.name in deaths]
        patience = time.monotonic() + _PATIENCE_S
        for path in under_suspicion:  # all of them, for what is not done with is forgotten
            suspects.write(folder, {path.name: deaths[path.name]})
            if deaths[path.name] < suspects.MAX_DEATHS:
                decoder = self._filer.decoder if time.monotonic() < patience else None
                file_or_set_aside(self._ledger, self._spool, "", decoder, [Arrived(path)])
            else:
                quarantine(self._ledger, self._spool, path, deaths[path.name])
                (folder / suspects.MARKER).unlink(missing_ok=True)
        others = [path for path in left if path.name not in deaths and path not in line]
        done = 0
        while done < len(others) and (done == 0 or time.monotonic() < until):
            batch = [Arrived(path) for path in others[done : done + _BATCH]]
            file_or_set_aside(self._ledger, self._spool, "", None, batch, line)
            done += len(batch)
        return len(under_suspicion) + done
