"""Real peers for tests, each on a free port with a folder of its own: Redis, PostgreSQL; `dicom_peers` has the rest.

Every peer is a context manager; its process ends with the block, and with this process whatever ends that. ``stop``
and ``start`` play a peer that goes away and comes back with what it had.
"""

from __future__ import annotations

import functools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

HOST = "127.0.0.1"
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")

PATIENCE = 3.0  # a busy machine needs longer; only a failure waits that long

T = TypeVar("T")


def free_port() -> int:
    """A port nobody listens on, below the range from which the kernel takes ports for outgoing connections."""
    draw = random.SystemRandom()
    while True:
        port = draw.randint(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def until(condition: Callable[[], T], timeout: float = 20.0, what: str = "", every: float = 0.02) -> T:
    """Poll until the condition is true and return its value; AssertionError with ``what`` when the time is over.

    ``timeout`` is what a quiet machine needs in the worst case; a busy one is given more.
    """
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}; last seen: {value!r}")
        time.sleep(every)


def answers(port: int, host: str = HOST) -> bool:
    """Whether somebody accepts TCP connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


_PLACES = (POSTGRES_BIN, "/usr/sbin", "/usr/local/sbin")
# pynetdicom installs programs of the same names beside Python, which have other options.
_OF_DCMTK = frozenset({"storescu", "storescp", "echoscu", "findscu", "movescu", "getscu"})


@functools.cache
def program(name: str) -> str:
    """The path of an installed program; AssertionError names the one that is missing."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *map(str, _PLACES)))
    for folder in path.split(os.pathsep):
        found = shutil.which(name, path=folder)
        if found is not None and (name not in _OF_DCMTK or _is_dcmtks(found)):
            return found
    raise AssertionError(f"{name} is not installed: run .ci/peers")


def _is_dcmtks(path: str) -> bool:
    said = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=30).stdout
    return "$dcmtk" in said


@dataclass(kw_only=True)
class Process:
    """A program that runs until `stop`; its output lies in ``log``."""

    argv: Sequence[str]
    port: int
    folder: Path
    user: str | None = None  # only root can run it as somebody else
    name: str = ""
    popen: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """What the program said."""
        return self.folder / "log"

    def ready(self) -> bool:
        """Whether it serves."""
        return answers(self.port)

    def start(self, timeout: float = 30.0) -> None:
        """Start it (again) and wait until it serves."""
        # The kernel ends the program with us, even when we are killed ourselves.
        tie = ["setpriv", "--pdeathsig", "KILL"]
        if self.user is not None and os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            tie += ["--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups"]
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen([*tie, "--", *self.argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                          cwd=self.folder)  # fmt: skip
        running = self.popen

        def up() -> bool:
            if running.poll() is not None:
                raise AssertionError(f"{self.argv[0]} ended with {running.returncode}: {self.log.read_text()[-2000:]}")
            return self.ready()

        try:
            until(up, timeout, f"{self.argv[0]} serves on port {self.port}")
        except BaseException:
            self.stop()
            raise

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait for that; killed when it does not obey."""
        if self.popen is None:
            return
        if self.popen.poll() is None:
            self.popen.send_signal(how)
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait(15)
        self.popen = None

    @contextmanager
    def running(self, how: signal.Signals = signal.SIGTERM, *, started: bool = True) -> Iterator[None]:
        """It runs, or can be started, until the block ends, whatever happened."""
        try:
            if started:
                self.start()
            yield
        finally:
            self.resume()
            self.stop(how)

    def pause(self) -> None:
        """Freeze it: it neither answers nor goes away."""
        if self.popen is not None:
            self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        if self.popen is not None:
            self.popen.send_signal(signal.SIGCONT)


@contextmanager
def own_folder(prefix: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"cauda-{prefix}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(kw_only=True)
class Redis(Process):
    """A Redis without persistence: a restart has lost everything."""

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://{HOST}:{self.port}/0"

    def flush(self) -> None:
        """Wipe it."""
        subprocess.run([program("redis-cli"), "-p", str(self.port), "flushall"], check=True, capture_output=True)


@contextmanager
def redis_server() -> Iterator[Redis]:
    """A Redis on a free port."""
    with own_folder("redis") as folder:
        port = free_port()
        options = ["--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
        peer = Redis(argv=[program("redis-server"), *options], port=port, folder=folder)
        with peer.running():
            yield peer


@dataclass(kw_only=True)
class Postgres(Process):
    """A PostgreSQL cluster; each `database` is fresh."""

    made: int = 0

    def ready(self) -> bool:
        """Queries are answered, not only connections accepted."""
        argv = [program("pg_isready"), "-h", HOST, "-p", str(self.port), "-q"]
        return subprocess.run(argv, check=False).returncode == 0

    def database(self, template: str = "template0") -> str:
        """Make a new database, empty or as a copy of another of ours, and return its URL."""
        self.made += 1
        name = f"cauda_{self.made}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"postgresql://cauda@{HOST}:{self.port}/{name}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as superuser; returns psql's unaligned output."""
        argv = [program("psql"), "-h", HOST, "-p", str(self.port), "-U", "cauda", "-d", database, "-XAtqc", statement]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Fast shutdown; SIGQUIT is a crash."""
        super().stop(how)


@contextmanager
def postgres(**config: str) -> Iterator[Postgres]:
    """A PostgreSQL cluster run as a user that is not root; keyword arguments are its settings."""
    user = "postgres" if os.geteuid() == 0 else None
    with own_folder("postgres") as folder:
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        cluster, port = folder / "cluster", free_port()
        init = [program("initdb"), "-D", str(cluster), "-U", "cauda", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*init, "--locale=C.UTF-8"], check=True, capture_output=True, cwd=folder, user=user)
        settings = {"listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off"} | config
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        argv = [program("postgres"), "-D", str(cluster), "-p", str(port), *options]
        peer = Postgres(argv=argv, port=port, folder=folder, user=user)
        with peer.running(signal.SIGQUIT):
            yield peer
