"""Keeps a claim's lease alive while its work goes on, and waits for a ledger that is away to write its end down."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cauda.core import log
from cauda.core.errors import Unavailable

_PATIENCE_S = 15.0  # the longest wait between two tries to write an end down


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


def written_down(end: Callable[[], bool], lost: threading.Event) -> bool:
    """Whether the end of a claim is in the ledger, for which it waits while the claim may still be ours."""
    wait_s = 1.0
    while True:
        try:
            return end()
        except Unavailable as error:
            if wait_s == 1.0:
                log.get("heartbeat").warning("ledger_awaited", reason=error.reason)
            if lost.wait(wait_s * random.uniform(0.5, 1.0)):  # noqa: S311  jitter, no secret
                return False
            wait_s = min(2 * wait_s, _PATIENCE_S)
