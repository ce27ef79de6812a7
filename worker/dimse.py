"""An archive spoken to in DICOM: C-FIND to see whose study it is, C-STORE to put a result there.

What an archive's answer means is one table (`meaning`); failures leave here as the two kinds of error there are:
Rejected, the archive will never take it; Unavailable, another time it may.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from cauda.core.asking import asking
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.settings import Destination
from cauda.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")  # Study Root Query/Retrieve Information Model - FIND
_MOST_MATCHES = 10_000  # of a question about one study
_MOST_TAGS = 16  # of an answer, in its words
_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


class Meaning(StrEnum):
    """What follows from a C-STORE status."""

    ACCEPTED = "accepted"
    PASSING = "passing"
    REFUSED = "refused"


# PS3.7 annex C, PS3.4 B.2.3. First match; what is not listed is refused, and its words shown.
_MEANINGS: tuple[tuple[int, int, Meaning], ...] = (
    (0x0000, 0x0000, Meaning.ACCEPTED),
    (0x0001, 0x0001, Meaning.ACCEPTED),  # warning
    (0x0107, 0x0107, Meaning.ACCEPTED),  # attribute list warning
    (0x0116, 0x0116, Meaning.ACCEPTED),  # attribute value warning
    (0x0111, 0x0111, Meaning.ACCEPTED),  # duplicate SOP instance: our own bytes, sent before a crash
    (0xB000, 0xBFFF, Meaning.ACCEPTED),  # stored with warnings
    (0x0110, 0x0110, Meaning.PASSING),  # processing failure: something of theirs broke
    (0x0213, 0x0213, Meaning.PASSING),  # resource limitation
    (0xA700, 0xA7FF, Meaning.PASSING),  # out of resources
    (0xFE00, 0xFE00, Meaning.PASSING),  # cancelled
    # A9xx data set does not match, Cxxx cannot understand, 0122 class not supported, 0124 not authorised, ...
    (0x0000, 0xFFFF, Meaning.REFUSED),
)


def meaning(status: int) -> Meaning:
    """What a C-STORE status means for the delivery."""
    return next(meant for low, high, meant in _MEANINGS if low <= status <= high)


@dataclass(frozen=True, slots=True)
class Peer:
    """An archive with which an association is open."""

    association: Association

    @property
    def can_find(self) -> bool:
        """Whether it answers questions about studies."""
        return any(context.abstract_syntax == _FIND for context in self.association.accepted_contexts)

    @property
    def takes(self) -> frozenset[str]:
        """The classes of objects that it negotiated."""
        return frozenset(str(context.abstract_syntax) for context in self.association.accepted_contexts) - {_FIND}

    def find(self, question: Dataset) -> list[Dataset] | None:
        """The matches of a C-FIND; None where the archive cannot answer it."""
        found = []
        for status, match in self.association.send_c_find(question, _FIND):
            code = _code(status, "C-FIND")
            if code in {0xFF00, 0xFF01}:
                if match is not None:
                    found.append(match)
                if len(found) > _MOST_MATCHES:
                    raise Unavailable(Reason.DESTINATION_BUSY, "the answer to C-FIND does not end")
            elif 0xA700 <= code <= 0xA7FF:
                raise Unavailable(Reason.DESTINATION_BUSY, f"C-FIND answered {_words(status)}")
            elif code != 0:
                return None
        return found

    def store(self, dataset: Dataset, _content: bytes = b"") -> str:
        """Send one object; returns the archive's words beside a plain success.

        Rejected when it will never be taken, Unavailable(destination_busy) when not now.
        """
        sop_class = dataset.SOPClassUID
        if not any(context.abstract_syntax == sop_class for context in self.association.accepted_contexts):
            raise Rejected(Reason.DESTINATION_REFUSED, f"SOP class not accepted: {sop_class.name}")
        status = self.association.send_c_store(dataset)
        code, said = _code(status, "C-STORE"), _words(status)
        match meaning(code):
            case Meaning.ACCEPTED:
                return "" if code == 0 else said
            case Meaning.PASSING:
                raise Unavailable(Reason.DESTINATION_BUSY, said)
            case Meaning.REFUSED:
                raise Rejected(Reason.DESTINATION_REFUSED, said)


def _code(status: Dataset, what: str) -> int:
    if "Status" not in status:  # pynetdicom's word for: aborted, timed out, or nonsense
        raise Unavailable(Reason.DESTINATION_BUSY, f"no answer to {what}: the archive broke off or timed out")
    return int(status.Status)


def _words(status: Dataset) -> str:
    """What the archive says beside its status: its comment, and the attributes that it coerced or minded."""
    comment = str(status.get("ErrorComment") or "").strip()
    minded = status.get("OffendingElement") or ()
    tags = minded if isinstance(minded, Sequence) else (minded,)
    names = [keyword_for_tag(tag) or str(Tag(tag)) for tag in tags[:_MOST_TAGS]]
    said = "; ".join(part for part in (comment, ", ".join(names)) if part)
    return f"status {int(status.Status):04X}" + (f": {said}" if said else "")


@contextmanager
def open_association(
    destination: Destination, calling_aet: str, sop_classes: Sequence[str], *, timeout_s: float
) -> Iterator[Peer]:
    """An association for questions and for objects of these classes, released at the end; raises as `associated`."""
    with associated(destination, calling_aet, _contexts(sop_classes), timeout_s=timeout_s) as association:
        yield Peer(association)


@contextmanager
def associated(
    destination: Destination, calling_aet: str, contexts: Sequence[PresentationContext], *, timeout_s: float,
    handlers: Sequence[tuple[Any, Any]] = (),
) -> Iterator[Association]:  # fmt: skip
    """An association, released at the end.

    Unavailable: destination_down when nobody answers, destination_refused when an administrator has to let us in,
    destination_busy when it is full. Rejected when it takes none of what we propose.
    """
    ae = AE(ae_title=calling_aet)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    ae.connection_timeout = min(timeout_s, 10)
    association = asking(
        ae.associate(
            str(destination.host),
            int(destination.port or 0),
            contexts=list(contexts),
            ae_title=str(destination.aet),
            evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once), *handlers],
        )
    )
    try:
        if not association.is_established:
            raise _why(association)
        yield association
    finally:
        if association.is_established:
            association.release()


def _contexts(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """One context a transfer syntax: an archive picks from each, and we send as it likes best."""
    return [build_context(name, syntax) for name in (_FIND, *sop_classes) for syntax in _SYNTAXES]


def _send_at_once(event: Any) -> None:
    """Requests are two small writes; without this the second waits for the first one's acknowledgement."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why(association: Association) -> Unavailable | Rejected:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        said = f"association rejected: {answer.reason_str}"
        permanent = answer.result == 1
        return Unavailable(Reason.DESTINATION_REFUSED if permanent else Reason.DESTINATION_BUSY, said)
    if association.rejected_contexts and not association.accepted_contexts:
        return Rejected(Reason.DESTINATION_REFUSED, "association accepted, but none of our SOP classes")
    return Unavailable(Reason.DESTINATION_DOWN, "no answer: connection refused, closed or timed out")
