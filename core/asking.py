"""Asking over an association of ours, so that the answer reaches who asked.

Whoever asks has pynetdicom's reactor pause first, which else takes what comes for a request. But it says that it pauses
until a moment after it has gone on: who asks in that moment loses the answer, and waits for a DIMSE timeout.
"""

from __future__ import annotations

import threading
from typing import Any

_PASSES_WITHIN_S = 1.0  # the reactor comes round each millisecond


class _Pause(threading.Event):
    """Where the reactor of an association waits while somebody asks, and says that it goes on before it does."""

    def __init__(self, association: Any) -> None:
        super().__init__()
        self.passed = threading.Event()
        self._association = association
        self._gate = threading.Lock()
        self.set()

    def clear(self) -> None:
        """Have the reactor pause: from here on it does, or has said that it does not yet."""
        with self._gate:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Pause until nobody asks."""
        while True:
            if not super().wait(timeout):
                return False
            with self._gate:
                if self.is_set():
                    self._association._is_paused = False  # noqa: SLF001  pynetdicom's own next step, too late there
                    self.passed.set()
                    return True


def asking(association: Any) -> Any:
    """An association that was asked for, made fit to ask over; one that was not established is as it was."""
    if association.is_established:
        pause = _Pause(association)
        association._reactor_checkpoint = pause  # noqa: SLF001  nobody asks yet
        pause.passed.wait(_PASSES_WITHIN_S)
    return association
