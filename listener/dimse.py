"""The DIMSE door: C-ECHO and C-STORE on stock pynetdicom with raw bytes (PS3.4 B, PS3.7).

The C-STORE handler decodes nothing, asks no database and no queue: it checks the head, makes the object durable,
tells the filer, and answers.
"""

from __future__ import annotations

import ipaddress
import itertools
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.pdu_primitives import A_RELEASE
from pynetdicom.transport import ThreadedAssociationServer

from cauda.core import log, metrics, spool, stack, uids
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, answer_for, error_comment
from cauda.core.settings import Peer, Settings
from cauda.listener import head
from cauda.listener.filer import Arrived, Ended, Opened, Refused, Told
from cauda.listener.part10 import Origin, file_meta

# pynetdicom's own list ends before High-Throughput JPEG 2000 (PS3.5 A.4.4, CP-2179).
_TRANSFER_SYNTAXES = [
    *ALL_TRANSFER_SYNTAXES,
    *(u for u in (f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203)) if u not in ALL_TRANSFER_SYNTAXES),
]
_VERIFICATION = "1.2.840.10008.1.1"
_REJECT_PERMANENT, _REJECT_TRANSIENT = 0x01, 0x02


@dataclass(slots=True)
class _Session:
    """What one association did."""

    origin: Origin
    began: float
    instances: int = 0
    refused: int = 0
    bytes: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """The C-STORE SCP's state: where it lands objects and whom it tells."""

    settings: Settings
    spool: spool.Spool
    arrivals: Path
    tell: Callable[[Told], None]
    sessions: dict[int, _Session] = field(default_factory=dict)  # by id(association)
    lock: threading.Lock = field(default_factory=threading.Lock)
    counter: itertools.count[int] = field(default_factory=itertools.count)
    run: str = field(default_factory=lambda: f"{time.time_ns():020d}-{secrets.token_hex(4)}")

    def name(self) -> str:
        """A landing name that sorts by arrival and owes nothing to the peer."""
        with self.lock:
            return f"{self.run}-{next(self.counter):010d}"


def start(door: Door) -> ThreadedAssociationServer:
    """Open the port and serve in the background."""
    settings = door.settings
    ae = AE(settings.node.aet)
    ae.implementation_class_uid = uids.IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = uids.IMPLEMENTATION_VERSION_NAME
    ae.require_called_aet = True
    ae.maximum_associations = settings.limits.max_associations
    ae.maximum_pdu_size = settings.limits.max_pdu_bytes
    ae.acse_timeout = settings.limits.acse_timeout_s
    ae.dimse_timeout = settings.limits.dimse_timeout_s
    ae.network_timeout = settings.limits.network_timeout_s
    ae.add_supported_context(_VERIFICATION)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), _TRANSFER_SYNTAXES)
    server = ae.start_server(
        (settings.node.host, settings.node.port),
        block=False,
        evt_handlers=[
            (evt.EVT_CONN_OPEN, _connected),
            (evt.EVT_DATA_RECV, _quick_ack),
            (evt.EVT_REQUESTED, _requested, [door]),
            (evt.EVT_REJECTED, _rejected, [door]),
            (evt.EVT_ESTABLISHED, _established, [door]),
            (evt.EVT_ACSE_RECV, _release_asked, [door]),
            (evt.EVT_ABORTED, _ended, [door, "aborted"]),
            (evt.EVT_CONN_CLOSE, _ended, [door, "aborted"]),
            (evt.EVT_C_ECHO, _echo),
            (evt.EVT_C_STORE, _store, [door]),
        ],
    )
    if not isinstance(server, ThreadedAssociationServer):
        raise TypeError("pynetdicom returned no threaded server")
    return server


def drain(server: ThreadedAssociationServer, within_s: float) -> None:
    """Stop accepting, let open associations finish, then abort what is left.

    The socket is closed by us: after ``AE.shutdown()`` the port was seen to accept still.
    """
    socketserver.BaseServer.shutdown(server)  # pynetdicom's own would abort the associations at once
    if server.socket is not None:
        server.socket.close()
    deadline = time.monotonic() + within_s
    while server.active_associations and time.monotonic() < deadline:
        time.sleep(0.05)
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


