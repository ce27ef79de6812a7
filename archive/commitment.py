"""Storage commitment as SCU (PS3.4 annex J): an archive is asked to keep an object, and reports, at once or later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import evt

from cauda.archive.association import associated, contexts
from cauda.core import uids
from cauda.core.commitments import PUSH_MODEL, PUSH_MODEL_INSTANCE, Claim
from cauda.core.domain import Reason
from cauda.core.errors import CaudaError, Rejected, Unavailable
from cauda.core.settings import Destination

MOST_INSTANCES = 20_000  # in a request or a report

_SUCCESS, _PROCESSING_FAILURE, _NO_SUCH_ARGUMENT = 0x0000, 0x0110, 0x0114

Instance = tuple[str, str]  # SOP Class and SOP Instance UID

# What pydicom was seen to raise when a value is looked at that is not what its VR allows.
MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an N-EVENT-REPORT says (PS3.4 J.3.3); what it lists as held and as failed has failed."""

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]  # SOP Instance UID -> failure reason


def read_report(information: Dataset) -> Report:
    """An event's information as a report; raises Rejected or one of `MALFORMED` where it is none."""
    held = read_instances(information.get("ReferencedSOPSequence") or ())
    failures = information.get("FailedSOPSequence") or ()
    reasons = [int(item.get("FailureReason") or _PROCESSING_FAILURE) for item in failures]
    names = [uids.checked(str(item.ReferencedSOPInstanceUID), "Referenced SOP Instance UID") for item in failures]
    failed = dict(zip(names, reasons, strict=True))
    return Report(
        transaction_uid=uids.checked(str(information.TransactionUID), "Transaction UID"),
        committed=frozenset(sop_uid for _, sop_uid in held) - failed.keys(),
        failed=failed,
    )


def read_instances(sequence: Sequence[Dataset]) -> list[Instance]:
    """The instances that a request or report names, each once; raises as `read_report`."""
    if len(sequence) > MOST_INSTANCES:
        raise ValueError("more instances than any study has")
    found = [
        (
            uids.checked(str(item.ReferencedSOPClassUID), "Referenced SOP Class UID"),
            uids.checked(str(item.ReferencedSOPInstanceUID), "Referenced SOP Instance UID"),
        )
        for item in sequence
    ]
    return list(dict.fromkeys(found))


def request_commitment(
    to: Destination, calling_aet: str, claim: Claim, transaction_uid: str, answered: Callable[[Report], bool], *,
    timeout_s: float, wait_s: float,
) -> None:  # fmt: skip
    """Ask for one object; ``answered`` gets a report that comes on the same association within ``wait_s``.

    Rejected where the archive does no commitment, Unavailable where it cannot be asked now.
    """
    came, done = threading.Event(), threading.Event()

    def report(event: Any) -> tuple[int, None]:
        try:
            known = answered(read_report(event.event_information))
        except (CaudaError, *MALFORMED):
            return _PROCESSING_FAILURE, None
        finally:
            came.set()
        return _SUCCESS if known else _NO_SUCH_ARGUMENT, None

    def sent(_event: Any) -> None:
        """What leaves after the report came is our answer to it: a release before that would overtake it."""
        if came.is_set():
            done.set()

    handlers = [(evt.EVT_N_EVENT_REPORT, report), (evt.EVT_PDU_SENT, sent)]
    with associated(
        to, calling_aet, contexts((PUSH_MODEL,)), timeout_s=timeout_s, handlers=handlers
    ) as association:  # fmt: skip
        status, _ = association.send_n_action(
            _request(claim, transaction_uid), 1, UID(PUSH_MODEL), UID(PUSH_MODEL_INSTANCE)
        )
        if "Status" not in status:
            raise Unavailable(Reason.DESTINATION_BUSY, "no answer to N-ACTION: the archive broke off or timed out")
        if status.Status != _SUCCESS:
            raise Rejected(Reason.DESTINATION_REFUSED, f"commitment refused: status {int(status.Status):04X}")
        done.wait(wait_s)


def _request(claim: Claim, transaction_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = claim.sop_class_uid
    item.ReferencedSOPInstanceUID = claim.sop_uid
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [item]
    return request
