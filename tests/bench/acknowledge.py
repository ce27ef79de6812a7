"""How fast an image is acknowledged, beside DCMTK, Orthanc and pynetdicom: `make bench`.

One run, interleaved repetitions, medians; every server gets the same images over loopback. Only ratios carry over to
another machine, and on a busy one not even these. A transfer is a burst that comes to an idle server, while all others
are stopped: ours has filed what came before and has its files ready. In each case the same process of ours is looked
at by `strace` for one more transfer, which must show the syncs that its way to land takes for each image, or the run
ends. Beside the servers the disk alone is measured, since nobody who makes images durable can be faster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders import mr_image, part10
from peers import HOST, until

sys.path.insert(0, str(Path(__file__).parent))

import floor
import table
from servers import CALLED, Server, everybody

_GRADERS_NICENESS = 10  # cauda.worker.child gives itself as much
_SPARE_BYTES = 4 << 30  # our files that are ready, and what must be free before they are made


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How something is sent."""

    side: int  # pixels
    associations: int
    nodelay: bool = True  # at the sender; its own default leaves Nagle's algorithm on
    saturated: bool = False  # every core computes as graders do

    def __str__(self) -> str:
        """In words."""
        many = f"{self.associations} association{'s' if self.associations > 1 else ''}"
        return f"{self.side} x {self.side}, {many}, sender {'NODELAY' if self.nodelay else 'as shipped (Nagle on)'}" + (
            ", cores saturated" if self.saturated else ""
        )


CASES = (
    Case(side=512, associations=1),
    Case(side=512, associations=4),
    Case(side=512, associations=1, nodelay=False),
    Case(side=320, associations=1),
    Case(side=320, associations=4),
    Case(side=512, associations=4, saturated=True),
)


@dataclass(slots=True)
class Measured:
    """What a server did in one case, a value a repetition."""

    rates: list[float] = field(default_factory=list)  # images a second
    cpu_ms: list[float] = field(default_factory=list)  # of the server, an image, until the last answer
    answer_s: list[float] = field(default_factory=list)  # of every image, from its last byte sent

    def add(self, total: int, seconds: float, cpu_s: float, answer_s: Sequence[float]) -> None:
        """One repetition."""
        self.rates.append(total / seconds)
        self.cpu_ms.append(cpu_s * 1000 / total)
        self.answer_s += answer_s

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)

    @property
    def cpu(self) -> float:
        """The median, in milliseconds."""
        return statistics.median(self.cpu_ms)

    def percentile_ms(self, percent: float) -> float:
        """Of all answers, in milliseconds."""
        return float(np.percentile(self.answer_s, percent)) * 1000


def images(folder: Path, side: int, count: int, seed: int) -> None:
    """MR images of one series."""
    folder.mkdir()
    draw, pixels = random.Random(seed), np.random.default_rng(seed)
    study, series = (f"2.25.{draw.getrandbits(100)}" for _ in range(2))
    for number in range(count):
        one = mr_image(study, series, f"2.25.1{draw.getrandbits(90):028d}", InstanceNumber=number + 1)
        one.Rows = one.Columns = side
        one.PixelData = pixels.integers(0, 4096, (side, side), dtype=np.uint16).tobytes()
        (folder / f"{number:04}.dcm").write_bytes(part10(one))


