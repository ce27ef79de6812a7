"""SIGTERM and SIGINT as an event that threads can wait for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STOP = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_event() -> Iterator[threading.Event]:
    """An event set by the first SIGTERM or SIGINT; a second one ends the process at once. Main thread only.

    Setting an event inside a handler can deadlock with its own `wait`; so the interpreter writes the signal's number
    to a pipe, and a thread that reads it sets the event.
    """
    stop = threading.Event()
    heard: list[int] = []
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def watch() -> None:
        if os.read(readable, 1):
            stop.set()

    def handle(number: int, _frame: object) -> None:
        # not stop.is_set(): the thread may have been quicker than this handler
        if heard:
            os._exit(128 + number)
        heard.append(number)

    before = {number: signal.signal(number, handle) for number in _STOP}
    wakeup = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writable)  # the thread reads the end of the pipe, and ends
        thread.join(1)
        os.close(readable)
