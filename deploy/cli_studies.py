"""`cauda studies`: what became of them, and an operator's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from cauda.core import doubles, intake, retractions, revisions, views
from cauda.core.domain import Reason, level_shown
from cauda.core.ledger import Ledger
from cauda.core.retractions import Why
from cauda.deploy import bootstrap, output
from cauda.deploy.opened import open_existing
from cauda.deploy.options import Options, common
from cauda.listener import completeness

app = typer.Typer(no_args_is_help=True, help="What became of studies, and an operator's word on them.")

StudyUid = Annotated[str, typer.Argument(help="Study Instance UID.")]


@app.command("list")
@common
def list_(
    options: Options,
    *,
    as_json: output.AsJson = False,
    state: Annotated[
        str | None,
        typer.Option(help="RECEIVING, QUEUED, GRADING, REPORTED, REJECTED, FAILED, HELD, SUPERSEDED, PURGED ..."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
) -> None:
    """The newest studies and where each is."""
    with open_existing(options.settings()).read() as conn:
        rows = views.studies(conn, limit=limit, state=state)
    if as_json:
        output.show_json(rows)
        return
    output.show_table(
        rows,
        {
            "study_uid": "STUDY", "state": "STATE", "reason": "REASON", "images": "IMAGES", "source": "FROM",
            "first_at": "SINCE (UTC)", "revision": "REVISION", "deliveries": "DELIVERIES",
        },
    )  # fmt: skip


@app.command()
@common
def show(options: Options, uid: StudyUid, *, as_json: output.AsJson = False) -> None:
    """One study: its revisions, findings, deliveries and events."""
    settings = options.settings()
    opened = open_existing(settings)
    with opened.read() as conn:
        found = views.study(conn, uid)
        waits_for = completeness.waits_for(opened, conn, [uid], settings.completeness).get(uid)
    if found is None:
        _unknown(uid)
        return
    found["waits_for"] = waits_for
    if as_json:
        output.show_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    for key in ("study_uid", "state", "reason", "reason_text", "source", "images", "first_at", "waits_for",
                "complete_reason"):  # fmt: skip
        output.say(f"{key.replace('_', ' '):16} {output.cell(found[key])}")
    if found["archive"] is not None:
        output.say(f"{'archive':16} {_archive_words(found['archive'])}")
    for revision in found["revisions"]:
        output.say(f"\nrevision {revision['number']}: {revision['state']} {revision['reason'] or ''}".rstrip())
        output.say(f"complete because: {revision['complete_reason']}")
        if revision["reason_text"]:
            output.say(revision["reason_text"])
        if revision["findings"]:
            findings = [one | {"level": level_shown(one["level"])} for one in revision["findings"]]
            output.show_table(findings, {"level": "LEVEL", "grade": "GRADE", "abstained": "NOT GRADED"})
    if found["deliveries"]:
        output.say("\ndeliveries")
        output.show_table(found["deliveries"], DELIVERY_COLUMNS)
    output.say("\nevents")
    output.show_table(
        [{"at": e["at"], "event": e["event"], "reason": e.get("reason")} for e in found["events"]],
        {"at": "AT (UTC)", "event": "EVENT", "reason": "REASON"},
    )


def _archive_words(listed: dict[str, Any]) -> str:
    words = "never answered" if listed["answered_at"] is None else (
        f"lists {len(listed['series'])} MR series since {listed['since']}, last answered {listed['answered_at']}"
    )  # fmt: skip
    return f"{words}; asked {listed['asked_at']}: {listed['problem']}" if listed["problem"] else words


DELIVERY_COLUMNS = {
    "id": "ID", "kind": "KIND", "destination": "TO", "state": "STATE", "attempt": "ATTEMPT", "reason": "REASON",
    "reason_text": "WORDS", "due_at": "DUE (UTC)",
}  # fmt: skip


@app.command()
@common
def complete(options: Options, uid: StudyUid) -> None:
    """Say that a study is complete, so that it is graded now."""
    _operate(options, uid, "is not receiving", lambda ledger, conn: intake.force_complete(ledger, conn, uid))


@app.command()
@common
def requeue(options: Options, uid: StudyUid) -> None:
    """Grade a study again: as a new revision, if anything of the last one was published."""
    settings = options.settings()
    named = settings.grading.bundle is not None
    fingerprint = bootstrap.fingerprint(bootstrap.with_bundle(settings))

    def again(ledger: Ledger, conn: Connection) -> bool:
        # Where nobody names a bundle, the one that the node used last: `cauda up` takes the starter by itself.
        digest = fingerprint.bundle_digest if named else views.last_bundle(conn)
        now = replace(fingerprint, bundle_digest=digest)
        return revisions.requeue(ledger, conn, uid, fingerprint=now) is not None

    _operate(options, uid, "has never been complete; see `cauda studies complete`", again)


@app.command()
@common
def hold(
    options: Options,
    uid: StudyUid,
    *,
    text: Annotated[str, typer.Option(help="Why; no patient data.")] = "held by an operator",
) -> None:
    """Stop grading and delivery of a study at once."""
    _operate(
        options, uid, "is held already", lambda ledger, conn: intake.hold(ledger, conn, uid, Reason.OPERATOR, text)
    )


@app.command()
@common
def release(
    options: Options,
    uid: StudyUid,
    *,
    copy: Annotated[
        bool, typer.Option("--copy", help="It is a copy of a study that stays what it is: both go on.")
    ] = False,
) -> None:
    """Let a held study go on.

    One whose images are known under another study counts as where they were moved: that other study is held and its
    results are taken back, unless --copy says that both go on.
    """
    opened = open_existing(options.settings())
    with opened.write() as conn:
        done = doubles.release(opened, conn, uid, double="copy" if copy else "move")
        found = views.study(conn, uid)
    if found is None:
        _unknown(uid)
    elif done is None:
        output.complain(f"{uid} is not held")
        raise typer.Exit(output.NO)
    else:
        output.say(f"{uid} {found['state']}" + (f": {found['reason_text']}" if done.held_for else ""))
        for other in done.withdrawn:
            output.say(f"{other} HELD: its images were moved to {uid}; its results are taken back")


@app.command()
@common
def retract(
    options: Options,
    uid: StudyUid,
    *,
    reason: Annotated[Why, typer.Option(help="Why the results are taken back.")],
) -> None:
    """Take the results of a study back: what is unsent is cancelled, archives that have some get a rejection note.

    They are read afterwards. Where results stay visible, a page RETRACTED: DO NOT USE is sent, and `cauda studies show`
    says: still visible in PACS, delete by hand.
    """
    opened = open_existing(options.settings())
    with opened.write() as conn:
        done = retractions.retract(opened, conn, uid, reason)
        found = views.study(conn, uid)
    if found is None:
        _unknown(uid)
    if done is None:
        output.complain(f"{uid} has no results to take back")
        raise typer.Exit(output.NO)
    output.say(f"{uid} RETRACTED: {done.cancelled} unsent cancelled")
    for name in done.noted:
        output.say(f"a rejection note goes to {name}; see `cauda studies show {uid}` for what is still visible there")


def _operate(options: Options, uid: str, otherwise: str, act: Callable[[Ledger, Connection], bool]) -> None:
    opened = open_existing(options.settings())
    with opened.write() as conn:
        done = act(opened, conn)
        found = views.study(conn, uid)
    if found is None:
        _unknown(uid)
    elif not done:
        output.complain(f"{uid} {otherwise}")
        raise typer.Exit(output.NO)
    else:
        output.say(f"{uid} {found['state']}")


def _unknown(uid: str) -> None:
    output.complain(f"no study {uid} here")
    raise typer.Exit(output.NO)
