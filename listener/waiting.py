"""Waiting for something to happen instead of looking whether it has, as pynetdicom does every millisecond."""

from __future__ import annotations

import os
import queue
import threading
from typing import Any

LOOK_AGAIN_S = 0.5  # timers are looked at so often while nothing comes


class Ringing(queue.Queue[Any]):
    """A queue that says so when something was put into it."""

    def __init__(self, news: threading.Event) -> None:
        super().__init__()
        self._news = news

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As any queue's."""
        super().put(item, block, timeout)
        self._news.set()


class Checkpoint(threading.Event):
    """Where pynetdicom's association thread passes once a round: it is let through when there is news for it."""

    def __init__(self, news: threading.Event) -> None:
        super().__init__()
        self._news = news

    def set(self) -> None:
        """Open, and worth a look."""
        super().set()
        self._news.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Until there is news, or a timer may have run out, and the checkpoint is open."""
        self._news.wait(LOOK_AGAIN_S)
        self._news.clear()
        return super().wait(timeout)


class Waker:
    """An eventfd that wakes a poll; a wake after `close` is no one's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """Wake whoever waits."""
        with self._lock:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def taken(self) -> None:
        """Ready for the next."""
        os.eventfd_read(self.fd)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
