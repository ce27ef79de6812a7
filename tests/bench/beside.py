"""Two versions of this node and DCMTK at its fastest beside one another: what a change does to the cost of an image.

    git worktree add /tmp/before/cauda COMMIT
    .venv/bin/python tests/bench/beside.py /tmp/before

Machines differ from one minute to the next by more than most changes do, so each repetition is compared with the same
one of the version before, and the median of these ratios is printed. The two versions take turns to be first.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers import until

sys.path.insert(0, str(Path(__file__).parent))

from acknowledge import CASES, Measured, images, measure
from servers import NODELAY, fastest, ours, running

from cauda.core import settings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a folder with a checkout of the other version, named cauda")
    parser.add_argument("--case", type=int, default=0, choices=range(len(CASES)), help="of make bench, in its order")
    parser.add_argument("--images", type=int, default=100, help="of each association")
    parser.add_argument("--repeat", type=int, default=16)
    given = parser.parse_args()
    if not (given.before / "cauda" / "listener").is_dir():
        parser.error(f"{given.before} holds no checkout named cauda")
    case, salts = CASES[given.case], itertools.count(1_000_000)
    with tempfile.TemporaryDirectory(prefix="cauda-beside-") as name, ExitStack() as stack:
        folder = Path(name)
        images(folder / "images", case.side, given.images, 1)
        ready = settings.Listener().slots
        servers = [
            stack.enter_context(one)
            for one in (
                running(folder, "before", "yes", ours(), env={"PYTHONPATH": str(given.before)}, slots=ready),
                running(folder, "cauda", "yes", ours(), slots=ready),
                running(folder, "storescp fastest", "no", fastest(), env=NODELAY),
            )
        ]
        for server in servers:
            until(server.idle, 60, f"{server.name} to be ready", every=0.2)
            stack.enter_context(server.stopped())
        found = {server.name: Measured() for server in servers}
        for number in range(given.repeat + 1):
            before, now, dcmtk = servers
            for server in (before, now, dcmtk) if number % 2 else (now, before, dcmtk):
                into = found[server.name] if number else Measured()  # the first only warms up
                measure(server, folder / "images", case, given.images, salts, into)
    print(f"{case}; {given.images} images an association, {given.repeat} repetitions\n")
    print("| | images/s | CPU ms/image | images/s, of before | CPU, of before |\n|---|---|---|---|---|")
    first = found["before"]
    for name, one in found.items():
        rate, cpu = (
            statistics.median(mine / theirs for mine, theirs in zip(ones, others, strict=True))
            for ones, others in ((one.rates, first.rates), (one.cpu_ms, first.cpu_ms))
        )
        print(f"| {name} | {one.rate:.0f} | {one.cpu:.2f} | {rate:.2f} x | {cpu:.2f} x |")


if __name__ == "__main__":
    main()
