"""What an operator can do to a study from its page: the same as with `cauda studies` and `cauda deliveries`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from cauda.core import doubles, intake, resending, retractions, revisions
from cauda.core.domain import Json, Reason
from cauda.core.ledger import Ledger, record
from cauda.core.retractions import Why
from cauda.core.revisions import Fingerprint
from cauda.core.schema import DeliveryState, RevisionKind, RevisionState
from cauda.listener.phrases import WHYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an operator said with a button, and what the node is now."""

    text: str
    choice: str
    fingerprint: Fingerprint


Act = Callable[[Ledger, Connection, str, Said], object]


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
    must_say: bool = False  # nothing happens without that text
    choices: Mapping[str, str] = field(default_factory=dict)  # what has to be chosen from, in words


def _hold(ledger: Ledger, conn: Connection, uid: str, said: Said) -> object:
    return intake.hold(ledger, conn, uid, Reason.OPERATOR, said.text or "held by an operator")


def _has_results(found: Json) -> bool:
    ended = {RevisionState.REPORTED, RevisionState.REJECTED}
    return any(one["kind"] != RevisionKind.RETRACT and one["state"] in ended for one in found["revisions"])


def _can_go_again(found: Json) -> bool:
    state = DeliveryState
    return any(
        one["state"] == state.DUE or (one["state"] == state.REFUSED and not one["outdated"])
        for one in found["deliveries"]
    )


def _is_double(found: Json) -> bool:
    return bool(found["reason"] == Reason.KNOWN_ELSEWHERE)


def _is_late(found: Json) -> bool:
    late = (DeliveryState.PARKED, Reason.TOO_LATE)
    return any((one["state"], one["reason"]) == late for one in found["deliveries"])


ACTIONS: Mapping[str, Action] = {
    "complete": Action(
        label="Complete now",
        effect="Wait for no more images: grade what is here.",
        done="It completes within a second.",
        refused="It is not being received.",
        offered=lambda found: found["waits_for"] is not None,
        act=lambda ledger, conn, uid, _said: intake.force_complete(ledger, conn, uid),
    ),
    "requeue": Action(
        label="Grade again",
        effect="As a new revision, if anything of the last one was made.",
        done="It will be graded again.",
        refused="It has never been complete.",
        offered=lambda found: bool(found["revisions"]),
        act=lambda ledger, conn, uid, said: revisions.requeue(ledger, conn, uid, fingerprint=said.fingerprint),
    ),
    "retry": Action(
        label="Send again",
        effect="What was refused or waits is due now, but nothing refused that a later revision replaced.",
        done="What was refused or waited is due now.",
        refused="Nothing was refused or waits, or a later revision replaced it.",
        offered=_can_go_again,
        act=lambda ledger, conn, uid, _said: resending.retry(ledger, conn, study_uid=uid),
    ),
    "send-late": Action(
        label="Send although late",
        effect="What was set aside because it came too late is due now.",
        done="What was set aside for being late is due now.",
        refused="Nothing was set aside for being late.",
        offered=_is_late,
        act=lambda ledger, conn, uid, _said: resending.release(ledger, conn, study_uid=uid),
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
        done="It goes on. Where it is still held, there is another reason.",
        refused="It is not held.",
        offered=lambda found: found["state"] == "HELD" and not _is_double(found),
        act=lambda ledger, conn, uid, _said: doubles.release(ledger, conn, uid, double=None),
    ),
    "moved": Action(
        label="Release: the images were moved here",
        effect="It goes on. The other study that has its images is held, and its results are taken back.",
        done="It goes on. The other study is held and its results are taken back.",
        refused="It is not held.",
        offered=_is_double,
        act=lambda ledger, conn, uid, _said: doubles.release(ledger, conn, uid),
    ),
    "copy": Action(
        label="Release: this is a copy",
        effect="Both studies go on.",
        done="Both go on.",
        refused="It is not held.",
        offered=_is_double,
        act=lambda ledger, conn, uid, _said: doubles.release(ledger, conn, uid, double="copy"),
    ),
    "retract": Action(
        label="Retract",
        effect="Take the results back: what is unsent is cancelled, archives that have some get a rejection note.",
        done="The results are taken back. What is still visible in an archive will stand below.",
        refused="Nothing was made of it that could be taken back.",
        offered=_has_results,
        act=lambda ledger, conn, uid, said: retractions.retract(ledger, conn, uid, Why(said.choice)),
        asks="Why, in your words (no patient data)",
        must_say=True,
        choices=WHYS,
    ),
}


def missing(action: Action, said: Said) -> str:
    """What has to be said before it is done, in words; empty when nothing is missing."""
    if action.choices and said.choice not in action.choices:
        return f"Choose one of: {', '.join(action.choices.values())}."
    return f"Say it first: {action.asks}." if action.must_say and not said.text.strip() else ""


def perform(ledger: Ledger, uid: str, name: str, *, said: Said, user: str) -> bool:
    """Do it, and write down who asked and why; False when the study was not in a state for it."""
    action = ACTIONS[name]
    why: Json = {"text": said.text} if action.must_say else {}
    with ledger.write() as conn:
        done = bool(action.act(ledger, conn, uid, said))
        if done:
            record(ledger, conn, "page_action", study_uid=uid, user=user, action=action.label, **why)
    return done
