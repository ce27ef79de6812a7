"""Associations with an archive, in which we ask (PS3.8): how they are set up, and why there is none."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from cauda.archive.reactor import keep_answers
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.settings import Destination
from cauda.core.tolerant_pdu import decode_tolerantly
from cauda.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")

_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_MOST_CONNECT_S = 10.0


def contexts(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """One context a class and transfer syntax: an archive picks from each, and we send as it likes best."""
    return [build_context(name, syntax) for name in sop_classes for syntax in _SYNTAXES]


@contextmanager
def associated(
    to: Destination, calling_aet: str, proposed: Sequence[PresentationContext], *, timeout_s: float,
    handlers: Sequence[tuple[Any, Any]] = (), roles: Sequence[Any] = (),
    on_open: Callable[[Association], object] = lambda _: None,
) -> Iterator[Association]:  # fmt: skip
    """An association, released at the end; ``on_open`` gets it once there is a connection, to abort it.

    Unavailable: destination_down when nobody answers, destination_refused when an administrator has to let us in,
    destination_busy when it is full. Rejected when it takes none of what we propose.
    """
    ae = AE(ae_title=calling_aet)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    ae.connection_timeout = min(timeout_s, _MOST_CONNECT_S)

    def connected(event: Any) -> None:
        # requests are two small writes; without this the second waits for the first one's acknowledgement
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        on_open(event.assoc)

    association = keep_answers(
        ae.associate(
            str(to.host),
            int(to.port or 0),
            contexts=list(proposed),
            ae_title=str(to.aet),
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_CONN_OPEN, decode_tolerantly), (evt.EVT_CONN_OPEN, connected), *handlers],
        )
    )
    try:
        if not association.is_established:
            raise _refusal(association)
        yield association
    finally:
        if association.is_established:
            association.release()


def _refusal(association: Association) -> Unavailable | Rejected:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        words = f"association rejected: {answer.reason_str}"
        permanent = answer.result == 1
        return Unavailable(Reason.DESTINATION_REFUSED if permanent else Reason.DESTINATION_BUSY, words)
    if association.rejected_contexts and not association.accepted_contexts:
        return Rejected(Reason.DESTINATION_REFUSED, "association accepted, but none of our SOP classes")
    return Unavailable(Reason.DESTINATION_DOWN, "no answer: connection refused, closed or timed out")