def allowed(peers: tuple[Peer, ...], aet: str, address: str) -> bool:
    """Whether the allow-list lets this AE title in from this address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(
        peer.aet in {"*", aet} and ip in ipaddress.ip_network(peer.network, strict=False) for peer in peers
    )  # fmt: skip


def _requested(event: Any, door: Door) -> None:
    calling, _, address = _peer(event)
    if not allowed(door.settings.peers, calling, address):
        _refuse(event, door, Reason.CALLING_AE_NOT_ALLOWED, (_REJECT_PERMANENT, 0x01, 0x03))
        return
    with door.lock:
        open_here = sum(1 for s in door.sessions.values() if s.origin.address == address and not s.ended)
    if open_here >= door.settings.limits.max_associations_per_peer:
        _refuse(event, door, None, (_REJECT_TRANSIENT, 0x03, 0x02))


def _refuse(event: Any, door: Door, reason: Reason | None, answer: tuple[int, int, int]) -> None:
    event.assoc.acse.send_reject(*answer)
    evt.trigger(event.assoc, evt.EVT_REJECTED, {})
    event.assoc.kill()
    if reason is not None:
        calling, _, address = _peer(event)
        door.tell(Refused(aet=calling, address=address, reason=reason))


def _rejected(event: Any, door: Door) -> None:
    calling, called, address = _peer(event)
    log.get("dimse").warning("association_rejected", calling_aet=calling, called_aet=called, address=address)
    metrics.associations.labels("rejected").inc()
    if called != door.settings.node.aet:
        door.tell(Refused(aet=calling, address=address, reason=Reason.CALLED_AE_UNKNOWN))


def _established(event: Any, door: Door) -> None:
    calling, called, address = _peer(event)
    origin = Origin(association_id=secrets.token_hex(16), calling_aet=calling, called_aet=called, address=address)
    with door.lock:
        door.sessions[id(event.assoc)] = _Session(origin, time.monotonic())
    door.tell(Opened(origin))


def _release_asked(event: Any, door: Door) -> None:
    # EVT_RELEASED comes after the answer is sent, and may come after the peer has hung up
    if isinstance(event.primitive, A_RELEASE):
        _ended(event, door, "released")


def _ended(event: Any, door: Door, how: str) -> None:
    with door.lock:
        session = door.sessions.get(id(event.assoc))
        if session is None or session.ended:
            return
        session.ended = True
        del door.sessions[id(event.assoc)]
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


def _echo(_event: Any) -> int:
    return 0x0000


def _store(event: Any, door: Door) -> int | Dataset:
    """The border: whatever happens becomes a status, never a dead thread."""
    began = time.monotonic()
    with door.lock:
        session = door.sessions[id(event.assoc)]
    try:
        size = _keep(event, door, session.origin)
    except Exception as error:  # noqa: BLE001  the DIMSE border
        session.refused += 1
        answer = answer_for(error)
        reason = getattr(error, "reason", Reason.BUG)
        metrics.refused.labels(reason).inc()
        logger = log.get("dimse").bind(association=session.origin.association_id, status=f"{answer.dimse:04X}")
        if reason is Reason.BUG:
            logger.error("store_failed", stack=stack.of(error))
        else:
            logger.warning("store_refused", reason=reason, message=error_comment(error))
        response = Dataset()
        response.Status = answer.dimse
        response.ErrorComment = error_comment(error)
        return response
    session.instances += 1
    session.bytes += size
    metrics.acknowledged.inc()
    metrics.acknowledge_seconds.observe(time.monotonic() - began)
    return 0x0000


def _keep(event: Any, door: Door, origin: Origin) -> int:
    request = event.request
    data = request.DataSet.getbuffer()
    limits = door.settings.limits
    if len(data) > limits.max_object_bytes:
        raise Rejected(Reason.TOO_LARGE, f"object is larger than {limits.max_object_bytes >> 20} MiB")
    door.spool.check_room(len(data))
    syntax = str(event.context.transfer_syntax)
    found = head.parse(data, syntax, max_bytes=limits.max_object_bytes)
    if found.sop_class_uid != str(request.AffectedSOPClassUID):
        raise Rejected(Reason.SOP_CLASS_MISMATCH, "SOP Class UID differs from the command's")
    if found.sop_uid != str(request.AffectedSOPInstanceUID):
        raise Rejected(Reason.UID_MISMATCH, "SOP Instance UID differs from the command's")
    meta = file_meta(
        sop_class_uid=found.sop_class_uid, sop_uid=found.sop_uid, transfer_syntax=syntax, origin=origin
    )  # fmt: skip
    path = spool.land(door.arrivals, door.name(), (meta, data))
    door.tell(Arrived(path))
    return len(data)
