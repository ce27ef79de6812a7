"""Who was refused since the last tick: counted in memory, so that a flood of callers costs one row each tick."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from cauda.core import log, metrics
from cauda.core.domain import Reason
from cauda.listener.told import Refused

_MOST_KEYS = 1000  # distinct callers between two ticks; `peers.refused` keeps no more either
_UNLOGGED = frozenset({Reason.ADDRESS_NOT_ALLOWED, Reason.TOO_MANY_CONNECTIONS})  # others are logged where they happen


class Refusals:
    """Counts by title, address and reason."""

    def __init__(self) -> None:
        """Nobody was refused yet."""
        self._counts = Counter[tuple[str, str, Reason]]()
        self._lock = threading.Lock()

    def add(self, aet: str, address: str, reason: Reason) -> None:
        """Count one refusal; ``aet`` is empty where no title was read."""
        metrics.refused_peers.labels(reason).inc()
        with self._lock:
            key = (aet, address, reason)
            if key in self._counts or len(self._counts) < _MOST_KEYS:
                self._counts[key] += 1

    def flush(self, post: Callable[[Refused], None]) -> None:
        """Hand out what was counted, once."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for (aet, address, reason), count in counts.items():
            if reason in _UNLOGGED:
                log.get("dimse").warning("connections_refused", address=address, reason=reason, count=count)
            post(Refused(aet=aet, address=address, reason=reason, count=count))
