"""Keeps a claim's lease alive while its work goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cauda.core import log
from cauda.core.errors import Unavailable


@contextmanager
def kept(renew: Callable[[], bool], every_s: float) -> Iterator[threading.Event]:
    """Call ``renew`` again and again until the block ends; the event is set once it says that the claim is gone.

    A ledger that is away is no loss: whoever comes first when it is back decides.
    """
    lost, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=_beat, args=(renew, every_s, lost, done), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()


def _beat(renew: Callable[[], bool], every_s: float, lost: threading.Event, done: threading.Event) -> None:
    away = False
    while not done.wait(every_s):
        try:
            if not renew():
                lost.set()
                return
            away = False
        except Unavailable as error:
            if not away:
                log.get("heartbeat").warning("lease_not_renewed", reason=error.reason)
            away = True
