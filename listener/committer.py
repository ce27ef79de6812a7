"""Decides what is committed, and tells who asked: one thread, whose work lies in the ledger.

An instance is committed only after the archive in ``[source]`` said that it holds it (CLINICAL.md 2). The asker is told
on its own association if that is still open a moment later, else on a new one, to the address in ``[commitment]``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID
from pynetdicom import build_role
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from cauda.archive.association import associated, contexts
from cauda.archive.holdings import held_instances
from cauda.core import commitment_requests, log, stack
from cauda.core.commitment_requests import Instance, Request
from cauda.core.commitments import PUSH_MODEL, PUSH_MODEL_INSTANCE
from cauda.core.errors import Rejected, Unavailable
from cauda.core.ledger import Ledger
from cauda.core.settings import Destination, Settings

# Failure Reason (0008,1197), PS3.3 C.14.1.1
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_INSTANCE_CONFLICT = 0x0110, 0x0112, 0x0119

_SUCCESS = 0x0000
_LOOK_EVERY_S = 0.5
_QUIET_S = 0.5
_ANSWER_S = 10.0
_LEASE_S = 300.0
_GRACE_S = 1.0  # who lets go of its association does so within this; then a new one is used
_OWN_S = 10.0  # after its listener has been silent for so long another takes a request
_ARCHIVE_AGAIN_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S, _GIVE_UP_S = 5.0, 900.0, 3 * 86_400.0


class Committer:
    """Owns the thread."""

    def __init__(self, ledger: Ledger, settings: Settings, token: str) -> None:
        """``token`` is the process's in the ledger."""
        self._ledger = ledger
        self._settings = settings
        self._token = token
        self._open: dict[int, Association] = {}  # by request
        self._answers: dict[int, queue.Queue[int | None]] = {}  # by id(association), while one is awaited
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Begin nothing new; what is left is in the ledger."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=self._settings.source.timeout_s + 1)

    def asked(self, association: Association, transaction_uid: str, instances: Sequence[Instance]) -> None:
        """Enter a request before it is answered; Rejected and Unavailable as `commitment_requests.ask`."""
        key = commitment_requests.ask(
            self._ledger,
            asker=str(association.requestor.ae_title).strip(),
            transaction_uid=transaction_uid,
            instances=instances,
            listener=self._token,
            lease_s=_OWN_S,
            after_s=_GRACE_S,
        )
        with self._lock:
            self._open = {k: v for k, v in self._open.items() if v.is_established} | {key: association}

    def heard(self, event: Any) -> None:
        """Handler of everything that is received: an answer to a report of ours, on the asker's own association."""
        if not isinstance(event.message, N_EVENT_REPORT_RSP):
            return
        waiting = self._answers.get(id(event.assoc))
        if waiting is not None:
            waiting.put(event.message.command_set.get("Status"))

    def _run(self) -> None:
        logger = log.get("commitment")
        while not self._stop.is_set():
            try:
                if self.work():
                    continue
            except Unavailable as error:  # the ledger's
                logger.debug("commitment_waits", reason=error.reason)
            except Exception as error:  # noqa: BLE001  one strange request must not end all
                logger.error("commitment_failed", stack=stack.of(error))
            self._stop.wait(_LOOK_EVERY_S)

    def work(self) -> bool:
        """One step of the next request whose time has come; False when there is none."""
        request = commitment_requests.take(self._ledger, listener=self._token, lease_s=_LEASE_S)
        if request is None:
            return False
        failed = request.failed
        if failed is None:
            failed = self._decide(request)
            if failed is None or not commitment_requests.decided(self._ledger, request, failed):
                return True
        self._tell(request, failed)
        return True

    def _decide(self, request: Request) -> dict[str, int] | None:
        """Failure reasons by SOP Instance UID; None when the archive may still get the rest, or come back."""
        wait_s = self._settings.commitment.wait_s
        places = commitment_requests.places(self._ledger, (sop_uid for _, sop_uid in request.instances))
        try:
            held = held_instances(self._settings, [sop_uid for _, sop_uid in request.instances], places)
            problem = ""
        except (Unavailable, Rejected) as error:
            held, problem = {}, error.message
        failed = {
            sop_uid: reason
            for sop_class, sop_uid in request.instances
            if (reason := _failure(sop_class, held.get(sop_uid), silent=bool(problem)))
        }
        if failed and request.age_s < wait_s:
            delay_s = min(_ARCHIVE_AGAIN_S, wait_s / 4)
            words = problem or f"the archive does not hold {len(failed)} of {len(request.instances)} yet"
            commitment_requests.later(self._ledger, request, delay_s=delay_s, problem=words)
            return None
        return failed

    def _tell(self, request: Request, failed: Mapping[str, int]) -> None:
        with self._lock:
            association = self._open.get(request.id)
        if association is not None and association.is_established and not _quiet(association):
            commitment_requests.later(self._ledger, request, delay_s=_GRACE_S, problem="its association is busy")
            return
        with self._lock:
            self._open.pop(request.id, None)
        report = _report(request, failed, self._archive_aet())
        problem = "its association is closed"
        if association is not None and association.is_established and self._said(association, report):
            problem = ""
        elif to := next((one for one in self._settings.commitment.askers if one.aet == request.asker), None):
            problem = self._call(to.host, to.port, to.aet, report)
        else:
            problem += f", and commitment.askers has no {request.asker}"
        if not problem:
            commitment_requests.told(self._ledger, request)
        elif request.age_s > _GIVE_UP_S:
            commitment_requests.given_up(self._ledger, request, problem)
        else:
            log.get("commitment").warning("asker_not_told", asker=request.asker, problem=problem)
            wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(request.attempts - 1, 20))
            commitment_requests.later(self._ledger, request, delay_s=wait_s, problem=problem)

    def _said(self, association: Association, report: Dataset) -> bool:
        """Report on the asker's association, whose own thread goes on serving it.

        An image that comes meanwhile is stored; pynetdicom's own `send_n_event_report` would take it for the answer.
        """
        context = next((one for one in association.accepted_contexts if one.abstract_syntax == PUSH_MODEL), None)
        if context is None or context.context_id is None:
            return False
        syntax = context.transfer_syntax[0]
        content = encode(report, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        request = N_EVENT_REPORT()
        request.MessageID = 1
        request.AffectedSOPClassUID = UID(PUSH_MODEL)
        request.AffectedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
        request.EventTypeID = _kind(report)
        request.EventInformation = BytesIO(content or b"")
        answers: queue.Queue[int | None] = queue.Queue()
        self._answers[id(association)] = answers
        try:
            association.dimse.send_msg(request, context.context_id)
            return answers.get(timeout=_ANSWER_S) == _SUCCESS
        except queue.Empty:
            return False
        finally:
            del self._answers[id(association)]

    def _archive_aet(self) -> str | None:
        source = self._settings.source
        return source.archive().aet if source.url else None

    def _call(self, host: str, port: int, aet: str, report: Dataset) -> str:
        """Report on an association of our own, as its SCP; returns what went wrong."""
        to = Destination(name=aet, kind="dimse", aet=aet, host=host, port=port)
        role = build_role(PUSH_MODEL, scp_role=True)
        try:
            with associated(
                to, self._settings.node.aet, contexts((PUSH_MODEL,)), timeout_s=_ANSWER_S, roles=[role]
            ) as association:
                return "" if _sent(association, report) else f"{aet} did not take the report"
        except (Unavailable, Rejected) as error:
            return f"{aet}: {error.message}"


def _failure(sop_class: str, held: str | None, *, silent: bool) -> int:
    """Why an instance is not committed; 0 when it is. ``held``: its SOP class there, empty where it is not said."""
    if held is None:
        return PROCESSING_FAILURE if silent else NO_SUCH_INSTANCE
    return CLASS_INSTANCE_CONFLICT if held not in {"", sop_class} else 0


def _report(request: Request, failed: Mapping[str, int], archive: str | None) -> Dataset:
    report = Dataset()
    report.TransactionUID = request.transaction_uid
    if archive is not None:
        report.RetrieveAETitle = archive
    good = [one for one in request.instances if one[1] not in failed]
    if good:
        report.ReferencedSOPSequence = DicomSequence([_reference(*one) for one in good])
    if failed:
        bad = [_reference(*one) for one in request.instances if one[1] in failed]
        for one in bad:
            one.FailureReason = failed[one.ReferencedSOPInstanceUID]
        report.FailedSOPSequence = DicomSequence(bad)
    return report


def _reference(sop_class: str, sop_uid: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class
    reference.ReferencedSOPInstanceUID = sop_uid
    return reference


def _kind(report: Dataset) -> int:
    """Event Type ID (PS3.4 J.3.3): complete, or with failures."""
    return 2 if "FailedSOPSequence" in report else 1


def _quiet(association: Association) -> bool:
    """Whether nothing has come on it for a moment: in the middle of an image we say nothing."""
    timer = association.dul._idle_timer  # noqa: SLF001  restarted by whatever comes, on both data paths
    return bool(timer.timeout is None or timer.timeout - timer.remaining >= _QUIET_S)


def _sent(association: Association, report: Dataset) -> bool:
    try:
        status, _ = association.send_n_event_report(report, _kind(report), PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (RuntimeError, ValueError):  # it ended meanwhile
        return False
    return bool(status.get("Status") == _SUCCESS)
