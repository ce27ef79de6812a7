"""The log as a running Cauda writes it, into a stream of the test's; afterwards all is as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

from cauda.core import log

_SPOKEN_TO = ("pynetdicom", "pydicom", "celery", "kombu", "uvicorn", "alembic", "highdicom", "httpx")


@contextmanager
def logged(stream: TextIO, level: str = "info") -> Iterator[None]:
    """One JSON object a line. Without it pytest keeps every record, with whatever its traceback holds, in memory."""
    root = logging.getLogger()
    handlers, root_level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in _SPOKEN_TO}
    log.configure(level=level, form="json", stream=stream)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(root_level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
        structlog.reset_defaults()
