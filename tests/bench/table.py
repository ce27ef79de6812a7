"""What a run of the benchmark says, as Markdown."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import floor
from servers import OWN, OWN_ONE, Server

if TYPE_CHECKING:
    from acknowledge import Case, Measured

Found = Mapping[tuple[str, "Case"], "Measured"]


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
        for server in servers:
            one = found[server.name, case]
            print(
                f"| {server.name} | {server.durable} | {one.rate:.0f} ({min(one.rates):.0f} to {max(one.rates):.0f}) "
                f"| {own / one.rate:.2f} x | {one.percentile_ms(50):.2f} | {one.percentile_ms(99):.2f} "
                f"| {one.cpu:.2f} |"
            )
        for form in (floor.PREPARED, floor.PORTABLE):
            disk = found[form, case]
            print(
                f"| {form} | yes | {disk.rate:.0f} ({min(disk.rates):.0f} to {max(disk.rates):.0f}) "
                f"| {own / disk.rate:.2f} x | {disk.percentile_ms(50):.2f} | {disk.percentile_ms(99):.2f} | |"
            )
        print()
    print("**Memory at the most, MB**: " + ", ".join(f"{one.name} {one.most_mb():.0f}" for one in servers) + "\n")
    _goals(cases, found)
    print("\n**Command lines**\n")
    for server in servers:
        print(f"    {server.name:24} {server.command}")


def _goals(cases: Sequence[Case], found: Found) -> None:
    one, four, shipped, _, _, saturated = cases

    def times(other: str, case: Case, own: str = OWN) -> float:
        return found[own, case].rate / found[other, case].rate

    dcmtk = ("storescp NODELAY", "storescp fastest", "storescp fastest --fork")
    fastest = max(dcmtk, key=lambda name: found[name, one].rate)
    idle, loaded = (found[OWN, case].percentile_ms(99) for case in (four, saturated))
    cpu = found[OWN, one].cpu / max(found[fastest, one].cpu, 0.01)
    rows: list[tuple[str, float, str, float, Callable[[float, float], bool]]] = [
        ("Orthanc NODELAY, one association", times("Orthanc NODELAY", one), "at least", 3, float.__ge__),
        ("storescp NODELAY, one association", times("storescp NODELAY", one), "at least", 0.6, float.__ge__),
        ("Orthanc NODELAY, four", times("Orthanc NODELAY", four), "at least", 2, float.__ge__),
        ("storescp NODELAY, four", times("storescp NODELAY", four), "at least", 1.2, float.__ge__),
        ("Orthanc, both as shipped", times("Orthanc", shipped), "at least", 15, float.__ge__),
        ("storescp, both as shipped", times("storescp", shipped), "at least", 15, float.__ge__),
        (f"CPU an image of {fastest}", cpu, "at most", 1.3, float.__le__),
        ("p99 of four, cores saturated over idle", loaded / idle, "at most", 2, float.__le__),
    ]
    if (OWN_ONE, four) in found:
        quickest = max(dcmtk, key=lambda name: found[name, four].rate)
        rows += [
            ("one sync: Orthanc NODELAY, one association", times("Orthanc NODELAY", one, OWN_ONE), "at least", 4,
             float.__ge__),
            (f"one sync: {quickest}, four", times(quickest, four, OWN_ONE), "at least", 1, float.__ge__),
        ]  # fmt: skip
    print("| goal | measured | wanted | |")
    print("|---|---|---|---|")
    for what, value, bound, wanted, holds in rows:
        print(f"| {what} | {value:.2f} x | {bound} {wanted:g} x | {'met' if holds(value, wanted) else 'MISSED'} |")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processor")
    return f"{os.cpu_count()} x {name}"