def send(server: Server, folder: Path, case: Case, salts: Iterator[int]) -> tuple[float, float, list[float]]:
    """Seconds from the first association to the last answer, the server's processor time, and seconds to each answer.

    All associations begin together.
    """
    program = str(Path(__file__).with_name("sender.py"))
    argv = [sys.executable, program, HOST, str(server.port), CALLED, str(folder), *(["--nodelay"] * case.nodelay)]
    senders = [
        subprocess.Popen(
            [*argv, "--salt", str(next(salts))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(case.associations)
    ]  # fmt: skip
    for one in senders:
        if one.stdout is None or one.stdout.readline() != "ready\n":
            raise SystemExit(f"a sender to {server.name} did not get ready")
    before = server.cpu_s()
    for one in senders:
        if one.stdin is not None:
            one.stdin.write("go\n")
            one.stdin.flush()
    said = [one.stdout.readline() for one in senders if one.stdout is not None]
    cpu = server.cpu_s() - before
    for one in senders:
        one.communicate()
    found = [json.loads(line) for line in said]
    return max(one["seconds"] for one in found), cpu, [s for one in found for s in one["answer_s"]]


@contextmanager
def busy(*, really: bool) -> Iterator[None]:
    """Every core computes, as nice as our graders are."""
    code = f"import os, numpy as np; os.nice({_GRADERS_NICENESS}); a = np.ones((400, 400))\nwhile True: a @ a"
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    graders = [
        subprocess.Popen([sys.executable, "-c", code], env=one_thread) for _ in range(os.cpu_count() or 1) if really
    ]
    try:
        yield
    finally:
        for one in graders:
            one.kill()
            one.wait()


def measure(server: Server, folder: Path, case: Case, count: int, salts: Iterator[int], into: Measured) -> None:
    """One transfer, to a disk that has nothing left to write of what others were sent."""
    os.sync()
    with server.awake():
        with busy(really=case.saturated):
            seconds, cpu, answers = send(server, folder, case, salts)
        until(server.idle, 300, f"{server.name} to have filed everything and to be ready again", every=0.2)
    into.add(count * case.associations, seconds, cpu, answers)


def check(server: Server, folder: Path, case: Case, count: int, salts: Iterator[int]) -> None:
    """A transfer that is not measured, since strace slows it down."""
    with server.traced() as calls:
        measure(server, folder, case, count, salts, Measured())
    for call in server.syncs:
        if calls.count(call) < count * case.associations:
            raise SystemExit(f"{server.name}: {calls.count(call)} {call} for {count * case.associations} images")


def measure_disk(folder: Path, case: Case, count: int, content: bytes, form: str, into: Measured) -> None:
    """What the images of one transfer take with nothing but the disk."""
    os.sync()
    with busy(really=case.saturated):
        seconds, cpu, answers = floor.measure(folder, content, case.associations, count, form)
    into.add(count * case.associations, seconds, cpu, answers)


def check_room(folder: Path, servers: Sequence[Server], repeat: int) -> None:
    """What is sent stays with who received it, and a node that has no room to spare keeps no files ready."""
    once = sum(
        case.associations * sum(file.stat().st_size for file in (folder / str(case.side)).iterdir()) for case in CASES
    )
    needed = once * (len(servers) * repeat + sum(bool(server.syncs) for server in servers)) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{folder} has {free >> 30} GiB free, what is sent takes {needed >> 30}: --repeat, --place")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100, help="of each association")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", type=Path, help="where everybody writes; the folder of temporary files otherwise")
    given = parser.parse_args()
    if given.place is not None:
        tempfile.tempdir = str(given.place)  # Orthanc's folder too
    salts = itertools.count(given.seed * 1_000_000)  # never the same object twice
    found: dict[tuple[str, Case], Measured] = {}
    with tempfile.TemporaryDirectory(prefix="cauda-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for side in {case.side for case in CASES}:
            images(folder / str(side), side, given.images, given.seed + side)
        servers: Sequence[Server] = [stack.enter_context(one) for one in everybody(folder)]
        for server in servers:
            until(server.idle, 60, f"{server.name} to be ready", every=0.2)
            stack.enter_context(server.stopped())
        check_room(folder, servers, given.repeat)
        for case, server in itertools.product(CASES, servers):
            if server.syncs:
                check(server, folder / str(case.side), case, given.images, salts)
        for _ in range(given.repeat):
            for case in CASES:
                for server in servers:
                    into = found.setdefault((server.name, case), Measured())
                    measure(server, folder / str(case.side), case, given.images, salts, into)
                content = next((folder / str(case.side)).iterdir()).read_bytes()
                for form in floor.FORMS:
                    into = found.setdefault((form, case), Measured())
                    measure_disk(folder, case, given.images, content, form, into)
        table.show(servers, CASES, found, given.images, given.repeat)


if __name__ == "__main__":
    main()
