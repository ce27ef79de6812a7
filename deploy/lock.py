"""One `cauda up` a data folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cauda.core.errors import Misconfigured

PATIENCE_S = 3.0  # a killed predecessor may still be on its way out


@contextmanager
def alone(data: Path, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the data folder; Misconfigured when another `cauda up` does. The kernel gives it up with the process."""
    fd = os.open(data / ".up", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        deadline = time.monotonic() + patience_s
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
