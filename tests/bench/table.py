"""What a run of the benchmark says, as Markdown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import floor
from servers import OWN, OWN_ONE, Server

if TYPE_CHECKING:
    from acknowledge import Case, Measured

Found = Mapping[tuple[str, "Case"], "Measured"]
Goal = tuple[str, float, float, str, float]  # words, ours, the disk alone's, at least or at most, wanted


def show(servers: Sequence[Server], cases: Sequence[Case], found: Found, images: int, repeat: int) -> None:
    """Everything."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{images} images an association, median of {repeat} interleaved repetitions; {_processor()}; load {load}.")
    print("Ours made the syncs of each image in one more transfer of each case, under strace: a data sync; data and")
    print('folder in the portable way and on the stock path; "one sync" ', end="")
    print("the file's after its rename.\n" if (OWN_ONE, cases[0]) in found else "is not allowed here.\n")
    for case in cases:
        print(f"**{case}**\n")
        print("| server | durable at success | images/s | cauda is | p50 ms | p99 ms | CPU ms/image |")
        print("|---|---|---|---|---|---|---|")
        own = found[OWN, case].rate
        held = [(server.name, server.durable) for server in servers] + [(form, "yes") for form in floor.FORMS]
        for name, durable in held:
            one = found[name, case]
            print(
                f"| {name} | {durable} | {one.rate:.0f} ({min(one.rates):.0f} to {max(one.rates):.0f}) "
                f"| {own / one.rate:.2f} x | {one.percentile_ms(50):.2f} | {one.percentile_ms(99):.2f} "
                f"| {one.cpu:.2f} |"
            )
        print()
    print("**Memory at the most, MB**: " + ", ".join(f"{one.name} {one.most_mb():.0f}" for one in servers) + "\n")
    _goals(cases, found)
    print("\n**Command lines**\n")
    for server in servers:
        print(f"    {server.name:24} {server.command}")


def _goals(cases: Sequence[Case], found: Found) -> None:
    """What is wanted, what came out, and what would come out of a server that did nothing but write to the disk."""
    one, four, shipped, _, _, saturated = cases
    dcmtk = ("storescp NODELAY", "storescp fastest", "storescp fastest --fork")

    def speed(words: str, other: str, case: Case, wanted: float, own: str = OWN) -> Goal:
        ours, disk, theirs = (found[name, case].rate for name in (own, floor.PREPARED, other))
        return words, ours / theirs, disk / theirs, "at least", wanted

    def cpu(words: str, other: str, case: Case, wanted: float) -> Goal:
        ours, disk, theirs = (found[name, case].cpu for name in (OWN, floor.PREPARED, other))
        return words, ours / max(theirs, 0.01), disk / max(theirs, 0.01), "at most", wanted

    def late(name: str) -> float:
        return found[name, saturated].percentile_ms(99) / found[name, four].percentile_ms(99)

    fastest = max(dcmtk, key=lambda name: found[name, one].rate)
    goals = [
        speed("Orthanc NODELAY, one association", "Orthanc NODELAY", one, 3),
        speed("storescp NODELAY, one association", "storescp NODELAY", one, 0.6),
        speed("Orthanc NODELAY, four", "Orthanc NODELAY", four, 2),
        speed("storescp NODELAY, four", "storescp NODELAY", four, 1.2),
        speed("Orthanc, both as shipped", "Orthanc", shipped, 15),
        speed("storescp, both as shipped", "storescp", shipped, 15),
        cpu(f"CPU an image of {fastest}", fastest, one, 1.3),
        ("p99 of four, cores saturated over idle", late(OWN), late(floor.PREPARED), "at most", 2),
    ]
    quickest = max(dcmtk, key=lambda name: found[name, four].rate)
    for own in (OWN, OWN_ONE):  # both make one sync an image; the second needs a journal
        if (own, four) in found:
            goals += [
                speed(f"one sync ({own}): Orthanc NODELAY, one association", "Orthanc NODELAY", one, 4, own),
                speed(f"one sync ({own}): {quickest}, four", quickest, four, 1, own),
            ]
    print("| goal | wanted | measured | | the disk alone |")
    print("|---|---|---|---|---|")
    for words, measured, disk, bound, wanted in goals:
        met = measured >= wanted if bound == "at least" else measured <= wanted
        print(f"| {words} | {bound} {wanted:g} x | {measured:.2f} x | {'met' if met else 'MISSED'} | {disk:.2f} x |")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processor")
    return f"{os.cpu_count()} x {name}"
