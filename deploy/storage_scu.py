"""The sending end of C-STORE: an association that is opened for images, and what each was answered."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association as Connection

from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.settings import Destination
from cauda.deploy.tally import NO_ANSWER, NO_ASSOCIATION, NO_CONTEXT, NOT_ENCODED, Answer

Kind = tuple[str, str]  # SOP class and transfer syntax: what a presentation context is for

_MOST_CONTEXTS = 128  # of one association (PS3.8 9.3.2)
_CONNECT_S = 10.0
_ANSWER_S = 60.0


def kind(image: Dataset) -> Kind:
    """What an image needs to be accepted."""
    return str(image.SOPClassUID), str(image.file_meta.TransferSyntaxUID)


def accepted(connection: Connection) -> set[Kind]:
    """What the node takes over this association."""
    return {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in connection.accepted_contexts}


def associated(to: Destination, kinds: Iterable[Kind], on_sent: Callable[[int], None]) -> Connection:
    """A new association, a presentation context a kind; Unavailable says why there is none.

    ``on_sent`` is told how many bytes each PDU had, in a thread of the association's.
    """
    ae = AE(to.calling_aet or "SIMULATOR")
    ae.connection_timeout, ae.dimse_timeout, ae.acse_timeout = _CONNECT_S, _ANSWER_S, _ANSWER_S
    ae.network_timeout = None  # who is silent for minutes between two images is no less there
    for sop_class, syntax in sorted(set(kinds))[:_MOST_CONTEXTS]:
        ae.add_requested_context(sop_class, syntax)
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _no_delay), (evt.EVT_DATA_SENT, lambda event: on_sent(len(event.data)))]
    made = ae.associate(to.host or "", to.port or 0, ae_title=to.aet or "", evt_handlers=handlers)
    if made.is_established:
        return made
    answer = made.acceptor.primitive
    if answer is None:
        why = f"nobody answers at {to.host}:{to.port}"
    elif made.is_rejected:
        why = f"rejected, {str(answer.reason_str).lower()}"
    else:
        why = NO_CONTEXT
    raise Unavailable(Reason.DESTINATION_DOWN, f"{NO_ASSOCIATION}: {why}")


def stored(connection: Connection, image: Dataset) -> Answer:
    """Send an image and wait for what is said to it."""
    began = time.perf_counter()
    try:
        status = connection.send_c_store(image).get("Status")
    except ValueError:
        return Answer(None, NOT_ENCODED)
    except RuntimeError:  # the association ended before
        return Answer(None, NO_ANSWER)
    if status is None:
        return Answer(None, NO_ANSWER)
    seconds, name = time.perf_counter() - began, f"{status:04X}"
    if status == 0x0000:
        return Answer(seconds)
    return Answer(seconds, warning=name) if status >> 12 == 0xB else Answer(seconds, refusal=name)


def _no_delay(event: Any) -> None:
    """Without this, Nagle's algorithm and delayed acknowledgements cost 40 ms an image."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
