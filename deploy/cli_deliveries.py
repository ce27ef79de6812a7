"""`cauda deliveries`: results on their way, and sending them again."""

from __future__ import annotations

from typing import Annotated

import typer

from cauda.core import resending, views
from cauda.deploy import output
from cauda.deploy.cli_studies import DELIVERY_COLUMNS
from cauda.deploy.opened import open_existing
from cauda.deploy.options import Options, common

app = typer.Typer(no_args_is_help=True, help="Results on their way to destinations.")

Study = Annotated[str | None, typer.Option("--study", help="Only of this Study Instance UID.")]


@app.command("list")
@common
def list_(
    options: Options,
    *,
    as_json: output.AsJson = False,
    study: Study = None,
    state: Annotated[
        str | None, typer.Option(help="due, sent, accepted, committed, refused, cancelled or parked.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
) -> None:
    """The newest deliveries and where each is."""
    with open_existing(options.settings()).read() as conn:
        rows = views.deliveries(conn, study_uid=study, state=state, limit=limit)
    if as_json:
        output.show_json(rows)
    else:
        output.show_table(rows, {"study_uid": "STUDY"} | DELIVERY_COLUMNS)


@app.command()
@common
def retry(
    options: Options,
    *,
    study: Study = None,
    to: Annotated[str | None, typer.Option("--to", help="Only to the destination of this name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever was refused or waits.")] = False,
) -> None:
    """Send again now what was refused or waits; nothing refused that a later revision replaced."""
    if not everything and study is None and to is None:
        output.complain("say which: --study, --to or --all")
        raise typer.Exit(output.MISCONFIGURED)
    opened = open_existing(options.settings())
    with opened.write() as conn:
        done = resending.retry(opened, conn, study_uid=study, destination=to)
    output.say(f"{done.due} {'delivery' if done.due == 1 else 'deliveries'} due now")
    for one in done.outdated:
        output.say(
            f"not sent again: refused results of {one} that a later revision replaced or an operator took back; "
            f"where an archive lacks the newer ones, `cauda studies requeue {one}` makes them again"
        )
    if not done:
        raise typer.Exit(output.NO)


@app.command()
@common
def release(
    options: Options,
    *,
    study: Study = None,
    to: Annotated[str | None, typer.Option("--to", help="Only to the destination of this name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever was parked, for any destination.")] = False,
    kept_back: Annotated[
        bool, typer.Option("--kept-back", help="Also what a setting kept back that is another one now.")
    ] = False,
) -> None:
    """Send what was parked because it came later than delivery.deliver_within_s; the newest study goes first.

    What a setting kept back (shadow, research, phantoms) stays parked without --kept-back, and with it where the
    settings still say so.
    """
    if not everything and study is None and to is None:
        output.complain("say which: --study, --to or --all")
        raise typer.Exit(output.MISCONFIGURED)
    opened = open_existing(options.settings())
    with opened.write() as conn:
        count = resending.release(opened, conn, study_uid=study, destination=to, kept_back=kept_back)
        kept = views.deliveries(conn, study_uid=study, state="parked", limit=1)
    output.say(f"{count} {'delivery' if count == 1 else 'deliveries'} due now")
    if kept:
        output.say("others stay parked: `cauda deliveries list --state parked` says why")
        if not kept_back:
            output.say("--kept-back lets go what a setting kept back that is another one now")
    if count == 0:
        raise typer.Exit(output.NO)
