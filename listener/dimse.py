"""The DIMSE door: C-ECHO and C-STORE on pynetdicom with raw bytes (PS3.4 B, PS3.7).

What becomes of an object is said in `landing`; nothing here decodes one, asks a database or a queue. Two data paths
bring its bytes there: pynetdicom's own, and the one in `data_path`.
"""

from __future__ import annotations

import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.pdu_primitives import A_RELEASE
from pynetdicom.transport import ThreadedAssociationServer

from cauda.core import log, metrics, stack, uids
from cauda.core.commitments import PUSH_MODEL
from cauda.core.domain import Reason
from cauda.core.draft import Draft
from cauda.core.errors import Misconfigured
from cauda.core.peers import Caps, Verdict
from cauda.listener import accepted, commitment, data_path, stock, tls, upper_layer
from cauda.listener.admission import Admission, AdmittingServer
from cauda.listener.landing import Door, Request, Session, Store
from cauda.listener.part10 import Origin
from cauda.listener.told import Ended, Learned, Opened

_VERIFICATION = "1.2.840.10008.1.1"
_REJECT_PERMANENT, _REJECT_TRANSIENT = 0x01, 0x02
_ANY_NUMBER = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The open ports: plain, TLS or both."""

    plain: ThreadedAssociationServer | None
    tls: ThreadedAssociationServer | None

    @property
    def all(self) -> list[ThreadedAssociationServer]:
        """Those that there are."""
        return [one for one in (self.plain, self.tls) if one is not None]


class Shared(list[Any]):
    """Presentation contexts that nobody changes: pynetdicom copies them for each connection, at a cost."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> Shared:
        """The list itself."""
        return self


def port_of(server: ThreadedAssociationServer | None) -> int:
    """Where a server listens; 0 where there is none."""
    return 0 if server is None else int(server.server_address[1])


def start(door: Door, certificates: tls.Certificates | None = None, services: Sequence[Any] = ()) -> Servers:
    """Open the ports and serve in the background; Misconfigured when one is taken, and then none is open.

    ``services`` are pynetdicom handlers of further services.
    """
    settings = door.settings
    _config.LOG_HANDLER_LEVEL = "none"  # it describes each PDU in a text that is below what we log
    ae = _application(door)
    admission = Admission(door.guests, settings.limits, door.refusals)
    plain = secure = None
    if not settings.tls.only:
        plain = _open(ae, door, services, "node", settings.node.port, admission=admission)
    if certificates is not None:
        try:
            secure = _open(ae, door, services, "tls", settings.tls.port, server_class=tls.TlsServer,
                           certificates=certificates, limits=settings.limits, refusals=door.refusals,
                           admission=admission)  # fmt: skip
        except Misconfigured:
            if plain is not None:
                plain.server_close()
            raise
    servers = Servers(plain=plain, tls=secure)
    for server in servers.all:
        threading.Thread(target=server.serve_forever, name="dimse-accept", daemon=True).start()
    return servers


def _open(ae: AE, door: Door, services: Sequence[Any], key: str, port: int, **kind: Any) -> ThreadedAssociationServer:
    host = door.settings.node.host
    replaced = door.settings.listener.data_path == "replaced"

    def over(association: Association) -> None:
        _end(association, door, "aborted")

    limits = door.settings.limits
    handler = data_path.request_handler(door, over) if replaced else stock.request_handler(limits, door.refusals, over)
    try:
        server = ae.make_server(
            (host, port),
            contexts=_contexts(),
            request_handler=handler,
            evt_handlers=[*_handlers(door, replaced=replaced), *services],
            **({"server_class": stock.PlainServer} | kind),
        )
    except OSError as error:
        raise Misconfigured(
            f"{key}.port: cannot listen on {host}:{port} ({error.strerror}); is another Cauda running?"
        ) from error
    if not isinstance(server, ThreadedAssociationServer):
        raise TypeError("pynetdicom returned no threaded server")
    return server


def _application(door: Door) -> AE:
    settings = door.settings
    ae = AE(settings.node.aet)
    ae.implementation_class_uid = uids.IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = uids.IMPLEMENTATION_VERSION_NAME
    ae.require_called_aet = False  # `_judge` does; it knows more titles than one
    ae.maximum_associations = _ANY_NUMBER  # pynetdicom counts connections that have said nothing; `_requested` does not
    ae.maximum_pdu_size = settings.limits.max_pdu_bytes
    ae.acse_timeout = settings.limits.acse_timeout_s
    ae.dimse_timeout = settings.limits.dimse_timeout_s
    ae.network_timeout = settings.limits.network_timeout_s
    return ae


