"""`cauda up`: the listener in this process, the workers as children, on a data folder that is ours alone."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cauda.core.errors import Misconfigured
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.core.spool import Spool
from cauda.deploy.options import Options
from cauda.deploy.supervisor import Beside, supervise, workers
from cauda.listener import serve
from cauda.listener.serve import Ports

_LOCK_PATIENCE_S = 3.0  # a killed predecessor may still be on its way out


def run(
    options: Options,
    settings: Settings,
    fingerprint: Fingerprint,
    stop: threading.Event,
    *,
    on_ready: Callable[[Ports], None],
) -> None:
    """Listener and workers until ``stop``; returns when both have ended."""
    Spool(settings.data).prepare()
    with alone(settings.data):
        ready = threading.Event()

        def say(ports: Ports) -> None:
            ready.set()
            on_ready(ports)

        listener = Beside(lambda: serve.run(settings, fingerprint, stop, on_ready=say), stop, "listener")
        try:
            # The listener brings the ledger to this version; and a taken port is said before anything else starts.
            while not ready.is_set() and not stop.is_set():
                ready.wait(0.1)
            if not stop.is_set():
                supervise(workers(options, settings), stop, grace_s=settings.limits.drain_s)
        finally:
            stop.set()
            listener.result()


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Hold the data folder; Misconfigured when another `cauda up` does. The kernel gives it up with the process."""
    fd = os.open(data / ".up", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Misconfigured(f"data: another `cauda up` runs on {data}; stop it, or give --data") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(fd)
