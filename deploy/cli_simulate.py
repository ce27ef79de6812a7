"""`cauda simulate`: a virtual scanner."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cauda.core.errors import Misconfigured
from cauda.deploy import output

if TYPE_CHECKING:
    from cauda.deploy.tally import Tally
    from cauda.models.phantom.faults import Fault
    from cauda.models.phantom.protocol import Protocol

_REFRESH_S = 0.25
_EVERY_VENDOR = "all"


def simulate(
    *,
    to: Annotated[str, typer.Option(help="dimse://AET@HOST:PORT")],
    vendor: Annotated[
        str, typer.Option(help="siemens, ge, philips, canon, uih, hitachi, or all of them in turn.")
    ] = "siemens",
    studies: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Studies a minute; as fast as they come without.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same studies; a fresh one without.")] = None,
    protocol: Annotated[
        str, typer.Option(help="quick (3 series), routine (localiser, STIR, axial T1, reports) or full (Dixon, 3D).")
    ] = "routine",
    axial: Annotated[str, typer.Option(help="Axial slices as blocks, one a disc, or one straight stack.")] = "blocks",
    enhanced: Annotated[bool, typer.Option("--enhanced", help="Multi-frame objects, one a series.")] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="motion, wrap, metal, cropped, spike, low_snr or missing, of the axial T2; at one level as "
            "metal:L4/L5. Repeatable."
        ),
    ] = None,
    habit: Annotated[
        str,
        typer.Option(
            help="How it is sent: study (one association), series, image, unreleased, shuffled, resend, abort, late, "
            "correction or reconstruction."
        ),
    ] = "study",
    pause: Annotated[float, typer.Option(min=0, help="Seconds where the habit pauses, as between series.")] = 2.0,
    scanners: Annotated[int, typer.Option(min=1, help="So many studies are sent at the same time.")] = 1,
    anatomies: Annotated[
        int | None, typer.Option(min=1, help="Draw so many different spines and send them again as further studies.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Replay the studies in this folder instead, as they are.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send to another machine, too.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Push synthetic lumbar studies to a node, as a scanner would; exits 0 when every image was acknowledged."""
    from cauda.deploy import simulate as scanner
    from cauda.models.phantom.habits import CHANGING, HABITS
    from cauda.models.phantom.vendors import VENDORS

    say = (lambda _: None) if as_json else output.say
    target = scanner.target(to, yes=yes)
    way = HABITS[_known("--habit", habit, HABITS)]
    pace = scanner.Pace(rate=rate, pause_s=pause, scanners=scanners)
    if folder is not None:
        if not folder.is_dir():
            raise Misconfigured(f"--dir: {folder} is not a folder")
        if habit in CHANGING:
            raise Misconfigured(f"--habit {habit} makes new images: not with --dir")
        source = scanner.replayed(folder)
    else:
        made = _protocol(protocol, axial, fault or [], enhanced=enhanced)
        vendors = tuple(VENDORS) if vendor == _EVERY_VENDOR else (_known("--vendor", vendor, VENDORS),)
        seed = secrets.randbelow(10**6) if seed is None else seed
        say(f"seed {seed}")
        source = scanner.phantoms(seed, studies, made, vendors, anatomies=anatomies)
    with _display(silent=as_json) as tell:
        tally = scanner.push(target, source, way, pace, tell=tell)
    if as_json:
        output.show_json({"seed": None if folder else seed, "vendor": None if folder else vendor, **tally.json()})
    else:
        output.say(tally.words())
    if not tally.whole:
        raise typer.Exit(output.FAILED)


def _protocol(name: str, axial: str, faults: list[str], *, enhanced: bool) -> Protocol:
    from cauda.models.phantom.protocol import FULL, QUICK, ROUTINE, Protocol

    kinds = {"quick": QUICK, "routine": ROUTINE, "full": FULL}
    return Protocol(
        kinds=kinds[_known("--protocol", name, kinds)],
        axial="stack" if _known("--axial", axial, ("blocks", "stack")) == "stack" else "blocks",
        companions=name != "quick",
        enhanced=enhanced,
        faults=tuple(map(_fault, faults)),
    )


def _fault(text: str) -> Fault:
    from cauda.core.domain import Level
    from cauda.models.phantom.faults import Fault, What

    what, _, level = text.partition(":")
    levels = (Level(_known("--fault", level, tuple(Level))),) if level else tuple(Level)
    return Fault(what=What(_known("--fault", what, tuple(What))), levels=levels)


def _known(option: str, given: str, allowed: Collection[str]) -> str:
    if given not in allowed:
        raise Misconfigured(f"{option}: {given!r} is unknown; allowed: {', '.join(allowed)}")
    return given


@contextmanager
def _display(*, silent: bool) -> Iterator[Callable[[Tally], None]]:
    """How the tally is told: one line that changes on a terminal, a line a study elsewhere."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    if silent:
        yield lambda _: None
    elif console.is_terminal:
        shown = 0.0
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def tell(tally: Tally) -> None:
                nonlocal shown
                if time.monotonic() - shown > _REFRESH_S:
                    shown = time.monotonic()
                    live.update(tally.words(), refresh=True)

            yield tell
    else:
        told = 0

        def line(tally: Tally) -> None:
            nonlocal told
            for one in tally.studies[told:]:
                refused = sum(answer.refusal is not None for answer in one.answers)
                output.say(f"{one.study_uid}  {len(one.answers)} images, {refused} not stored")
            told = len(tally.studies)

        yield line
