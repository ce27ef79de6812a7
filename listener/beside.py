"""A line of its own for images that have to be compared with another version: nothing else waits for that.

What must not overtake them goes behind them: later versions of the same image, and the end of their association.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cauda.core.steady_clock import boot_seconds
from cauda.listener.told import Told

# Pixels that take long to decode are compared with patience; where there are many of them, what has waited for so long
# is not compared any more: it counts as another picture, and a person decides.
_LONG_S, _PATIENCE_S, _WAIT_S = 1.0, 30.0, 45.0

Key = tuple[str, str]  # Study and SOP Instance UID


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An image for the line, or what follows it."""

    what: Told
    path: Path | None = None
    key: Key | None = None
    association_id: str | None = None
    since_s: float = field(default_factory=boot_seconds)


class Line:
    """Owns the line; put into by whoever files, taken from by one thread."""

    def __init__(self) -> None:
        """Empty."""
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._studies: dict[Path, str] = {}  # of the images
        self._keys: Counter[Key] = Counter()
        self._associations: Counter[str] = Counter()
        self._long_s = 0.0  # what took long, since the line was empty, less what did not

    def __contains__(self, path: Path) -> bool:
        """Whether a landed file is in the line."""
        with self._lock:
            return path in self._studies

    def holds(self, key: Key) -> bool:
        """Whether a version of this image is in the line."""
        with self._lock:
            return key in self._keys

    def has_of(self, association_id: str) -> bool:
        """Whether an image of this association is in the line."""
        with self._lock:
            return association_id in self._associations

    def studies(self) -> dict[Path, str]:
        """The Study UID of each image in the line."""
        with self._lock:
            return dict(self._studies)

    def put(self, item: Item) -> None:
        """Something at the end of the line."""
        with self._lock:
            if item.path is not None and item.key is not None:
                self._studies[item.path] = item.key[0]
                self._keys[item.key] += 1
                if item.association_id is not None:
                    self._associations[item.association_id] += 1
        self._queue.put(item)

    def take(self) -> Item | None:
        """The first; waits for one. None once `close` was called and the line is empty."""
        return self._queue.get()

    def close(self) -> None:
        """Nothing more is put in."""
        self._queue.put(None)

    def is_late(self, item: Item) -> bool:
        """Whether it has waited too long, for others that take long."""
        return self._long_s > _PATIENCE_S and boot_seconds() - item.since_s > _WAIT_S

    def done(self, item: Item, took_s: float) -> None:
        """It has left the line; comparing it took so long."""
        with self._lock:
            if item.path is not None:
                del self._studies[item.path]
                self._keys -= Counter(filter(None, [item.key]))  # which forgets what there is none of
                self._associations -= Counter(filter(None, [item.association_id]))
            empty = not self._studies
        self._long_s = 0.0 if empty else max(self._long_s + (took_s if took_s > _LONG_S else -took_s), 0.0)
