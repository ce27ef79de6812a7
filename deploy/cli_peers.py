"""`cauda peers`: who may send, and who was turned away."""

from __future__ import annotations

import typer
from sqlalchemy import select

from cauda.core import schema
from cauda.deploy import output, views
from cauda.deploy.options import Options, common

app = typer.Typer(no_args_is_help=True, help="Who may send, and who was turned away.")


@app.command("list")
@common
def list_(options: Options, *, as_json: output.AsJson = False) -> None:
    """Who may send, and who was turned away, with the line of configuration that would let them in."""
    settings = options.settings()
    table = schema.refused_peer
    with views.open_existing(settings).read() as conn:
        refused = [
            {
                "aet": row.aet,
                "address": row.address,
                "reason": row.why,
                "count": row.count,
                "last_at": views.moment(row.last_at),
                "allow": f'peers = [{{ aet = "{row.aet}", network = "{row.address}" }}]',
            }
            for row in conn.execute(select(table).order_by(table.c.last_at.desc()))
        ]
    allowed = [{"aet": peer.aet, "network": peer.network} for peer in settings.peers]
    if as_json:
        output.show_json({"allowed": allowed, "refused": refused})
        return
    output.show_table(allowed, {"aet": "ALLOWED", "network": "FROM"})
    if refused:
        output.say("")
        output.show_table(
            refused, {"aet": "TURNED AWAY", "address": "FROM", "reason": "WHY", "count": "TIMES", "last_at": "LAST",
                      "allow": "TO LET IT IN"},
        )  # fmt: skip
