"""A word to the kernel to begin writing, for which nobody waits: sync_file_range(2), which Python has not."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def begin(fd: int, start: int, length: int) -> None:
    """Write what is dirty of these bytes of a file. Nothing is durable by it, and where it fails nothing is lost."""
    _sync_file_range()(fd, start, length, _WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int]:
    call = ctypes.CDLL(None).sync_file_range
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call
