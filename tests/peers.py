"""Real peers for tests: Orthanc, Redis, PostgreSQL and DCMTK, each on a free port with a folder of its own.

Every peer is a context manager; its process ends with the block, and with this process whatever ends that. ``stop``
and ``start`` play a peer that goes away and comes back with what it had.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

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


def program(name: str) -> str:
    """The path of an installed program; AssertionError names the one that is missing."""
    found = shutil.which(name) or shutil.which(name, path=f"{POSTGRES_BIN}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise AssertionError(f"{name} is not installed: run .ci/peers")
    return found


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

    def pause(self) -> None:
        """Freeze it: it neither answers nor goes away."""
        if self.popen is not None:
            self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        if self.popen is not None:
            self.popen.send_signal(signal.SIGCONT)


def _get(url: str, data: bytes | None = None, method: str | None = None) -> Any:
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310  our own loopback address
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  the same
        text = answer.read()
    return json.loads(text) if text.strip() else None


@dataclass(kw_only=True)
class Orthanc(Process):
    """An archive: DICOM on ``port``, REST on ``http``."""

    aet: str
    http: int

    @property
    def url(self) -> str:
        """Where its REST API is."""
        return f"http://{HOST}:{self.http}"

    @property
    def dimse(self) -> str:
        """How Cauda is told to send there."""
        return f"dimse://{self.aet}@{HOST}:{self.port}"

    def ready(self) -> bool:
        """Both doors are open."""
        if not super().ready():
            return False
        try:
            self.get("/system")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def get(self, path: str) -> Any:
        """Read from the REST API."""
        return _get(self.url + path)

    def post(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Write to the REST API; bytes are sent as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return _get(self.url + path, data, method)

    def store(self, files: Iterable[Path]) -> None:
        """Put files into the archive, past DICOM."""
        for file in files:
            self.post("/instances", file.read_bytes())

    def studies(self) -> list[str]:
        """The Study Instance UIDs it holds."""
        return [s["MainDicomTags"]["StudyInstanceUID"] for s in self.get("/studies?expand")]

    def instances(self, study_uid: str | None = None) -> list[dict[str, Any]]:
        """All instances, or those of a study: sop_uid, series_uid, modality, and ``id`` for `file` and `send`."""
        found: list[dict[str, Any]] = []
        for study in self.get("/studies?expand"):
            if study_uid not in {None, study["MainDicomTags"]["StudyInstanceUID"]}:
                continue
            for series in self.get(f"/studies/{study['ID']}/series"):
                tags = series["MainDicomTags"]
                found += [
                    {
                        "id": one["ID"],
                        "sop_uid": one["MainDicomTags"]["SOPInstanceUID"],
                        "series_uid": tags["SeriesInstanceUID"],
                        "modality": tags.get("Modality", ""),
                        "study_uid": study["MainDicomTags"]["StudyInstanceUID"],
                    }
                    for one in self.get(f"/series/{series['ID']}/instances")
                ]
        return found

    def results(self, study_uid: str) -> list[dict[str, Any]]:
        """The instances of a study that are no MR images: what was sent to the archive beside them."""
        return [one for one in self.instances(study_uid) if one["modality"] != "MR"]

    def file(self, instance_id: str) -> bytes:
        """The stored Part 10 file of an instance."""
        with urllib.request.urlopen(f"{self.url}/instances/{instance_id}/file", timeout=20) as answer:  # noqa: S310
            content: bytes = answer.read()
        return content

    def know(self, name: str, aet: str, port: int, host: str = HOST) -> None:
        """Make a modality known, to send to it."""
        self.post(f"/modalities/{name}", [aet, host, port], "PUT")

    def send(self, name: str, instance_ids: Sequence[str]) -> None:
        """C-STORE instances to a known modality; raises HTTPError when one was not accepted."""
        self.post(f"/modalities/{name}/store", {"Resources": list(instance_ids), "Synchronous": True})


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"cauda-{prefix}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def orthanc(aet: str = "ORTHANC", *, started: bool = True, **config: Any) -> Iterator[Orthanc]:
    """An Orthanc that takes everything from everybody; keyword arguments change its configuration."""
    with _folder("orthanc") as folder:
        port, http = free_port(), free_port()
        settings: dict[str, Any] = {
            "Name": aet,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": http,
            "DicomPort": port,
            "DicomAet": aet,
            "DicomCheckCalledAet": False,
            "DicomCheckModalityHost": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "OverwriteInstances": False,
            "StableAge": 1,
            "DicomModalities": {},
            "Plugins": [],
            "JobsHistorySize": 10,
            "SaveJobs": False,
            "DicomScpTimeout": 30,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings | config))
        peer = Orthanc(
            argv=[program("Orthanc"), str(folder / "orthanc.json")], port=port, http=http, folder=folder, aet=aet
        )
        try:
            if started:
                peer.start()
            yield peer
        finally:
            peer.resume()
            peer.stop(signal.SIGKILL)  # an orderly end takes it seconds


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
    with _folder("redis") as folder:
        port = free_port()
        options = ["--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
        peer = Redis(argv=[program("redis-server"), *options], port=port, folder=folder)
        try:
            peer.start()
            yield peer
        finally:
            peer.resume()
            peer.stop()


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
    with _folder("postgres") as folder:
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
        try:
            peer.start()
            yield peer
        finally:
            peer.resume()
            peer.stop(signal.SIGQUIT)


@dataclass(kw_only=True)
class Storescp(Process):
    """DCMTK's storage SCP: takes everything into ``received``."""

    aet: str

    @property
    def received(self) -> Path:
        """Where it writes."""
        return self.folder / "received"

    @property
    def dimse(self) -> str:
        """How Cauda is told to send there."""
        return f"dimse://{self.aet}@{HOST}:{self.port}"

    def files(self) -> list[Path]:
        """What it has received."""
        return sorted(p for p in self.received.rglob("*") if p.is_file())


@contextmanager
def storescp(*options: str, aet: str = "STORESCP") -> Iterator[Storescp]:
    """DCMTK's storescp with further options (``--refuse``, ``--abort-during``, ``--sleep-during 3`` ...)."""
    with _folder("storescp") as folder:
        port = free_port()
        (folder / "received").mkdir()
        argv = [program("storescp"), "-aet", aet, "-od", str(folder / "received"), "+xa", *options, str(port)]
        peer = Storescp(argv=argv, port=port, folder=folder, aet=aet)
        try:
            peer.start()
            yield peer
        finally:
            peer.resume()
            peer.stop()


def storescu(
    port: int, files: Iterable[Path], *options: str, called: str = "CAUDA", calling: str = "STORESCU",
    timeout: float = 120, env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """DCMTK's storescu; ``-R`` negotiates only what the files need. Output is text; nothing is raised on failure."""
    argv = [program("storescu"), "-aet", calling, "-aec", called, *options, HOST, str(port), *map(str, files)]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=timeout, env=env)


def echoscu(port: int, *, called: str = "CAUDA", calling: str = "ECHOSCU") -> bool:
    """DCMTK's echoscu: whether the node answers."""
    argv = [program("echoscu"), "-aet", calling, "-aec", called, "-ta", "5", "-td", "5", HOST, str(port)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode == 0
