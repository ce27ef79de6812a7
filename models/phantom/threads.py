"""Drawing runs on as many threads as its caller has, each alone: torch's own would wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_lock = Lock()
_inside: list[int] = []  # what torch was set to, once for each that is inside


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch splits no operation meanwhile, in this thread and in those that it starts; then as before.

    On a busy machine the threads of one operation wait for each other without sleeping.
    """
    with _lock:
        _inside.append(_inside[0] if _inside else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                torch.set_num_threads(before)
