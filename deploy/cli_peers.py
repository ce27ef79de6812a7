"""`cauda peers`: who may send, who was turned away, and what an operator says of either while the node runs."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer
from sqlalchemy import Connection, select

from cauda.core import peers, schema, views
from cauda.core.domain import Json, Reason
from cauda.core.peers import Bounds, Entry
from cauda.core.refusals import PEER_REFUSALS
from cauda.core.schema import PeerRule
from cauda.core.settings import Peer, Settings
from cauda.deploy import output
from cauda.deploy.opened import open_existing
from cauda.deploy.options import Options, common

app = typer.Typer(no_args_is_help=True, help="Who may send, and who was turned away.")

Caller = Annotated[str, typer.Argument(metavar="[AET@]NETWORK", help="CT1@10.1.0.7, or 10.1.0.0/16 for any AE title.")]


@app.command("list")
@common
def list_(options: Options, *, as_json: output.AsJson = False) -> None:
    """Who may send, and who was turned away, with what would let them in."""
    settings = options.settings()
    opened = open_existing(settings)
    with opened.read() as conn:
        said = peers.entries(opened, conn)
        table = schema.refused_peer
        refused = [
            _refused(settings, conn, row) for row in conn.execute(select(table).order_by(table.c.last_at.desc()))
        ]
    allowed = [
        *(_configured(peer) for peer in settings.peers),
        *(_allowed(one) for one in said if one.rule is not PeerRule.FORBID),
    ]
    forbidden = [{"aet": one.aet, "network": str(one.network)} for one in said if one.rule is PeerRule.FORBID]
    if as_json:
        output.show_json({"allowed": allowed, "forbidden": forbidden, "refused": refused})
        return
    output.show_table(allowed, {"aet": "ALLOWED", "network": "FROM", "by": "BY", "bounds": "BOUNDS"})
    if forbidden:
        output.say("")
        output.show_table(forbidden, {"aet": "FORBIDDEN", "network": "FROM"})
    if refused:
        output.say("")
        output.show_table(
            [row | {"aet": row["aet"] or "-", "reason": f"{row['reason']}: {row['words']}"} for row in refused],
            {"aet": "REFUSED", "address": "FROM", "reason": "WHY", "count": "TIMES", "last_at": "LAST",
             "allow": "TO LET IT IN"},
        )  # fmt: skip


def _configured(peer: Peer) -> Json:
    bounds = str(peers.bounds_of(peer))
    return {"aet": peer.aet, "network": peer.network, "by": "configuration", "bounds": bounds}


def _allowed(one: Entry) -> Json:
    by = "learned" if one.learned else "operator"
    if one.left_s is not None:
        by = f"learning, {max(1, round(one.left_s / 60))} min left"
    return {"aet": one.aet, "network": str(one.network), "by": by, "bounds": str(one.bounds)}


def _refused(settings: Settings, conn: Connection, row: Any) -> Json:
    return {
        "aet": row.aet,
        "address": row.address,
        "reason": row.why,
        "words": PEER_REFUSALS[Reason(row.why)].words,
        "count": row.count,
        "last_at": views.moment(conn, row.last_at),
        "allow": _action(settings, row),
    }


def _action(settings: Settings, row: Any) -> str:
    """What to do about a refusal; title and address were chosen by a stranger."""
    if row.why in {Reason.CALLING_AE_NOT_ALLOWED, Reason.ADDRESS_NOT_ALLOWED}:
        return f"cauda peers allow {shlex.quote(f'{row.aet}@{row.address}' if row.aet else row.address)}"
    if row.why == Reason.CALLED_AE_UNKNOWN:
        return f"there: let it call {settings.node.aet}"
    return PEER_REFUSALS[Reason(row.why)].action


@app.command()
@common
def allow(
    options: Options,
    caller: Caller,
    *,
    max_associations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of one address at once.", show_default="as limits")
    ] = None,
    max_object_bytes: Annotated[
        int | None, typer.Option(min=1024, metavar="N", help="Can only be less than limits.max_object_bytes.")
    ] = None,
    max_pdu_bytes: Annotated[int | None, typer.Option(min=4096, metavar="N", help="Announced to the caller.")] = None,
) -> None:
    """Let a caller in, from the next second on and for good; no restart.

    Said again of the same caller, the last word holds, with the bounds given then.
    """
    bounds = Bounds(max_associations=max_associations, max_object_bytes=max_object_bytes, max_pdu_bytes=max_pdu_bytes)
    _say(options, PeerRule.ALLOW, caller, bounds=bounds)


@app.command()
@common
def forbid(options: Options, caller: Caller) -> None:
    """Turn a caller away, also one that the configuration allows."""
    _say(options, PeerRule.FORBID, caller)


@app.command()
@common
def learn(
    options: Options,
    caller: Caller,
    *,
    minutes: Annotated[float, typer.Option("--for", min=1, max=10_080, metavar="MINUTES", help="How long.")] = 60,
) -> None:
    """Let in and enter in the list whoever calls from a network, until the time is over; `remove` ends it sooner.

    Then only those may call who are on the list. Look at it with `peers list`, and `remove` who should not be there.
    """
    _say(options, PeerRule.LEARN, caller, for_s=minutes * 60)


@app.command()
@common
def remove(options: Options, caller: Caller) -> None:
    """Take back what `allow`, `forbid` or `learn` said; what the configuration says stays."""
    aet, network = peers.parse(caller)
    opened = open_existing(options.settings())
    with opened.write() as conn:
        there = peers.remove(opened, conn, aet, network)
    if not there:
        output.complain(f"{aet}@{network} is not on the list beside the configuration; see `cauda peers list`")
        raise typer.Exit(output.NO)
    output.say(f"{aet}@{network}: removed")


def _say(
    options: Options, rule: PeerRule, caller: str, *, for_s: float | None = None, bounds: Bounds | None = None
) -> None:
    aet, network = peers.parse(caller)
    opened = open_existing(options.settings())
    with opened.write() as conn:
        peers.enter(opened, conn, rule, aet, network, for_s=for_s, bounds=bounds)
    how = "" if for_s is None else f" for {for_s / 60:g} min"
    output.say(f"{aet}@{network}: {rule}{how}{f' ({bounds})' if bounds and str(bounds) else ''}")
