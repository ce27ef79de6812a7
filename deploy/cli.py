"""The command line: `cauda`."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from cauda.core.errors import CaudaError, Misconfigured, Rejected
from cauda.deploy import (
    cli_analyze,
    cli_config,
    cli_deliveries,
    cli_demo,
    cli_doctor,
    cli_models,
    cli_peers,
    cli_run,
    cli_simulate,
    cli_studies,
    cli_unfiled,
    output,
)

app = typer.Typer(
    help="Cauda: a DICOM node that grades lumbar spinal canal stenosis and sends SR and SC back.\n\n"
    "Not a medical device; for evaluation and research only.",
    epilog=output.EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(cli_run.up)
app.command()(cli_run.listen)
app.command()(cli_run.work)
app.command()(cli_analyze.analyze)
app.command()(cli_demo.demo)
app.command()(cli_simulate.simulate)
app.command()(cli_doctor.doctor)
app.add_typer(cli_studies.app, name="studies")
app.add_typer(cli_deliveries.app, name="deliveries")
app.add_typer(cli_peers.app, name="peers")
app.add_typer(cli_unfiled.app, name="unfiled")
app.add_typer(cli_config.app, name="config")
app.add_typer(cli_models.app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        output.say(f"cauda {version('cauda')}")
        raise typer.Exit


@app.callback()
def root(
    _version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run a command; what the user can mend is one line, a bug keeps its stack."""
    # Torch's threads (OpenMP's) sleep while they wait: spinning, they take the cores from the listener. Read when torch
    # is loaded; children inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.umask(os.umask(0o077) | 0o027)  # images and results are for this user and its group alone
    try:
        app()
    except Misconfigured as error:
        output.complain(error.message)
        sys.exit(output.MISCONFIGURED)
    except CaudaError as error:
        output.complain(error.message)
        sys.exit(output.NO if isinstance(error, Rejected) else output.FAILED)
