"""Who is measured, and what a process of theirs has cost so far."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_peers import orthanc
from listener_house import landed
from peers import answers, free_port, program, until

from cauda.core import journal, settings

CALLED = "CAUDA"
OWN, OWN_PORTABLE, OWN_ONE = "cauda", "cauda, portable", "cauda, one sync"
NODELAY = {"TCP_NODELAY": "1"}
_OUT = "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Somebody to send to, running."""

    name: str
    durable: str  # what is on disk for sure when it says success
    command: str
    port: int
    pid: int
    place: Path  # where it writes
    syncs: Sequence[str] = ()  # the calls that must be seen for each image
    slots: int = 0  # files that it keeps ready when it is idle

    @contextmanager
    def traced(self) -> Iterator[list[str]]:
        """The sync calls that it makes meanwhile, by strace."""
        record, calls = self.place / "trace", list[str]()
        argv = [program("strace"), "-f", "-p", str(self.pid), "-e", "trace=fsync,fdatasync", "-o", record]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as strace:
            if strace.stderr is None or "attached" not in strace.stderr.readline():
                raise SystemExit("strace cannot look at our listener; it takes the right to trace")
            yield calls
            strace.send_signal(signal.SIGINT)
        calls += re.findall(r"\b(fsync|fdatasync)\(", record.read_text(errors="replace"))

    def stopped(self) -> AbstractContextManager[None]:
        """It does nothing in the block, so that it takes nothing from whoever is measured; goes on after."""
        return self._signalled(signal.SIGSTOP, signal.SIGCONT)

    def awake(self) -> AbstractContextManager[None]:
        """Goes on for the block while it is `stopped`."""
        return self._signalled(signal.SIGCONT, signal.SIGSTOP)

    @contextmanager
    def _signalled(self, before: int, after: int) -> Iterator[None]:
        try:
            self._signal(before)
            yield
        finally:
            self._signal(after)

    def _signal(self, number: int) -> None:
        for pid in tree(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def idle(self) -> bool:
        """Whether it has filed everything, and has its files ready for the next burst."""
        return not landed(self.place / "data") and len(list(self.place.glob("data/arrivals/*/*.slot"))) == self.slots

    def cpu_s(self) -> float:
        """Processor time of its processes and of those that have ended; a tracer's own is not counted."""
        return _of_tree(self.pid, _cpu_s)

    def most_mb(self) -> float:
        """The largest resident size so far, of all its living processes together."""
        return _of_tree(self.pid, _most_kb) / 1024


def tree(pid: int) -> list[int]:
    """A process and those below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread ended meanwhile
            for child in task.read_text().split():
                found += tree(int(child))
    return found


def _of_tree(pid: int, value: Callable[[int], float]) -> float:
    """The sum over a process and those below it; again when one ends meanwhile, whose time is its parent's then."""
    for _ in range(100):
        with suppress(OSError):
            return sum(value(one) for one in tree(pid))
    raise SystemExit("a server has ended")


def _cpu_s(pid: int) -> float:
    name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    if name.endswith("(strace"):
        return 0.0
    ended = sum(map(int, rest.split()[13:15])) / os.sysconf("SC_CLK_TCK")  # children that were waited for
    return time.clock_gettime(~pid << 3 | 2) + ended  # clock_getcpuclockid(3); /proc counts in steps of 10 ms


def _most_kb(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found and Path(f"/proc/{pid}/comm").read_text() != "strace\n" else 0


@contextmanager
def running(
    folder: Path,
    name: str,
    durable: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    syncs: Sequence[str] = (),
    slots: int = 0,
) -> Iterator[Server]:
    """A server until the end of the block. PORT and OUT in the command are filled in."""
    port, place = free_port(), folder / re.sub(r"\W+", "-", name)
    (place / _OUT).mkdir(parents=True)
    argv = [one.replace("PORT", str(port)).replace("OUT", str(place / _OUT)) for one in argv]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=place,
                                   env=os.environ | dict(env or {}), process_group=0)  # fmt: skip
    try:
        until(lambda: answers(port) or process.poll() is not None, 60, f"{name} to listen")
        if process.poll() is not None:
            raise SystemExit(f"{name} ended: {(place / 'log').read_text()[-2000:]}")
        yield Server(name=name, durable=durable, command=_shown(argv, env or {}, place), port=port, pid=process.pid,
                     place=place / _OUT, syncs=syncs, slots=slots)  # fmt: skip
    finally:
        process.terminate()
        process.wait(60)


def _shown(argv: Sequence[str], env: Mapping[str, str], place: Path) -> str:
    words = shlex.join(argv).replace(str(place), ".").replace(sys.executable, "python")
    return " ".join([*(f"{key}={value}" for key, value in env.items()), words])


@contextmanager
def archive(name: str, env: Mapping[str, str]) -> Iterator[Server]:
    """Orthanc, with the configuration of the tests: everybody may send, nothing is compressed."""
    before = {key: os.environ.get(key) for key in env}
    os.environ.update(env)
    with orthanc(CALLED) as peer:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
        if peer.popen is None:
            raise SystemExit("Orthanc did not start")
        command = " ".join([*(f"{k}={v}" for k, v in env.items()), "Orthanc orthanc.json"])
        yield Server(name=name, durable="file", command=command, port=peer.port, pid=peer.popen.pid,
                     place=peer.folder)  # fmt: skip


def ours(path: str = "", sync: str = "") -> list[str]:
    """Our command line; as shipped unless a data path or a way to land is named."""
    return [
        "env", *([f"CAUDA_LISTENER__DATA_PATH={path}"] if path else []),
        *([f"CAUDA_LISTENER__SYNC={sync}"] if sync else []), "CAUDA_LIMITS__MIN_FREE_BYTES=0",
        sys.executable, "-P", "-m", "cauda.deploy", "listen", "--data", "OUT/data", "--port", "PORT", "--http", "0",
        "--bundle", "none",
    ]  # fmt: skip


def fastest() -> list[str]:
    """DCMTK's command line that makes the most images a second."""
    return [program("storescp"), "+B", "-pdu", "131072", "-od", "OUT", "PORT"]


def everybody(folder: Path) -> list[AbstractContextManager[Server]]:
    """Everybody, as contexts to enter."""
    scp = program("storescp")
    two = ("fdatasync", "fsync")
    one = [running(folder, OWN_ONE, "yes", ours(sync="one"), syncs=("fsync",))]
    return [
        running(folder, OWN, "yes", ours(), syncs=("fdatasync",), slots=settings.Listener().slots),
        running(folder, OWN_PORTABLE, "yes", ours(sync="portable"), syncs=two),
        *([] if journal.one_sync(folder) else one),
        running(folder, "cauda, stock path", "yes", ours("stock"), syncs=two),
        running(folder, "storescp", "no", [scp, "-od", "OUT", "PORT"]),
        running(folder, "storescp NODELAY", "no", [scp, "-od", "OUT", "PORT"], env=NODELAY),
        running(folder, "storescp fastest", "no", fastest(), env=NODELAY),
        running(folder, "storescp fastest --fork", "no", [*fastest(), "--fork"], env=NODELAY),
        archive("Orthanc", {}),
        archive("Orthanc NODELAY", NODELAY),
        running(folder, "pynetdicom", "no", [sys.executable, "-m", "pynetdicom", "storescp", "PORT", "-od", "OUT"]),
    ]
