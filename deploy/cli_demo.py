"""`cauda demo`: see it work, in a minute, with nothing of yours."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer

from cauda.deploy import output


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Data, results and log go there.")] = Path("out/demo"),
    bundle: Annotated[str | None, typer.Option(help="A bundle's folder, 'starter' or 'none'.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the synthetic study; a fresh one without.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds for each step.")] = 120,
) -> None:
    """Start a node, push a synthetic lumbar MRI into it, and show what comes back."""
    from cauda.deploy import demo as show

    begun = time.monotonic()

    def tell(text: str) -> None:
        output.say(f"{time.monotonic() - begun:6.1f} s  {text}")

    tell("starting Cauda")
    with show.node(out, bundle, timeout_s=timeout_s) as node:
        known = set(show.studies(node.ledger))
        tell(f"listening on port {node.dimse}; a virtual scanner sends a synthetic study")
        to = f"dimse://CAUDA@127.0.0.1:{node.dimse}"
        words = ["simulate", "--protocol", "quick", "--to", to] + (["--seed", str(seed)] if seed is not None else [])
        scanner = subprocess.Popen([*show.PYTHON, *words], stdout=subprocess.DEVNULL)
        try:
            study = show.follow(node.ledger, timeout_s=timeout_s, tell=tell, known=known)
        finally:
            if scanner.wait(timeout_s) != 0:
                output.complain("the virtual scanner failed")
        report = show.report(node.ledger, study["study_uid"])
        if report is not None:
            output.say("")
            output.show_report(report)
        output.say("\nThe Structured Report, the Secondary Capture, and that as a picture:")
        for path in show.results(out, study):
            output.say(f"  {path}")
        output.say(f"Everything else: {out / 'data'}; the log: {out / 'cauda.log'}")
        tell("stopping Cauda")
    if study["state"] != "REPORTED":
        output.complain(f"the study is {study['state']}: {study['reason']}")
        raise typer.Exit(output.FAILED)
