"""The process that grades: forked from the worker, with the trained parts loaded once, after the fork."""

from __future__ import annotations

import mmap
import os
import re
import resource
from pathlib import Path

from cauda.core import doorbell, ledger, liveness, log, spool, stack
from cauda.core.errors import Misconfigured
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.pipeline.parts import Parts
from cauda.worker.post import Post

_NICENESS = 10  # a sender that waits for its answer goes before a grade
_LEAST_BYTES = 512 << 20  # beside what was loaded, for any study at all
EXIT_BUG = 1
EXIT_MISCONFIGURED = 2


class Readiness:
    """What the child has come to, seen by its parent: shared memory, since it begins before the fork."""

    _STARTING, _READY = 0, 255

    def __init__(self) -> None:
        """Starting."""
        self._cell = mmap.mmap(-1, 1)

    def starting(self) -> None:
        """Said by a child first of all; it may replace one that was killed."""
        self._cell[0] = self._STARTING

    def ready(self) -> None:
        """Said by the child when it can grade."""
        self._cell[0] = self._READY

    def broken(self, exit_code: int) -> None:
        """Said by the child when it never will: the worker is to end with this code."""
        self._cell[0] = exit_code

    @property
    def is_ready(self) -> bool:
        """Whether the child can grade."""
        return self._cell[0] == self._READY

    @property
    def exit_code(self) -> int | None:
        """How the worker is to end, when the child cannot grade."""
        value = self._cell[0]
        return None if value in {self._STARTING, self._READY} else value


def settle(settings: Settings, fingerprint: Fingerprint, bell: doorbell.Doorbell, readiness: Readiness,
           parent: int) -> Post | None:  # fmt: skip
    """Make a fresh child ready to grade; None, said to the parent, when it cannot be."""
    if os.getppid() != parent:  # it died before the kernel was asked to tie us to it
        os._exit(EXIT_BUG)
    readiness.starting()
    os.nice(_NICENESS)
    try:
        post = Post(
            ledger=ledger.open_ledger(settings.ledger),
            spool=spool.Spool(settings.data),
            settings=settings,
            fingerprint=fingerprint,
            token=liveness.token("grade"),
            bell=bell,
            parts=_parts(settings, fingerprint),
        )
    except Misconfigured as error:
        log.get("grade").critical("bundle_refused", reason=error.reason, text=error.message)
        readiness.broken(EXIT_MISCONFIGURED)
        return None
    except Exception as error:  # noqa: BLE001  Celery would swallow it, and the child would wait for ever
        log.get("grade").critical("child_failed", stack=stack.of(error))
        readiness.broken(EXIT_BUG)
        return None
    try:
        limit_memory(settings.grading.memory_bytes)
    except Misconfigured as error:
        log.get("grade").critical("memory_limit_too_low", reason=error.reason, text=error.message)
        readiness.broken(EXIT_MISCONFIGURED)
        return None
    readiness.ready()
    return post


def limit_memory(most_bytes: int) -> None:
    """Let this process hold no more than so much data: beyond it an allocation fails, and the study with it.

    Address space is no measure here: a GPU's library reserves far more than it uses. Raises Misconfigured where what
    was loaded is more already.
    """
    held = int(re.findall(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) << 10
    if held + _LEAST_BYTES > most_bytes:
        least = (held + _LEAST_BYTES) >> 20
        raise Misconfigured(
            f"grading.memory_bytes: the bundle alone takes {held >> 20} MiB; allow {least} MiB at least"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: numpy says so by its own error, PyTorch in words."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


def _parts(settings: Settings, fingerprint: Fingerprint) -> Parts | None:
    if settings.grading.bundle is None:
        return None
    from cauda.models.bundle import load_bundle  # noqa: PLC0415  torch stays out of every process but this one

    return load_bundle(settings.grading.bundle, fingerprint.bundle_digest)
