"""What an operator can do to a study from its page: the same as with `cauda studies` and `cauda deliveries`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from cauda.core import deliveries, intake, revisions
from cauda.core.domain import Json, Reason
from cauda.core.ledger import Ledger, record
from cauda.core.revisions import Fingerprint

Act = Callable[[Ledger, Connection, str, str, Fingerprint], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One button: what it is called, what it does in words, when it is offered, and what happens."""

    label: str
    effect: str
    done: str
    refused: str
    offered: Callable[[Json], bool]
    act: Act
    asks: str = ""  # the label of the text that goes with it


def _hold(ledger: Ledger, conn: Connection, uid: str, text: str, _fingerprint: Fingerprint) -> object:
    return intake.hold(ledger, conn, uid, Reason.OPERATOR, text or "held by an operator")


ACTIONS: Mapping[str, Action] = {
    "complete": Action(
        label="Complete now",
        effect="Wait for no more images: grade what is here.",
        done="It completes within a second.",
        refused="It is not being received.",
        offered=lambda found: found["waits_for"] is not None,
        act=lambda ledger, conn, uid, _text, _fingerprint: intake.force_complete(ledger, conn, uid),
    ),
    "requeue": Action(
        label="Grade again",
        effect="As a new revision, if anything of the last one was made.",
        done="It will be graded again.",
        refused="It has never been complete.",
        offered=lambda found: bool(found["revisions"]),
        act=lambda ledger, conn, uid, _text, fingerprint: revisions.requeue(ledger, conn, uid, fingerprint=fingerprint),
    ),
    "retry": Action(
        label="Send again",
        effect="What was refused or waits is due now.",
        done="What was refused or waited is due now.",
        refused="Nothing was refused or waits.",
        offered=lambda found: any(one["state"] in {"due", "refused"} for one in found["deliveries"]),
        act=lambda ledger, conn, uid, _text, _fingerprint: deliveries.retry(ledger, conn, study_uid=uid),
    ),
    "hold": Action(
        label="Hold",
        effect="Stop grading and delivery at once.",
        done="It is held.",
        refused="It is held already.",
        offered=lambda found: found["state"] != "HELD",
        act=_hold,
        asks="Why (no patient data)",
    ),
    "release": Action(
        label="Release",
        effect="Let grading and delivery go on.",
        done="It goes on.",
        refused="It is not held.",
        offered=lambda found: found["state"] == "HELD",
        act=lambda ledger, conn, uid, _text, _fingerprint: intake.release(ledger, conn, uid),
    ),
}


def perform(ledger: Ledger, uid: str, name: str, *, text: str, user: str, fingerprint: Fingerprint) -> bool:
    """Do it, and write down who asked; False when the study was not in a state for it."""
    with ledger.write() as conn:
        done = bool(ACTIONS[name].act(ledger, conn, uid, text, fingerprint))
        if done:
            record(ledger, conn, "page_action", study_uid=uid, user=user, action=ACTIONS[name].label)
    return done
