"""Asking over an association of ours, so that the answer reaches who asked.

Whoever asks has pynetdicom's reactor pause first, which else takes what comes for a request. But it says that it pauses
until a moment after it has gone on: who asks in that moment loses the answer, and waits for a DIMSE timeout.
"""

from __future__ import annotations

from typing import Any


def asking(association: Any) -> Any:
    """An association that was asked for, made fit to ask over: while somebody asks its reactor takes nothing.

    Between its look and its taking a few instructions are left in which somebody may begin to ask.
    """
    receive = association.dimse.get_msg

    def for_who_waits(block: bool = False) -> Any:
        somebody_asks = not association._reactor_checkpoint.is_set()  # noqa: SLF001  cleared from the question on
        return (None, None) if somebody_asks and not block else receive(block=block)

    association.dimse.get_msg = for_who_waits
    return association
