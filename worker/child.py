"""The process that grades: forked from the worker, with the trained parts loaded once, after the fork."""

from __future__ import annotations

import mmap
import os

from cauda.core import doorbell, ledger, liveness, log, spool, stack
from cauda.core.errors import Misconfigured
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.pipeline.parts import Parts
from cauda.worker.post import Post

_NICENESS = 10  # a sender that waits for its answer goes before a grade
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
    readiness.ready()
    return post


def _parts(settings: Settings, fingerprint: Fingerprint) -> Parts | None:
    if settings.grading.bundle is None:
        return None
    from cauda.models.bundle import load_bundle  # noqa: PLC0415  torch stays out of every process but this one

    return load_bundle(settings.grading.bundle, fingerprint.bundle_digest)
