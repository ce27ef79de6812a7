"""What the pages say of a study, in words: its state, its findings, what happened to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cauda.core.domain import GradeScale, Json, Reason, level_shown
from cauda.core.retractions import Why
from cauda.core.schema import ResultKind, RevisionKind

STATES = {
    "RECEIVING": "being received",
    "COMPLETE": "complete, nothing to grade",
    "QUEUED": "waits for the grader",
    "GRADING": "being graded",
    "REPORTED": "reported",
    "REJECTED": "not analysed",
    "FAILED": "failed",
    "HELD": "held",
    "SUPERSEDED": "superseded",
    "RETRACTED": "retracted",
    "PURGED": "images purged",
}
WHYS = {why.value: why.replace("-", " ") for why in Why}
_NOTE_MADE = "{revision}: the note that takes the results back was made"
EVENTS = {
    "study_opened": "First object, from {source}",
    "study_completed": "Complete: {reason}",
    "study_reopened": "More images arrived: it waits again",
    "study_held": "Held: {text}",
    "study_released": "Released",
    "images_moved": "The images of study {other} belong here now: its results are taken back",
    "copy_accepted": "An operator said that this is a copy: it and the study with the same images both go on",
    "study_forced": "An operator said that it is complete",
    "demographics_corrected": "Patient or study attributes were corrected at the source",
    "late_images_not_graded": "Late images came after a late revision; requeue to grade them",
    "image_broken": "An image came again without a picture that can be decoded; the earlier one stays",
    "image_mended": "An image that could not be decoded came again whole, and takes the place of the broken one",
    "object_quarantined": "An object ended the listener {deaths} times while it was filed, and is kept aside: {path}",
    "object_released": "An operator has it filed again: {path}",
    "object_unfiled": "An object that says no study was kept aside: {path}",
    "archive_listed": "The archive said what it lists of this study",
    "identity_not_checked": "The archive cannot be asked whose study this is: sent as received",
    "result_changed": "The result changed after an earlier one had been sent",
    "rejection_not_made": "{revision}: the note that rejects earlier results could not be made, a bug; they stay"
    " visible at {destination}, delete them by hand",
    "page_action": "{user} asked for: {action}, {text}",
    "revision_due": "{revision} frozen: {reason}",
    "revision_claimed": "{revision}: grading began",
    "revision_grading": "{revision}: being graded",
    "revision_requeued": "{revision} will be graded again",
    "revision_put_back": "{revision} was put back: {reason}",
    "revision_superseded": "{revision} is superseded",
    "revision_reported": "{revision} reported",
    "revision_rejected": "{revision} not analysed: {reason}",
    "revision_failed": "{revision} failed: {reason}",
    "delivery_sent": "{delivery}: sending began",
    "delivery_exchanged": "{delivery}: the archive takes it only in another SOP class, and gets it in that",
    "delivery_accepted": "{delivery}: accepted",
    "delivery_committed": "{delivery}: the archive confirmed that it keeps it",
    "delivery_refused": "{delivery}: refused",
    "delivery_cancelled": "{delivery}: cancelled, {reason}",
    "delivery_parked": "{delivery}: set aside, {reason}",
    "delivery_waits": "{delivery}: waits, {reason}",
    "delivery_retried": "{delivery}: an operator sends it again",
    "delivery_released": "{delivery}: an operator lets it go",
    "delivery_not_confirmable": "{delivery}: the archive cannot be asked whether it keeps it",
    "commitment_asked": "{delivery}: the archive was asked to confirm that it keeps it",
    "commitment_failed": "{delivery}: the archive does not keep it, {text}",
    "revision_retracted": "{revision} was taken back: {reason}",
    "retraction_confirmed": "{delivery}: what it takes back is no longer listed in the archive",
    "retraction_still_visible": "{delivery}: what it takes back is still visible in the archive, delete it by hand",
    "delivery_again": "{delivery}: the archive does not keep it and is sent it again",
    "delivery_not_listed": "{delivery}: accepted, but the archive does not list it",
    "clock_stepped": "The clock was set by {step_s} s; waits and leases went on unchanged",
    "destination_away": "{destination} cannot be reached or takes nothing: {reason}",
    "destination_back": "{destination} takes objects again",
    "commitment_requested": "{asker} asked us to confirm that {instances} objects are kept",
    "commitment_decided": "What was asked by {asker} is decided",
    "commitment_told": "{asker} was told which objects are kept",
    "commitment_given_up": "{asker} could not be told which objects are kept",
    "peer_allow": "An operator lets {aet} call from {network}",
    "peer_forbid": "An operator lets {aet} no longer call from {network}",
    "peer_learn": "Who calls as {aet} from {network} is let in and remembered for a while",
    "peer_removed": "What was said of {aet} from {network} holds no more",
    "peer_learned": "{aet} called from {network} and is let in from now on",
}

_KINDS: dict[str, str] = {
    ResultKind.HEAT_MAP: "Heat map",
    ResultKind.REPLACES: "Rejection of earlier results",
    ResultKind.KO: "Retraction",
    ResultKind.WARNING: "Page that warns",
}


_STATUS = re.compile(r"(status [0-9A-F]{4}|HTTP [0-9]{3})\b")  # how a refusal's words begin


def kind(name: str) -> str:
    """What was made: ``SR``, ``SC``, or a note or page beside them."""
    return _KINDS.get(name) or name.upper()


def reason(code: str | None) -> str:
    """A reason's code in words; what is no code, and some reasons are sentences, as it is."""
    try:
        return Reason(code or "").text
    except ValueError:
        return WHYS.get(code or "", code or "")


