"""Storage commitment on the wire (PS3.4 J): what a sender may ask of us, and what an archive reports of our results.

The first is off by default, and then not negotiated: a modality takes it as leave to delete its copy (CLINICAL.md 2).
The second is always taken, from whoever may call and takes the SCP's role for it (CLINICAL.md 28), under our title or
the one that asked. Archives that know nothing of roles report without: where a destination has `commitment` on, the
context is accepted from them too, and a request for commitment in it is answered 0211.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydicom import Dataset
from pynetdicom import evt

from cauda.archive.commitment import MALFORMED, read_instances, read_report
from cauda.core import commitments, log, stack, uids
from cauda.core.commitments import PUSH_MODEL, PUSH_MODEL_INSTANCE
from cauda.core.errors import CaudaError, Rejected
from cauda.core.ledger import Ledger
from cauda.core.settings import Settings
from cauda.listener.committer import Committer

_ASK = 1  # Action Type ID (PS3.4 J.3.2)
_COMPLETE, _WITH_FAILURES = 1, 2  # Event Type IDs (J.3.3)
_SUCCESS, _FAILURE, _NO_SUCH_INSTANCE, _NO_SUCH_EVENT = 0x0000, 0x0110, 0x0112, 0x0113
_INVALID, _NO_SUCH_ACTION, _UNRECOGNISED, _NO_ROOM = 0x0115, 0x0123, 0x0211, 0x0213


def titles(settings: Settings) -> frozenset[str]:
    """Those by which archives know us beside our own: they report to the one that asked them."""
    used = {one.calling_aet for one in settings.destinations if one.commitment and one.calling_aet}
    return frozenset(used) - {settings.node.aet}


def awaits_reports(settings: Settings) -> bool:
    """Whether a destination is asked for commitment, and so may report."""
    return any(destination.commitment for destination in settings.destinations)


def handlers(ledger: Ledger, committer: Committer | None, settings: Settings) -> list[Any]:
    """For ``make_server``; without a committer nobody may ask, and under another title than the node's neither."""
    asked = settings.node.aet if committer is not None else None
    return [
        (evt.EVT_REQUESTED, _negotiate, [asked, awaits_reports(settings)]),
        (evt.EVT_N_ACTION, _asked, [committer, asked]),
        (evt.EVT_N_EVENT_REPORT, _reported, [ledger]),
        *([(evt.EVT_DIMSE_RECV, committer.heard)] if committer is not None else []),
    ]


def _negotiate(event: Any, asked: str | None, reports_awaited: bool) -> None:
    """Take from this association's contexts the roles that nobody may have (PS3.7 D.3.3.4); who calls ``asked`` may.

    Without role selection the caller is SCU, but may mean to report.
    """
    acceptor, requestor = event.assoc.acceptor, event.assoc.requestor
    turned_away = not acceptor.writeable
    if turned_away or asked == _called(event):
        return
    if all(one.abstract_syntax != PUSH_MODEL for one in requestor.primitive.presentation_context_definition_list):
        return
    proposed = requestor.role_selection.get(PUSH_MODEL)
    if proposed is None and reports_awaited:
        return
    contexts = acceptor.supported_contexts
    others = [context for context in contexts if context.abstract_syntax != PUSH_MODEL]
    if proposed is not None and proposed.scp_role:
        # copies: the contexts themselves are those of every association
        reporting = [deepcopy(context) for context in contexts if context.abstract_syntax == PUSH_MODEL]
        for context in reporting:
            context.scu_role = False
        others += reporting
    acceptor.supported_contexts = others


def _called(event: Any) -> str:
    return str(event.assoc.requestor.primitive.called_ae_title).strip()


def _asked(event: Any, committer: Committer | None, asked: str | None) -> tuple[int, None]:
    if committer is None or asked != _called(event):
        return _UNRECOGNISED, None
    if event.action_type != _ASK:
        return _NO_SUCH_ACTION, None
    if str(event.request.RequestedSOPInstanceUID) != PUSH_MODEL_INSTANCE:
        return _NO_SUCH_INSTANCE, None
    return _at_the_border(lambda: _enter(event, committer)), None


def _enter(event: Any, committer: Committer) -> int:
    information = event.action_information
    transaction = uids.checked(str(information.TransactionUID), "Transaction UID")
    instances = read_instances(information.ReferencedSOPSequence)
    committer.asked(event.assoc, transaction, instances)
    return _SUCCESS


def _reported(event: Any, ledger: Ledger) -> tuple[int, None]:
    if event.event_type not in {_COMPLETE, _WITH_FAILURES}:
        return _NO_SUCH_EVENT, None
    return _at_the_border(lambda: _answered(event.event_information, ledger)), None


def _answered(information: Dataset, ledger: Ledger) -> int:
    report = read_report(information)
    if commitments.answered(ledger, report.transaction_uid, report.committed, report.failed):
        return _SUCCESS
    log.get("commitment").warning("report_of_no_transaction", transaction_uid=report.transaction_uid)
    return _INVALID


def _at_the_border(serve: Any) -> int:
    """Whatever happens becomes a status; what is the world's fault may be tried again by the peer."""
    try:
        return int(serve())
    except Rejected as error:
        log.get("commitment").warning("commitment_refused", reason=error.reason, message=error.message)
        return _INVALID
    except CaudaError as error:
        log.get("commitment").warning("commitment_waits", reason=error.reason, message=error.message)
        return _NO_ROOM
    except MALFORMED as error:
        log.get("commitment").warning("commitment_malformed", why=type(error).__name__)
        return _INVALID
    except Exception as error:  # noqa: BLE001  the DIMSE border
        log.get("commitment").error("commitment_failed", stack=stack.of(error))
        return _FAILURE
