"""What pynetdicom's own data path lacks: bounds on what a peer may claim, and on how slowly it may come.

It reads as many bytes as a PDU's header says, however long that takes, and gathers a message without end in memory.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from cauda.core.settings import Limits
from cauda.listener import upper_layer
from cauda.listener.pdu import MAX_OTHER_BYTES, P_DATA_TF, SLOWEST_BYTES_S


def request_handler(limits: Limits, over: Callable[[Association], None]) -> type[RequestHandler]:
    """The class that ``make_server`` starts for each connection; ``over`` as in `upper_layer.guarded`."""

    class BoundedRequestHandler(RequestHandler):
        def _create_association(self) -> Association:
            association = super()._create_association()
            upper_layer.guarded(association, over)
            association.dimse = upper_layer.Messages(association)
            association.dul = layer = UpperLayer(association)
            layer.socket = BoundedSocket(association, self.request, limits)  # its first event goes to the layer's queue
            association.acse_timeout = association.acse_timeout  # the setters hand them to the new layer's timers
            association.network_timeout = association.network_timeout
            return association

    return BoundedRequestHandler


class UpperLayer(upper_layer.TolerantLayer):
    """pynetdicom's, ended in order when something in it raises: some PDUs do that."""

    def __init__(self, association: Association) -> None:
        """As pynetdicom's."""
        super().__init__(association)
        self.state_machine = upper_layer.States(self)

    def run_reactor(self) -> None:
        """As pynetdicom's."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001  the DIMSE border
            upper_layer.failed(self.assoc, error)


class PlainServer(ThreadedAssociationServer):
    """The port without TLS: of connections, most of them silent ones maybe, it holds so many and no more."""

    request_queue_size = 128  # with the default of 5 a burst of probes costs the next caller a second

    def __init__(self, *args: Any, most: int, **kwargs: Any) -> None:
        """``most`` connections in all; half as many from one address."""
        super().__init__(*args, **kwargs)
        self._most = most

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether one more is let in; who is not finds the connection closed."""
        addresses = [one.requestor.address for one in self.active_associations]
        return len(addresses) < self._most and addresses.count(client_address[0]) < self._most // 2


class BoundedSocket(AssociationSocket):
    """A socket that gives up a peer that claims too much, sends too much or comes too slowly."""

    def __init__(self, association: Association, client: socket.socket, limits: Limits) -> None:
        super().__init__(association, client_socket=client)
        self._limits = limits
        self._began = 0.0  # of the message under way, if there is one
        self._bytes = 0
        self._kind: int | None = None  # of the PDU whose header was read

    def message_ended(self) -> None:
        """What comes next is another message."""
        self._began, self._bytes = 0.0, 0

    def recv(self, nr_bytes: int) -> bytearray:
        """As pynetdicom's; OSError, which ends the connection, when a bound is passed."""
        limits = self._limits
        most = self.assoc.acceptor.maximum_length or 0 if self._kind == P_DATA_TF else MAX_OTHER_BYTES
        if nr_bytes > most or self.socket is None:
            raise OSError("PDU longer than any honest one, or than what was negotiated")
        if self._began == 0.0:
            self._began = time.monotonic()
        received = bytearray()
        while len(received) < nr_bytes:
            left = self._began + limits.dimse_timeout_s + self._bytes / SLOWEST_BYTES_S - time.monotonic()
            if left <= 0:
                raise TimeoutError("a message came too slowly")
            self.socket.settimeout(min(left, limits.dimse_timeout_s))
            part = self.socket.recv(min(nr_bytes - len(received), 1 << 16))
            if not part:
                break
            received += part
            self._bytes += len(part)
            if self._bytes > 2 * limits.max_object_bytes:
                raise OSError("an object without end")
        self.socket.settimeout(limits.network_timeout_s)
        if self._kind is None and received:  # pynetdicom reads a header, then the rest
            self._kind = received[0]
        else:
            if self._kind != P_DATA_TF:
                self.message_ended()
            self._kind = None
        return received


def message_ended(event: Any) -> None:
    """Handler: a DIMSE message has come whole."""
    if isinstance(event.assoc.dul.socket, BoundedSocket):
        event.assoc.dul.socket.message_ended()
