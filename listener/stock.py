"""What pynetdicom's own data path lacks: bounds on what a peer may claim, and on how slowly it may come.

It reads as many bytes as a PDU's header says, however long that takes, and gathers a message without end in memory.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from cauda.core.domain import Reason
from cauda.core.settings import Limits
from cauda.listener import upper_layer
from cauda.listener.admission import AdmittingServer
from cauda.listener.pdu import KNOWN, MAX_OTHER_BYTES, P_DATA_TF, SLOWEST_BYTES_S, reason_of
from cauda.listener.refusals import Refusals
from cauda.listener.wire import is_readable


def request_handler(
    limits: Limits, refusals: Refusals, over: Callable[[Association], None]
) -> type[upper_layer.AdmittedRequestHandler]:
    """The class that ``make_server`` starts for each connection; ``over`` as in `upper_layer.guarded`."""

    class BoundedRequestHandler(upper_layer.AdmittedRequestHandler):
        def _create_association(self) -> Association:
            association = super()._create_association()
            association.dimse = upper_layer.Messages(association)
            association.dul = layer = UpperLayer(association)
            layer.socket = BoundedSocket(association, self.request, limits)  # its first event goes to the layer's queue
            self.admitted(association, refusals, over)
            association.network_timeout = association.network_timeout  # the setter hands it to the new layer's timer
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

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        try:
            return super()._decode_pdu(bytestream)
        except Exception:  # pynetdicom aborts the association over whatever is raised
            self.refuse(Reason.PDU_UNREADABLE, "PDU cannot be decoded")
            raise


class PlainServer(AdmittingServer):
    """The port without TLS."""


class _Beyond(OSError):
    """A peer passed a bound; pynetdicom takes it for the connection's end."""


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

    @property
    def ready(self) -> bool:
        """As pynetdicom's, whose select() ends at descriptor 1023."""
        return self.socket is not None and bool(self._is_connected) and is_readable(self.socket)

    def recv(self, nr_bytes: int) -> bytearray:
        """As pynetdicom's; OSError, which ends the connection, when a bound is passed."""
        try:
            return self._received(nr_bytes)
        except TimeoutError as error:
            self._layer.refuse(Reason.TOO_SLOW, str(error))
            raise
        except _Beyond as error:
            self._layer.refuse(Reason.PDU_UNREADABLE, str(error))
            raise

    @property
    def _layer(self) -> UpperLayer:
        layer = self.assoc.dul
        if not isinstance(layer, UpperLayer):
            raise TypeError("an association without its upper layer")
        return layer

    def _received(self, nr_bytes: int) -> bytearray:
        limits = self._limits
        most = self.assoc.acceptor.maximum_length or 0 if self._kind == P_DATA_TF else MAX_OTHER_BYTES
        if nr_bytes > most or self.socket is None:
            raise _Beyond("PDU longer than any honest one, or than what was negotiated")
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
                raise _Beyond("an object without end")
        self.socket.settimeout(limits.network_timeout_s)
        if self._kind is None and received:  # pynetdicom reads a header, then the rest
            self._kind = received[0]
            if self._kind not in KNOWN:
                self._layer.refuse(reason_of(self._kind), "PDU of an unknown type")
        else:
            if self._kind != P_DATA_TF:
                self.message_ended()
            self._kind = None
        return received


def message_ended(event: Any) -> None:
    """Handler: a DIMSE message has come whole."""
    if isinstance(event.assoc.dul.socket, BoundedSocket):
        event.assoc.dul.socket.message_ended()