def doubt(code: str) -> str:
    """The banner over doubted level names, in the words of SR and SC."""
    first = "lowest one shown" if code == Reason.SACRUM_NOT_SHOWN else "first one above the sacrum"
    return f"NUMBERING UNCERTAIN: {reason(code)}. Discs counted from the {first}."


def archive_words(text: str | None, user: str | None) -> str:
    """An archive's own words, only for who logged in: they may name a patient. A status is shown to all."""
    if user or not text:
        return text or ""
    status = _STATUS.match(text)
    hidden = "(the archive's words are shown after a login, or by `cauda studies show`)"
    return f"{status[0]} {hidden}" if status else hidden


def level(code: str) -> str:
    """A level of ``report.json`` as SR and SC call it."""
    return level_shown(code)


def why(study: Json) -> str:
    """Why a study is where it is; the words of a failure are an error's name, which says nothing alone."""
    code, text = reason(study["reason"]), study["reason_text"]
    return f"{code}: {text}" if study["state"] == "FAILED" and text else text or code


def finding(one: Mapping[str, Any], scale: str | None) -> str:
    """``Moderate (Severe possible)``, ``Not imaged: ...`` or ``NOT GRADED: ...``: the words of SR and SC."""
    if one["grade"] is None:
        said = reason(one["abstained"])
        return f"Not imaged: {said}" if one["abstained"] == Reason.NOT_IMAGED else f"NOT GRADED: {said}"
    grade = one["grade"] if scale == GradeScale.RSNA_3 else f"Schizas {one['grade']}"
    others = [other for other in one["possible"] or () if other != one["grade"]]
    return f"{grade} ({' or '.join(others)} possible)" if others else grade


def step(one: Mapping[str, Any]) -> str:
    """How a finding is set: ``none`` (not graded), ``1`` mild, ``2`` moderate, ``3`` severe."""
    grade = one["grade"]
    if grade is None:
        return "none"
    return {"Normal/Mild": "1", "Moderate": "2", "Severe": "3"}.get(grade) or {"A": "1", "B": "2"}.get(grade[0], "3")


def event(one: Mapping[str, Any], found: Json) -> str:
    """One line of the timeline."""
    revisions = {revision["id"]: f"Revision {revision['number']}" for revision in found["revisions"]}
    deliveries = {
        delivery["id"]: f"{kind(delivery['kind'])} to {delivery['destination']}" for delivery in found["deliveries"]
    }
    words = {key: value for key, value in one.items() if isinstance(value, str | int)} | {
        "reason": reason(one.get("reason")),
        "revision": revisions.get(one["revision_id"], "A revision"),
        "delivery": deliveries.get(one["delivery_id"], "A result"),
    }
    notes = {revision["id"] for revision in found["revisions"] if revision.get("kind") == RevisionKind.RETRACT}
    made = one["event"] == "revision_retracted" and one["revision_id"] in notes
    form = _NOTE_MADE if made else EVENTS.get(one["event"])
    if form is None:
        return f"{one['event'].replace('_', ' ')} {words['reason']}".strip().capitalize()
    return form.format_map(_Gaps(words)).rstrip(" :,;")


class _Gaps(dict[str, Any]):
    """What an event does not say stays empty: an older version may have written it."""

    def __missing__(self, _key: str) -> str:
        return ""
