"""`cauda simulate`: virtual scanners, and how a node bears them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cauda.core.errors import Misconfigured
from cauda.deploy import output
from cauda.deploy.progress import Tell, progress

if TYPE_CHECKING:
    from pydicom import Dataset

    from cauda.models.phantom.faults import Fault
    from cauda.models.phantom.protocol import Protocol

    _Draw = Callable[[int, Sequence[str]], Iterable[list[Dataset]]]

_EVERY = "all"
_LUMBAR = "lumbar"
_DIFFERENT = 3  # studies that are drawn where nobody says how many; of every maker one at least
_AT_ONCE = 8  # studies on their way at the same time where a rate is to be kept
_WHERE, _WHAT, _HOW = "Where to", "What is sent", "How it is sent"


def simulate(
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Or dimse://AET@HOST:PORT, or stow+http://HOST:PORT/PATH (stow+https, too).",
            rich_help_panel=_WHERE,
        ),
    ],
    aet: Annotated[str, typer.Option("--ae", help="AE title that is called.", rich_help_panel=_WHERE)] = "CAUDA",
    calling: Annotated[str, typer.Option(help="AE title of the scanner.", rich_help_panel=_WHERE)] = "SIMULATOR",
    authorization: Annotated[
        Path | None,
        typer.Option(
            help="File with what STOW-RS is to be sent as Authorization, as Bearer TOKEN.", rich_help_panel=_WHERE
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send to another machine, too.", rich_help_panel=_WHERE)] = False,
    studies: Annotated[
        int | None, typer.Option(min=1, help="How many; 1, or with --dir all of them once.", rich_help_panel=_WHAT)
    ] = None,
    vendor: Annotated[
        str,
        typer.Option(help="siemens, ge, philips, canon, uih, hitachi, or all in turn.", rich_help_panel=_WHAT),
    ] = "siemens",
    protocol: Annotated[
        str,
        typer.Option(
            help="quick (3 series), routine (localiser, STIR, axial T1, reports) or full (Dixon, 3D).",
            rich_help_panel=_WHAT,
        ),
    ] = "routine",
    axial: Annotated[
        str, typer.Option(help="Axial slices as blocks, one a disc, or as one stack.", rich_help_panel=_WHAT)
    ] = "blocks",
    enhanced: Annotated[
        bool, typer.Option("--enhanced", help="Multi-frame objects, one a series.", rich_help_panel=_WHAT)
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="motion, wrap, metal, cropped, spike, low_snr or missing, of the axial T2; at one level as "
            "metal:L4/L5. Repeatable.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    anatomy: Annotated[
        str,
        typer.Option(
            help="lumbar; or brain, thorax, neck or pelvis, under tags that say lumbar: what a node must not grade.",
            rich_help_panel=_WHAT,
        ),
    ] = _LUMBAR,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write what is true of each study there: UID.json with points, sizes and grades, UID.npz with a label "
            "map of each image. No study is a copy then.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    anatomies: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="So many different studies are drawn before the first is sent; further ones are copies of other "
            "patients. 3, and one a maker at least.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Same seed, same studies; a fresh one without.", rich_help_panel=_WHAT)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Replay the studies in this folder instead, as they are.", rich_help_panel=_WHAT),
    ] = None,
    new_uids: Annotated[
        bool,
        typer.Option(
            "--new-uids",
            help="With --dir: copies under new UIDs, of a test patient, so that the same folder can be sent again and "
            "again. No de-identification.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    habit: Annotated[str, typer.Option(help="One of those above, or all in turn.", rich_help_panel=_HOW)] = "study",
    time_scale: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds that a second of a habit's pauses takes: 1 as on the ward, 0 without pauses.",
            rich_help_panel=_HOW,
        ),
    ] = 0.01,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Studies a minute; as fast as they are taken without.", rich_help_panel=_HOW),
    ] = None,
    associations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="So many studies are on their way at the same time, each over its own association; 1, or 8 with "
            "--rate.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts.", rich_help_panel=_HOW)] = False,
) -> None:
    """Push lumbar spine studies to a node as scanners and routers do, and measure how it acknowledges them.

    The studies are synthetic, of patient PHANTOM^CAUDA, ID CAUDA-TEST-...; or those of a folder.

    Exits 0 when every image was acknowledged as stored, 1 when one was not, 130 after Ctrl-C.

    \b
    Habits, with pauses as on the ward, times --time-scale:
      study           all over one association
      series          one association a series, 4 minutes apart
      image           one association an image
      unreleased      one association, open for 2 hours after the last image
      shuffled        all over one association, in no order
      resend          everything, 10 minutes later everything again
      abort           a third, an abort, 1 minute later everything
      late            the last T2 series 15 minutes after the others
      correction      everything, 30 minutes later again with another name and ID
      reconstruction  everything, 60 minutes later one series reconstructed anew

    Over STOW-RS a request takes the place of an association: it ends with its last image, and is answered for all.
    """  # noqa: D301  \b is a mark for the help's layout
    from cauda.deploy import simulate as scanner
    from cauda.deploy.doors import door
    from cauda.deploy.tally import Tally
    from cauda.models.phantom.habits import CHANGING, HABITS

    node = door(to, yes=yes, aet=aet, calling=calling, authorization=authorization)
    ways = list(HABITS) if habit == _EVERY else [_known("--habit", habit, [*HABITS, _EVERY])]
    if folder is not None and not new_uids:
        if CHANGING & {habit}:
            raise Misconfigured(f"--habit {habit} changes images: with --dir only of a test patient, with --new-uids")
        ways = [way for way in ways if way not in CHANGING]
    if new_uids and folder is None:
        raise Misconfigured("--new-uids is for --dir; synthetic studies have new UIDs with each --seed")
    if folder is not None and (truth is not None or anatomy != _LUMBAR):
        raise Misconfigured("--truth and --anatomy are for synthetic studies, not for those of --dir")
    pace = scanner.Pace(rate=rate, scale=time_scale, at_once=associations or (_AT_ONCE if rate else 1))
    seed = secrets.randbelow(10**6) if seed is None else seed
    tally = Tally()
    with progress(silent=as_json) as tell:
        if folder is not None:
            source = _replayed(folder, studies, str(seed) if new_uids else None, silent=as_json)
        else:
            made = _protocol(protocol, axial, fault or [], enhanced=enhanced)
            count = (studies or 1) if truth is not None else anatomies
            draw = _drawer(anatomy, seed, made, truth)
            source = _drawn(seed, studies or 1, draw, vendor, count, tell, silent=as_json)
        plans = (HABITS[way](images) for images, way in zip(source, cycle(ways), strict=False))
        scanner.push(node, plans, pace, tally=tally, tell=lambda: tell(lambda: tally.line(time.monotonic())))
    if as_json:
        output.show_json(
            {
                "seed": seed if new_uids or not folder else None,
                "vendor": None if folder else vendor,
                "habit": habit,
                **tally.json(),
            }
        )
    else:
        output.say("\n".join(f"{what:<16}{value}" for what, value in tally.summary()))
    if not tally.whole:
        raise typer.Exit(output.INTERRUPTED if tally.interrupted and not tally.failures else output.FAILED)


def _drawer(anatomy: str, seed: int, protocol: Protocol, truth: Path | None) -> _Draw:
    """What draws so many studies of makers; Misconfigured where an anatomy cannot be had so."""
    from cauda.deploy import sources
    from cauda.models.phantom.negatives import KINDS

    if _known("--anatomy", anatomy, (_LUMBAR, *KINDS)) == _LUMBAR:
        return lambda count, vendors: sources.drawn(seed, count, protocol, vendors, truth=truth)
    for option, given in (("--truth", truth), ("--fault", protocol.faults), ("--enhanced", protocol.enhanced)):
        if given:
            raise Misconfigured(f"{option} is for --anatomy {_LUMBAR}")
    return lambda count, vendors: sources.negatives(anatomy, seed, count, protocol, vendors)


def _drawn(
    seed: int, studies: int, draw: _Draw, vendor: str, anatomies: int | None, tell: Tell, *, silent: bool
) -> Iterable[Sequence[Dataset]]:
    """The studies asked for; all that must be drawn is, lest drawing hold the sending up."""
    from cauda.deploy import sources
    from cauda.models.phantom.vendors import VENDORS

    vendors = list(VENDORS) if vendor == _EVERY else [_known("--vendor", vendor, [*VENDORS, _EVERY])]
    count = min(studies, max(anatomies or _DIFFERENT, len(vendors)))
    if not silent:
        output.say(f"seed {seed}; drawing {count} of {studies} studies, the others are copies")
    originals: list[list[Dataset]] = []
    for images in draw(count, vendors):
        originals.append(images)
        tell(lambda: f"{len(originals)} of {count} studies are drawn")
    return sources.repeated(originals, studies)


def _replayed(folder: Path, studies: int | None, renamed: str | None, *, silent: bool) -> Iterable[Sequence[Dataset]]:
    """The folder's studies; says what is done to them, and what is not."""
    from cauda.deploy import sources

    if not folder.is_dir():
        raise Misconfigured(f"--dir: {folder} is not a folder")
    found = sources.folder(folder)
    if not found.studies:
        raise Misconfigured(f"--dir: {folder} holds no DICOM images")
    if renamed is None and studies is not None and studies > len(found.studies):
        raise Misconfigured(
            f"--studies {studies}: {folder} holds {len(found.studies)}; add --new-uids to send them again as others"
        )
    if not silent:
        others = f", {found.others} other files are left out" if found.others else ""
        output.say(f"{folder}: {len(found.studies)} studies, {found.images} images{others}")
        output.say(
            "sent as they are, patient and UIDs unchanged: what the node knows already is a duplicate there"
            if renamed is None
            else f"seed {renamed}; sent as copies under new UIDs, of test patients CAUDA-TEST-...; all other elements "
            "and the pixels are as they were: this is no de-identification"
        )
    return sources.replayed(found, studies or len(found.studies), renamed=renamed)


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
