"""The sending end of C-STORE: an association that is opened for images, and what each was answered."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association as Connection

from cauda.archive.reactor import keep_answers
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.tolerant_pdu import decode_tolerantly
from cauda.deploy.tally import NO_ANSWER, NO_ASSOCIATION, NO_CONTEXT, NOT_ENCODED, Answer

_MOST_CONTEXTS = 128  # of one association (PS3.8 9.3.2)
_CONNECT_S = 10.0
_ANSWER_S = 60.0

_Kind = tuple[str, str]  # SOP class and transfer syntax: what a presentation context is for


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A storage SCP."""

    host: str
    port: int
    aet: str
    calling_aet: str

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"dimse://{self.aet}@{self.host}:{self.port}"

    def opened(self, images: Sequence[Dataset], on_sent: Callable[[int], None]) -> Association:
        """A new association for images; Unavailable says why there is none.

        ``on_sent`` is told how many bytes each PDU had, in a thread of the association's.
        """
        ae = AE(self.calling_aet)
        ae.connection_timeout, ae.dimse_timeout, ae.acse_timeout = _CONNECT_S, _ANSWER_S, _ANSWER_S
        ae.network_timeout = None  # who is silent for minutes between two images is no less there
        for sop_class, syntax in sorted(set(map(_kind, images)))[:_MOST_CONTEXTS]:
            ae.add_requested_context(sop_class, syntax)
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, _no_delay), (evt.EVT_CONN_OPEN, decode_tolerantly)]
        handlers.append((evt.EVT_DATA_SENT, lambda event: on_sent(len(event.data))))
        made = keep_answers(ae.associate(self.host, self.port, ae_title=self.aet, evt_handlers=handlers))
        if made.is_established:
            return Association(made)
        answer = made.acceptor.primitive
        if answer is None:
            why = f"nobody answers at {self.host}:{self.port}"
        elif made.is_rejected:
            why = f"rejected, {str(answer.reason_str).lower()}"
        else:
            why = NO_CONTEXT
        raise Unavailable(Reason.DESTINATION_DOWN, f"{NO_ASSOCIATION}: {why}")


class Association:
    """An association that was accepted."""

    def __init__(self, connection: Connection) -> None:
        """Of a connection that is established."""
        self._connection = connection
        self._accepted = {
            (str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in connection.accepted_contexts
        }

    @property
    def alive(self) -> bool:
        """Whether it can still be used, or ended."""
        return bool(self._connection.is_established)

    def serves(self, images: Sequence[Dataset]) -> bool:
        """Whether images may be sent over it later."""
        return set(map(_kind, images)) <= self._accepted

    def sent(self, images: Sequence[Dataset], stopped: Callable[[], bool]) -> Iterator[Answer]:
        """Send images, each after the answer to the one before; fewer when ``stopped``."""
        for image in images:
            if stopped():
                return
            yield self._stored(image) if _kind(image) in self._accepted else Answer(None, NO_CONTEXT)

    def release(self) -> None:
        """End it in order."""
        self._connection.release()

    def abort(self) -> None:
        """End it without a word."""
        self._connection.abort()

    def _stored(self, image: Dataset) -> Answer:
        began = time.perf_counter()
        try:
            status = self._connection.send_c_store(image).get("Status")
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


def _kind(image: Dataset) -> _Kind:
    return str(image.SOPClassUID), str(image.file_meta.TransferSyntaxUID)


def _no_delay(event: Any) -> None:
    """Without this, Nagle's algorithm and delayed acknowledgements cost 40 ms an image."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
