"""The replaced C-STORE data path: one thread an association that waits for bytes and streams them to disk.

pynetdicom keeps association, C-ECHO, release, abort and every error: its state machine is fed the same events as ever.
Only in Sta6 (PS3.8 9.2) a C-STORE is served here, from the socket to the response, in pynetdicom's upper layer thread.
What is overridden is private there: `SEAM` names it, a test checks it, and pyproject.toml bounds the version.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler

from cauda.core.domain import Reason
from cauda.core.draft import Draft
from cauda.listener import command, pdu, upper_layer
from cauda.listener.landing import Door, Request, Store
from cauda.listener.waiting import LOOK_AGAIN_S, Checkpoint, Ringing, Waker
from cauda.listener.wire import Wire

SEAM: tuple[tuple[type, str], ...] = (
    (RequestHandler, "_create_association"),
    (DULServiceProvider, "run_reactor"),
    (DULServiceProvider, "_is_transport_event"),
    (DULServiceProvider, "_read_pdu_data"),
    (DULServiceProvider, "_decode_pdu"),
    (DULServiceProvider, "send_pdu"),
    (DULServiceProvider, "kill_dul"),
    (DULServiceProvider, "stop_dul"),
    (DIMSEServiceProvider, "receive_primitive"),
    (DIMSEServiceProvider, "send_msg"),
    (StateMachine, "do_action"),
    (Association, "_run_reactor"),
    (Association, "kill"),
    (AssociationSocket, "ready"),
    (AssociationSocket, "send"),
    (AssociationSocket, "_shutdown_socket"),
)
"""What of pynetdicom is overridden or called here although it is not its public interface."""

MAX_FOREIGN_BYTES = 1 << 24  # of a message that is no C-STORE: pynetdicom holds it in memory


def request_handler(door: Door, over: Callable[[Association], None]) -> type[upper_layer.AdmittedRequestHandler]:
    """The class that ``make_server`` starts for each connection; ``over`` as in `upper_layer.guarded`."""

    class StoreRequestHandler(upper_layer.AdmittedRequestHandler):
        def _create_association(self) -> Association:
            association = super()._create_association()
            _replace(association, self.request, door)
            self.admitted(association, door.refusals, over)
            return association

    return StoreRequestHandler


def established(event: Any) -> None:
    """Handler: from now on the association has a session, and what was negotiated stands."""
    layer: UpperLayer = event.assoc.dul
    layer.accepted = {
        context.context_id: (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in event.assoc.accepted_contexts
    }
    layer.largest = event.assoc.requestor.maximum_length or 0
    layer.known.set()


def _replace(association: Association, sock: socket.socket, door: Door) -> None:
    """Give a fresh association our upper layer, and let its own thread sleep until there is news."""
    news = threading.Event()
    association.dimse = messages = upper_layer.Messages(association)
    association.dul = layer = UpperLayer(association, door, news, messages)
    layer.socket = layer.wire = Wire(association, client_socket=sock)  # puts its first event into the layer's queue
    messages.msg_queue = Ringing(news)
    association._reactor_checkpoint = Checkpoint(news)  # noqa: SLF001
    association._reactor_checkpoint.set()  # noqa: SLF001
    association.network_timeout = association.network_timeout  # the setter hands it to the new layer's timer


class UpperLayer(upper_layer.TolerantLayer):
    """pynetdicom's upper layer, waiting in poll() rather than sleeping, and serving C-STORE itself."""

    def __init__(
        self, association: Association, door: Door, news: threading.Event, messages: upper_layer.Messages
    ) -> None:
        super().__init__(association)
        self.state_machine = upper_layer.States(self)
        self.known = threading.Event()
        self.accepted: dict[int, tuple[str, str]] = {}  # abstract and transfer syntax, by presentation context
        self.largest = 0  # PDU that the peer takes; 0 is without a bound
        self.wire: Wire
        self.to_user_queue = Ringing(news)
        self._run_loop_delay = 0.0  # we wait elsewhere
        self._door = door
        self._news = news
        self._messages = messages
        self._waker = Waker()
        self._poller: select.poll | None = None
        self._stream = pdu.Stream(door.settings.limits.max_pdu_bytes)
        self._command = bytearray()
        self._request: command.Command | None = None
        self._context_id = 0
        self._store: Store | None = None
        self._draft = Draft()
        self._foreign: int | None = None  # bytes of a data set that pynetdicom is given
        self._answered = False
        self._began = self._heard = 0.0  # of a message, at a wait
        self._came = self._bytes = 0  # since the last wait, and before it

    def run_reactor(self) -> None:
        """As pynetdicom's, but nothing that happens in it leaves an association that only seems alive."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001  the DIMSE border
            upper_layer.failed(self.assoc, error)
        finally:
            self._drop()
            self._release()
            self._waker.close()
            self._news.set()

    def _release(self) -> None:
        """Give the buffer back at once: association and layer know each other, and the collector may take its time."""
        self._draft.close()

    def send_pdu(self, primitive: Any) -> None:
        """As pynetdicom's; wakes the thread."""
        super().send_pdu(primitive)
        self._waker.wake()

    def bound_pdus(self, most_bytes: int) -> None:
        """Announced to this caller; asked before the answer to its request, so before anything that is bounded."""
        self._stream.max_pdu_bytes = most_bytes

    def kill_dul(self) -> None:
        """As pynetdicom's; wakes the thread."""
        super().kill_dul()
        self._waker.wake()

    def stop_dul(self) -> bool:
        """As pynetdicom's; wakes the thread."""
        self._waker.wake()
        return bool(super().stop_dul())

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == "Sta13":
            return bool(super()._is_transport_event())
        if not self.event_queue.empty():
            return False  # the state machine first
        return self._receive()

    def _read_pdu_data(self) -> None:
        """Called by pynetdicom in Sta13 alone, where what comes is of no interest but the end."""
        self._drop()
        if self._stream.fill(self.wire.receive) == 0:
            self.event_queue.put("Evt17")

    def _receive(self) -> bool:
        """Until there is something for the state machine (True), or it should look at its queue and timers."""
        while True:
            try:
                part = self._stream.next()
                if part is None:
                    if not self._more():
                        return False
                elif self._taken(part) or self.event_queue.queue:
                    return True  # an answer that could not be sent ends it, whatever else the peer has sent
            except pdu.Malformed as error:
                self.refuse(error.reason, str(error))
                self._drop()
                self.event_queue.put("Evt19")
                return True

    def _more(self) -> bool:
        """Receive something, or wait for it; False to let the state machine look around."""
        if self._answered and not self.wire.pending:
            self._answered = False  # an honest peer sends nothing before it has the answer
            return self._wait()
        count = self._stream.fill(self.wire.receive)
        if count is None:
            return self._wait()
        if count == 0:
            self._drop()
            self.event_queue.put("Evt17")
            return False
        self._came += count
        return not self.to_provider_queue.queue  # what waits to be sent must not wait for a peer that never stops

    def _wait(self) -> bool:
        """Until bytes may be there; False to let the state machine look around."""
        if self.wire.socket is None:
            return False
        self.wire.acknowledge()
        if self._late(time.monotonic()):
            raise pdu.Malformed("a message came too slowly", Reason.TOO_SLOW)
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self._waker.fd, select.POLLIN)
            self._poller.register(self.wire.socket, select.POLLIN)
        events = self._poller.poll(LOOK_AGAIN_S * 1000)
        for fd, _ in events:
            if fd == self._waker.fd:
                self._waker.taken()
                return False
        return bool(events)

    def _late(self, now: float) -> bool:
        """Whether a message in the middle has stopped, or drips: looked at when there is nothing to receive."""
        if self._came:
            self._heard = now
            self._bytes += self._came
            self._came = 0
            self._idle_timer.restart()
        if self._stream.between and self._request is None and not self._command and self._foreign is None:
            self._began, self._bytes = 0.0, 0
            return False
        if self._began == 0.0:
            self._began = self._heard = now
        patience = self.assoc.dimse_timeout
        if patience is None:
            return False
        slowest = self._began + patience + self._bytes / pdu.SLOWEST_BYTES_S
        return now > min(self._heard + patience, slowest)

    def _taken(self, part: pdu.Fragment | pdu.Whole) -> bool:
        """Serve what came; True when the state machine has an event for it."""
        if isinstance(part, pdu.Whole):
            self._drop()
            self._hand_over(part)
            return True
        if self.state_machine.current_state != "Sta6":
            self._drop()
            self._pass_on(part)
            return True
        if part.command:
            return self._take_command(part)
        if self._foreign is not None:
            self._foreign += len(part.content)
            if self._foreign > MAX_FOREIGN_BYTES:
                raise pdu.Malformed("a message without end")
            self._pass_on(part)
            if part.last:
                self._foreign = None
            return True
        self._take_data(part)
        return False

    def _hand_over(self, whole: pdu.Whole) -> None:
        try:
            decoded, event = self._decode_pdu(bytearray(whole.content))
        except Exception as error:  # pynetdicom raises what comes of bad bytes
            raise pdu.Malformed("PDU cannot be decoded") from error
        self.event_queue.put(event)
        self._recv_pdu.put(decoded)

    def _pass_on(self, part: pdu.Fragment) -> None:
        control = (0x01 if part.command else 0x00) | (0x02 if part.last else 0x00)
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[part.context_id, bytes([control]) + bytes(part.content)]]  # type: ignore[list-item]  # tuples, it says, and refuses them
        self.event_queue.put("Evt10")
        self._recv_pdu.put(P_DATA_TF(primitive))

    def _take_command(self, part: pdu.Fragment) -> bool:
        if self._request is not None or self._foreign is not None:
            raise pdu.Malformed("a command within another message")
        self._command += part.content
        if len(self._command) > command.MAX_BYTES:
            raise pdu.Malformed("command set longer than any honest one")
        if not part.last:
            return False
        content = bytes(self._command)
        self._command.clear()
        request = command.parse(content)
        if request.field == command.C_STORE_RQ:
            self._begin(request, part.context_id)
            return False
        self._foreign = 0 if request.has_data_set else None
        self._pass_on(pdu.Fragment(part.context_id, command=True, last=True, content=memoryview(content)))
        return True

    def _begin(self, request: command.Command, context_id: int) -> None:
        """A C-STORE-RQ came: its data set goes to disk from here on."""
        if not self.known.is_set():
            self.known.wait(self.assoc.acse_timeout)  # the peer may be quicker than pynetdicom's own thread
        session = self._door.sessions.get(id(self.assoc))
        accepted = self.accepted.get(context_id)
        if accepted is None or session is None:
            raise pdu.Malformed("C-STORE outside of the accepted presentation contexts")
        self._request, self._context_id = request, context_id
        wanted = Request(request.sop_class_uid, request.sop_uid, *accepted)
        self._store = Store(self._door, session, wanted, self._draft)
        self._stream.collect(self._draft, context_id)
        if not request.has_data_set:
            self._respond()

    def _take_data(self, part: pdu.Fragment) -> None:
        if self._store is None:
            raise pdu.Malformed("a data set that belongs to no command")
        if self._draft.full:
            self._store.spill()
            self._idle_timer.restart()  # a sender that is faster than our disk never makes us wait
            if self._store.length > 2 * self._door.settings.limits.max_object_bytes:
                raise pdu.Malformed("an object without end")
        if part.last:
            self._respond()

    def _respond(self) -> None:
        store, request = self._store, self._request
        self._store = self._request = None
        self._stream.hand_out()
        if store is None or request is None:
            return
        answer = store.answer(time.monotonic())
        self._say(pdu.p_data(self._context_id, command.response(request, answer.status, answer.comment), self.largest))
        self._answered = True
        self._began, self._came, self._bytes = 0.0, 0, 0
        self._idle_timer.restart()

    def _say(self, pdus: list[bytes]) -> None:
        with self._messages.whole:
            waiting = bool(self.to_provider_queue.queue)
        if not waiting:
            self.wire.send(b"".join(pdus))
        for one in pdus if waiting else ():  # another message has begun: it is sent to its end first
            later = P_DATA_TF()
            later.decode(one)
            self.send_pdu(later.to_primitive())

    def _drop(self) -> None:
        """Forget a message in the middle."""
        if self._store is not None:
            self._store.drop()
        self._store = self._request = self._foreign = None
        self._stream.hand_out()
        self._command.clear()
