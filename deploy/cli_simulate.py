"""`cauda simulate`: a virtual scanner."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from cauda.core.errors import Misconfigured
from cauda.deploy import output


def simulate(
    *,
    to: Annotated[str, typer.Option(help="dimse://AET@HOST:PORT")],
    vendor: Annotated[str, typer.Option(help="siemens, ge, philips, canon, uih or hitachi.")] = "siemens",
    studies: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Studies a minute; as fast as they come without.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same studies; a fresh one without.")] = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="Replay the studies in this folder instead.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send to another machine, too.")] = False,
) -> None:
    """Push synthetic lumbar studies to a node, as a scanner would; exits 0 when every image was acknowledged."""
    from cauda.deploy import simulate as scanner
    from cauda.models.phantom.vendors import VENDORS

    if vendor not in VENDORS:
        raise Misconfigured(f"--vendor: {vendor!r} is unknown; allowed: {', '.join(VENDORS)}")
    target = scanner.target(to, yes=yes)
    if folder is not None:
        if not folder.is_dir():
            raise Misconfigured(f"--dir: {folder} is not a folder")
        source = scanner.replayed(folder)
    else:
        seed = secrets.randbelow(10**6) if seed is None else seed
        output.say(f"seed {seed}")
        source = scanner.phantoms(vendor, studies, seed)
    summary = scanner.push(
        target,
        source,
        rate=rate,
        tell=lambda sent: output.say(f"{sent.study_uid}  {sent.images} images, {len(sent.refused)} not stored"),
    )
    times = ", ".join(f"p{q} {summary.percentile_ms(q):.1f} ms" for q in (50, 90, 99))
    output.say(
        f"{sum(one.images for one in summary.studies)} images in {len(summary.studies)} studies; answered: {times}"
    )
    if summary.refused or not summary.studies:
        raise typer.Exit(output.FAILED)