@cache
def _contexts() -> Shared:
    """What every port of the process takes."""
    ae = AE()
    ae.add_supported_context(_VERIFICATION)
    accepted.register()
    for sop_class in accepted.SOP_CLASSES:
        ae.add_supported_context(sop_class, list(accepted.TRANSFER_SYNTAXES))
    ae.add_supported_context(
        PUSH_MODEL, scu_role=True, scp_role=True
    )  # `commitment` takes back what is not for this one
    return Shared(ae.supported_contexts)


@cache
def _contexts_of_reports() -> Shared:
    """What is taken under a title by which an archive knows us: nothing that could be stored."""
    return Shared(one for one in _contexts() if one.abstract_syntax in {_VERIFICATION, PUSH_MODEL})


def _handlers(door: Door, *, replaced: bool) -> list[Any]:
    return [
        (evt.EVT_CONN_OPEN, _connected),
        (evt.EVT_DATA_RECV, _quick_ack),
        (evt.EVT_REQUESTED, _requested, [door]),
        (evt.EVT_ESTABLISHED, _established, [door]),
        *([(evt.EVT_ESTABLISHED, data_path.established)] if replaced else []),
        *([] if replaced else [(evt.EVT_DIMSE_RECV, stock.message_ended)]),
        (evt.EVT_ACSE_RECV, _release_asked, [door]),
        (evt.EVT_ABORTED, _ended, [door, "aborted"]),
        (evt.EVT_CONN_CLOSE, _ended, [door, "aborted"]),
        (evt.EVT_CONN_CLOSE, upper_layer.closed),
        (evt.EVT_C_ECHO, _echo),
        (evt.EVT_C_STORE, _store, [door]),
    ]


def drain(servers: Servers, within_s: float) -> None:
    """Stop accepting, let open associations finish, then abort what is left.

    The socket is closed by us: after ``AE.shutdown()`` the port was seen to accept still.
    """
    for server in servers.all:
        if server.socket is not None:
            server.socket.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread, which looks every half second
        socketserver.BaseServer.shutdown(server)  # pynetdicom's own would abort the associations at once
        if server.socket is not None:
            server.socket.close()
    deadline = time.monotonic() + within_s
    while any(server.active_associations for server in servers.all) and time.monotonic() < deadline:
        time.sleep(0.05)
    for server in servers.all:
        for association in server.active_associations:
            association.abort()


def _socket(event: Any) -> socket.socket | None:
    wrapped = event.assoc.dul.socket
    return None if wrapped is None else wrapped.socket


def _connected(event: Any) -> None:
    # Nagle with delayed ACK costs 44 ms an instance (INGEST.md)
    if (sock := _socket(event)) is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _quick_ack(event: Any) -> None:
    # the kernel falls back to delayed ACK by itself, so it is armed again after each read
    if (sock := _socket(event)) is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            return  # closed meanwhile


def _peer(event: Any) -> tuple[str, str, str]:
    requestor = event.assoc.requestor
    primitive = requestor.primitive
    return str(primitive.calling_ae_title).strip(), str(primitive.called_ae_title).strip(), str(requestor.address)


def _requested(event: Any, door: Door) -> None:
    """Whether a caller is let in; not if our side fails over it, as pynetdicom would."""
    try:
        _judge(event, door)
    except Exception as error:  # noqa: BLE001  the DIMSE border
        log.get("dimse").error("association_failed", stack=stack.of(error))
        _refuse(event, door, Reason.BUG, (_REJECT_TRANSIENT, 0x02, 0x01))


def _judge(event: Any, door: Door) -> None:
    """Everything that can be wrong with a caller, in one place: who is turned away is told once, with one reason."""
    calling, called, address = _peer(event)
    limits, own = door.settings.limits, door.settings.node.aet
    anywhere = _anywhere(event, door)
    caps = door.guests.caps(calling, address, limits, anywhere=anywhere)
    verdict = door.guests.verdict(calling, address, anywhere=anywhere)
    if (unreadable := event.assoc.dul.unreadable) is not None:
        why = 0x02 if unreadable.reason is Reason.PROTOCOL_VERSION else 0x01
        _refuse(event, door, unreadable.reason, (_REJECT_PERMANENT, 0x02, why), message=str(unreadable))
    elif verdict is Verdict.OUT:
        _refuse(event, door, Reason.CALLING_AE_NOT_ALLOWED, (_REJECT_PERMANENT, 0x01, 0x03))
    elif called not in {own, *commitment.titles(door.settings)}:
        _refuse(event, door, Reason.CALLED_AE_UNKNOWN, (_REJECT_PERMANENT, 0x01, 0x07))
    elif not _reserve(event, door, caps, anywhere=anywhere):
        _refuse(event, door, Reason.TOO_MANY_ASSOCIATIONS, (_REJECT_TRANSIENT, 0x03, 0x02))
    else:
        if called != own:
            event.assoc.acceptor.supported_contexts = _contexts_of_reports()
        event.assoc.acceptor.maximum_length = caps.max_pdu_bytes
        event.assoc.acse_timeout = limits.acse_timeout_s  # before, it was that of callers whom nobody knew
        if isinstance(event.assoc.dul, data_path.UpperLayer):
            event.assoc.dul.bound_pdus(caps.max_pdu_bytes)
        if isinstance(server := event.assoc._server, AdmittingServer):  # noqa: SLF001  the port; there is no other way
            server.admission.promote(event.assoc.dul.ticket)
        if verdict is Verdict.LEARN:
            door.tell(Learned(aet=calling, address=address))


