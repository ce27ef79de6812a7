"""Storage commitment as SCU: the archive is asked to keep an object, and may answer at once (PS3.4 annex J)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt

from cauda.core.commitments import PUSH_MODEL, PUSH_MODEL_INSTANCE, Claim, Report, read
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.settings import Destination
from cauda.worker.dimse import associated

_NO_SUCH_ARGUMENT = 0x0114


def ask(
    to: Destination, calling_aet: str, claim: Claim, transaction_uid: str, answered: Callable[[Report], bool], *,
    timeout_s: float, wait_s: float,
) -> None:  # fmt: skip
    """Ask for one object; ``answered`` gets a report that comes on the same association within ``wait_s``.

    Rejected where the archive does no commitment, Unavailable where it cannot be asked now.
    """
    came, done = threading.Event(), threading.Event()

    def report(event: Any) -> tuple[int, None]:
        known = answered(read(event.event_information))
        came.set()
        return 0x0000 if known else _NO_SUCH_ARGUMENT, None

    def left(_event: Any) -> None:
        """What leaves after the report came is our answer to it: a release before that would overtake it."""
        if came.is_set():
            done.set()

    contexts = [build_context(PUSH_MODEL, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
    handlers = [(evt.EVT_N_EVENT_REPORT, report), (evt.EVT_PDU_SENT, left)]
    with associated(to, calling_aet, contexts, timeout_s=timeout_s, handlers=handlers) as association:
        status, _ = association.send_n_action(
            _question(claim, transaction_uid), 1, UID(PUSH_MODEL), UID(PUSH_MODEL_INSTANCE)
        )
        if "Status" not in status:
            raise Unavailable(Reason.DESTINATION_BUSY, "no answer to N-ACTION: the archive broke off or timed out")
        if status.Status != 0x0000:
            raise Rejected(Reason.DESTINATION_REFUSED, f"commitment refused: status {int(status.Status):04X}")
        done.wait(wait_s)


def _question(claim: Claim, transaction_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = claim.sop_class_uid
    item.ReferencedSOPInstanceUID = claim.sop_uid
    question = Dataset()
    question.TransactionUID = transaction_uid
    question.ReferencedSOPSequence = [item]
    return question
