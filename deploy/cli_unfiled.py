"""`cauda unfiled`: what was acknowledged and is in no study, and having it filed again."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Annotated

import typer

from cauda.core import unfiled
from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.core.folders import fsync_folder, make_folder
from cauda.core.ledger import record
from cauda.core.spool import Spool
from cauda.deploy import output
from cauda.deploy.opened import open_existing
from cauda.deploy.options import Options, common

app = typer.Typer(no_args_is_help=True, help="What was acknowledged and is in no study.")


@app.command("list")
@common
def list_(options: Options, *, as_json: output.AsJson = False) -> None:
    """What is not filed, since when, why, and what to do."""
    settings = options.settings()
    opened = open_existing(settings)
    with opened.read() as conn:
        left = unfiled.unfiled(opened, conn, Spool(settings.data))
    if as_json:
        output.show_json([asdict(one) for one in left])
        return
    output.show_table(
        [asdict(one) for one in left],
        {"count": "OBJECTS", "study_uid": "STUDY", "since": "SINCE", "why": "WHY", "todo": "WHAT TO DO"},
    )


@app.command()
@common
def release(
    options: Options, *, name: Annotated[str, typer.Argument(metavar="FILE", help="Its name in unfiled/.")]
) -> None:
    """Have a file that was set aside filed again; the listener takes it within seconds.

    What ended the listener before may do so again: it is set aside again after three times.
    """
    settings = options.settings()
    opened = open_existing(settings)
    store = Spool(settings.data)
    kept = store.unfiled / name
    if name != kept.name or not kept.is_file():
        raise Rejected(
            Reason.FILE_MISSING, f"no such file in {store.relative(store.unfiled)}; see `cauda unfiled list`"
        )
    folder = store.arrivals / f"released-{secrets.token_hex(8)}"
    with opened.write() as conn:
        record(opened, conn, "object_released", path=store.relative(kept))
    make_folder(folder)
    kept.rename(folder / kept.name)
    fsync_folder(folder)
    fsync_folder(store.unfiled)
    output.say(f"{name} will be filed again")
