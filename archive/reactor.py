"""Works around pynetdicom's race between the answers that an SCU waits for and its own reactor thread.

A request method pauses the reactor first, which would else take the answer for a request of the peer's. But the reactor
reports its pause until a moment after it has gone on: a request sent in that moment loses its answer, and waits for a
DIMSE timeout.
"""

from __future__ import annotations

from typing import Any


def keep_answers(association: Any) -> Any:
    """The association, whose reactor takes no message while a request of ours waits for its answer.

    Between the reactor's look and its taking a few instructions are left in which a request may begin.
    """
    receive = association.dimse.get_msg

    def receive_unless_awaited(block: bool = False) -> Any:
        answer_awaited = not association._reactor_checkpoint.is_set()  # noqa: SLF001  cleared while a request waits
        return (None, None) if answer_awaited and not block else receive(block=block)

    association.dimse.get_msg = receive_unless_awaited
    return association