def _reserve(event: Any, door: Door, caps: Caps, *, anywhere: bool) -> bool:
    """Count the association before it is negotiated, so that no number of callers at once gets past a cap."""
    calling, called, address = _peer(event)
    origin = Origin(association_id=secrets.token_hex(16), calling_aet=calling, called_aet=called, address=address)
    with door.lock:
        origins = [session.origin for session in door.sessions.values() if not session.ended]
        of_the_caller = sum(one.calling_aet == calling if anywhere else one.address == address for one in origins)
        if len(origins) >= door.settings.limits.max_associations or of_the_caller >= caps.max_associations:
            return False
        door.sessions[id(event.assoc)] = Session(origin, time.monotonic(), caps.max_object_bytes, established=False)
        return True


def _anywhere(event: Any, door: Door) -> bool:
    """Whether the caller is known by its certificate, wherever it calls from."""
    return door.settings.tls.in_place_of_network and tls.shown(_socket(event))


def _refuse(event: Any, door: Door, reason: Reason, answer: tuple[int, int, int], *, message: str = "") -> None:
    """Answer A-ASSOCIATE-RJ with result, source and reason (PS3.8 table 9-21); log it and list it for operators."""
    event.assoc.acse.send_reject(*answer)
    event.assoc.kill()
    calling, called, address = _peer(event)
    log.get("dimse").warning(
        "association_rejected", calling_aet=calling, called_aet=called, address=address, reason=reason,
        **({"message": message} if message else {}),
    )  # fmt: skip
    event.assoc.dul.refused = True
    metrics.associations.labels("rejected").inc()
    door.refusals.add(calling, address, reason)


def _established(event: Any, door: Door) -> None:
    with door.lock:
        session = door.sessions[id(event.assoc)]
        session.established = True
    door.tell(Opened(session.origin))


def _release_asked(event: Any, door: Door) -> None:
    # EVT_RELEASED comes after the answer is sent, and may come after the peer has hung up
    if isinstance(event.primitive, A_RELEASE):
        _ended(event, door, "released")


def _ended(event: Any, door: Door, how: str) -> None:
    _end(event.assoc, door, how)


def _end(association: Association, door: Door, how: str) -> None:
    with door.lock:
        session = door.sessions.pop(id(association), None)
        if session is None or session.ended:
            return
        session.ended = True
    if not session.established:
        return  # it broke off while it was negotiated
    metrics.associations.labels(how).inc()
    door.tell(Ended(session.origin.association_id, how))
    log.get("dimse").info(
        "association_ended",
        association=session.origin.association_id,
        calling_aet=session.origin.calling_aet,
        address=session.origin.address,
        how=how,
        instances=session.instances,
        refused=session.refused,
        bytes=session.bytes,
        seconds=round(time.monotonic() - session.began, 2),
    )


def _echo(event: Any) -> int:
    # pynetdicom asks here for any message about the Verification SOP Class, and answers it as if it were a C-ECHO
    if not isinstance(event.request, C_ECHO):
        event.assoc.dul.refuse(Reason.PDU_UNREADABLE, "no C-ECHO")
        event.assoc.abort()
    return 0x0000


def _store(event: Any, door: Door) -> int | Dataset:
    began = time.monotonic()
    request = event.request
    with door.lock:
        session = door.sessions[id(event.assoc)]
    store = Store(
        door,
        session,
        Request(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_uid=str(request.AffectedSOPInstanceUID),
            abstract_syntax=str(event.context.abstract_syntax),
            transfer_syntax=str(event.context.transfer_syntax),
        ),
        Draft(),
    )
    store.add(request.DataSet.getbuffer())
    answer = store.answer(began)
    if answer.status == 0x0000:
        return answer.status
    response = Dataset()
    response.Status = answer.status
    response.ErrorComment = answer.comment
    return response
