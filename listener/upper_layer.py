"""What becomes of an association whose upper layer fails (PS3.8 9.2): ended on both sides, and said in the log.

Without this a thread of pynetdicom's would be dead, and its association only seem alive.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynetdicom
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import RequestHandler

from cauda.core import log, stack, tolerant_pdu
from cauda.core.domain import Reason
from cauda.listener.admission import AdmittingServer, Ticket
from cauda.listener.refusals import Refusals

_BY_PROVIDER, _NO_REASON = 0x02, 0x00
_OVER = {"Sta1", "Sta13"}  # idle, and awaiting that the connection is closed
_FROM_HERE = {"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"}  # what an acceptor's own side says (PS3.8 table 9-10)
_FIRST_BYTE = {Reason.NOT_DICOM, Reason.TLS_ON_PLAIN_PORT}
_HERE, _PYNETDICOM = Path(__file__).parent, Path(pynetdicom.__file__).parent


class States(StateMachine):
    """pynetdicom's, which has no row for what our side says once the peer's words have ended the association."""

    def do_action(self, event: str) -> None:
        """As pynetdicom's; what we had to say to who is gone is dropped."""
        if self.current_state in _OVER and event in _FROM_HERE:
            with suppress(queue.Empty):  # it may be announced twice
                self.dul.to_provider_queue.get(block=False)
            return
        super().do_action(event)


class TolerantLayer(DULServiceProvider):
    """pynetdicom's upper layer, reading what opens an association as `tolerant_pdu` does."""

    unreadable: tolerant_pdu.UnreadableAssociate | None = None  # why the request cannot be accepted
    ticket: Ticket
    refusals: Refusals
    refused = False  # logged and listed; what else comes until the connection is closed is not

    def refuse(self, reason: Reason, message: str) -> None:
        """Log and list a peer whose association is ended for what it sent."""
        if self.refused:
            return
        self.refused = True
        requestor = self.assoc.requestor
        primitive = requestor.primitive
        calling = "" if primitive is None else str(primitive.calling_ae_title).strip()
        if primitive is not None and reason in _FIRST_BYTE:
            reason = Reason.PDU_UNREADABLE  # it spoke DICOM before
        log.get("dimse").warning("peer_malformed", address=str(requestor.address), message=message, reason=reason)
        self.refusals.add(calling, str(requestor.address), reason)

    def timed_out(self) -> None:
        """Log and list a peer that asked for no association while it was waited for."""
        if not self.refused:
            self.refused = True
            address = str(self.assoc.requestor.address)
            log.get("dimse").warning("association_timeout", address=address)
            self.refusals.add("", address, Reason.ASSOCIATION_TIMEOUT)

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        content = bytes(bytestream)
        try:
            content = tolerant_pdu.normalise(content)
        except tolerant_pdu.UnreadableAssociate as error:
            if content[0] != tolerant_pdu.ASSOCIATE_RQ or self.state_machine.current_state not in {"Sta1", "Sta2"}:
                raise
            # decoded as a request for nothing: the state machine takes it, and the listener rejects it by name
            self.unreadable = error
            content = tolerant_pdu.request_without_contexts(content)
        return super()._decode_pdu(bytearray(content))


class AdmittedRequestHandler(RequestHandler):
    """pynetdicom's, for a connection that has a ticket."""

    def admitted(self, association: Association, refusals: Refusals, over: Callable[[Association], None]) -> None:
        """Prepare an association with our upper layer; ``over`` as in `guarded`, before the ticket is given back."""
        server = self.server
        if not isinstance(server, AdmittingServer) or not isinstance(association.dul, TolerantLayer):
            raise TypeError("a connection without a ticket")
        ticket = server.take_ticket(self.request)
        layer = association.dul
        layer.ticket, layer.refusals = ticket, refusals
        patience_s = ticket.patience_s(float(association.acse_timeout or 0))
        began = time.monotonic()

        def ended(which: Association) -> None:
            if which.requestor.primitive is None and time.monotonic() - began >= patience_s:
                layer.timed_out()  # who hangs up before, as a load balancer's probe does, is not listed
            over(which)
            server.admission.release(ticket)

        guarded(association, ended)
        # the setter hands it to the layer's timer; the listener sets it back once the caller is let in
        association.acse_timeout = patience_s


class Messages(DIMSEServiceProvider):
    """pynetdicom's, for messages of several threads: the fragments of two must not mix (PS3.8 E.1)."""

    def __init__(self, association: Association) -> None:
        """As pynetdicom's."""
        super().__init__(association)
        self.whole = threading.Lock()  # held while only part of a message is in the upper layer's queue

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """As pynetdicom's."""
        with self.whole:
            super().send_msg(primitive, context_id)


def closed(event: Any) -> None:
    """Handler: who waits for an association request learns that none will come.

    pynetdicom's thread waits for it until a timeout, and takes a place among the connections all the while.
    """
    if event.assoc.requestor.primitive is None:
        _nothing_comes(event.assoc.dul)


def _nothing_comes(layer: Any) -> None:
    layer.to_user_queue.put(None)  # what pynetdicom's own thread is given after a timeout


def failed(association: Association, error: Exception) -> None:
    """Abort towards the peer, close, and let the association's own thread end."""
    _say(association, error)
    wire = association.dul.socket
    if wire is not None:
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = _BY_PROVIDER, _NO_REASON
        wire.send(abort.encode())
        wire._shutdown_socket()  # noqa: SLF001  in data_path's SEAM
    association.is_aborted, association.is_established = True, False
    evt.trigger(association, evt.EVT_ABORTED, {})
    association._kill = True  # noqa: SLF001  in data_path's SEAM, as `kill`
    _nothing_comes(association.dul)


def _say(association: Association, error: Exception) -> None:
    """One line. What pynetdicom raises comes of bytes of the peer's: it must not be able to fill a log with stacks."""
    frames = [(Path(one.filename).parent, one.name) for one in traceback.extract_tb(error.__traceback__)]
    where, name = next((one for one in reversed(frames) if one[0] in {_HERE, _PYNETDICOM}), (_HERE, ""))
    if where == _PYNETDICOM and isinstance(association.dul, TolerantLayer):
        association.dul.refuse(Reason.PDU_UNREADABLE, f"{type(error).__name__} in {name}")
    else:
        logger = log.get("dimse").bind(address=str(association.requestor.address))
        logger.error("association_failed", stack=stack.of(error))


def guarded(association: Association, over: Callable[[Association], None]) -> None:
    """Let nothing that raises in the association's own thread leave it dead and the peer waiting.

    Negotiation does, for one, over a presentation context without an abstract syntax. ``over`` is called at the end of
    that thread: only then is it certain that the association will not be established any more, since the connection
    may be closed before that is said.
    """
    run = association.run  # bound to its reactor when it was made

    def guarded_run() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001  the DIMSE border
            failed(association, error)
            association.dul.kill_dul()
        finally:
            over(association)

    association.run = guarded_run  # type: ignore[method-assign]  # pynetdicom makes the object
