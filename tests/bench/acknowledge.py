"""How fast an image is acknowledged, beside DCMTK and Orthanc: `make bench`.

One run, interleaved repetitions, medians. Every server gets the same files from the same `storescu` over loopback, one
association. Only ratios carry over to another machine. Ours runs under `strace` with a seccomp filter that stops at
sync calls alone, so that the measured run shows whether it really syncs: fewer than one data sync an image ends it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders import mr_image, part10
from peers import HOST, answers, free_port, orthanc, program, until

CALLED = "CAUDA"


@dataclass(frozen=True, slots=True)
class Server:
    """Somebody to send to."""

    name: str
    durable: str
    command: str
    port: int


def images(folder: Path, count: int, seed: int) -> None:
    """MR images of 512 x 512 (525 KB), all of one series."""
    draw = random.Random(seed)
    pixels = np.random.default_rng(seed)
    study, series = (f"2.25.{draw.getrandbits(100)}" for _ in range(2))
    for number in range(count):
        one = mr_image(study, series, f"2.25.{draw.getrandbits(100)}", InstanceNumber=number + 1)
        one.Rows = one.Columns = 512
        one.PixelData = pixels.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
        (folder / f"{number:04}.dcm").write_bytes(part10(one))


@contextmanager
def running(
    name: str, durable: str, argv: Sequence[str], port: int, folder: Path, **environment: str
) -> Iterator[Server]:
    """A server on a port, its output in a log."""
    shown = " ".join([*(f"{k}={v}" for k, v in environment.items()), shlex.join(argv)])
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder,
                                   env=os.environ | environment, process_group=0)  # fmt: skip
    try:
        until(lambda: answers(port) or process.poll() is not None, 60, f"{name} to listen")
        if process.poll() is not None:
            raise SystemExit(f"{name} ended: {(folder / 'log').read_text()[-2000:]}")
        yield Server(name, durable, shown, port)
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # strace itself is deaf to it
        process.wait(60)


def send(server: Server, files: Path, *, nodelay: bool) -> float:
    """Seconds for one association with all files; every one must be acknowledged."""
    argv = [program("storescu"), "+sd", "-aec", CALLED, HOST, str(server.port), str(files)]
    environment = os.environ | ({"TCP_NODELAY": "1"} if nodelay else {})
    begun = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, env=environment, timeout=600)
    return time.perf_counter() - begun


def syncs(trace: Path) -> int:
    """Data syncs that the trace shows."""
    return len(re.findall(r"\b(?:fdatasync|fsync)\(", trace.read_text(errors="replace")))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cauda-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        batches = [folder / f"images{n}" for n in range(2 * given.repeat)]  # never the same object twice
        for number, batch in enumerate(batches):
            batch.mkdir()
            images(batch, given.images, given.seed + number)
        servers, trace = start(stack, folder)
        measured: dict[tuple[str, bool], list[float]] = {}
        for repetition in range(given.repeat):
            for nodelay in (False, True):
                for server in servers:
                    batch = batches[2 * repetition + nodelay]
                    before = syncs(trace)
                    seconds = send(server, batch, nodelay=nodelay)
                    measured.setdefault((server.name, nodelay), []).append(given.images / seconds)
                    if server.name == "cauda" and syncs(trace) - before < given.images:
                        raise SystemExit(f"only {syncs(trace) - before} syncs for {given.images} images")
        show(servers, measured, given)


def start(stack: ExitStack, folder: Path) -> tuple[list[Server], Path]:
    """Ours and its peers, each in a folder of its own."""
    places = {name: folder / name for name in ("cauda", "storescp", "storescp-fast")}
    for place in places.values():
        place.mkdir()
    trace, port = folder / "trace", free_port()
    ours = [
        program("strace"), "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", str(trace), sys.executable, "-P",
        "-m", "cauda.deploy", "listen", "--data", str(places["cauda"] / "data"), "--port", str(port), "--http", "0",
        "--bundle", "none",
    ]  # fmt: skip
    servers = [
        stack.enter_context(running("cauda", "yes", ours, port, places["cauda"], CAUDA_LIMITS__MIN_FREE_BYTES="0"))
    ]
    port = free_port()
    shipped = [program("storescp"), "-od", str(places["storescp"]), str(port)]
    servers.append(stack.enter_context(running("storescp", "no", shipped, port, places["storescp"])))
    port = free_port()
    fast = [program("storescp"), "+B", "-pdu", "131072", "-od", str(places["storescp-fast"]), str(port)]
    servers.append(
        stack.enter_context(running("storescp +B", "no", fast, port, places["storescp-fast"], TCP_NODELAY="1"))
    )
    archive = stack.enter_context(orthanc(CALLED))
    servers.append(Server("Orthanc", "file", shlex.join(archive.argv), archive.port))
    return servers, trace


def show(servers: Sequence[Server], measured: dict[tuple[str, bool], list[float]], given: argparse.Namespace) -> None:
    """The table: images a second, and each against ours."""
    print(f"{given.images} images of 525 KB, one association, median of {given.repeat} interleaved repetitions\n")
    for nodelay in (False, True):
        print("sender: " + ("TCP_NODELAY=1 storescu" if nodelay else "storescu as shipped"))
        own = statistics.median(measured["cauda", nodelay])
        for server in servers:
            rates = measured[server.name, nodelay]
            median = statistics.median(rates)
            print(
                f"  {server.name:12} durable: {server.durable:5} {median:7.0f} images/s  {1000 / median:6.2f} ms each"
                f"  {own / median:6.2f} x is ours  ({min(rates):.0f} to {max(rates):.0f})"
            )
    print("\nours synced at least once an image in every run\n")
    for server in servers:
        print(f"{server.name:12} {server.command}")


if __name__ == "__main__":
    main()
