"""A whole Cauda as real processes, a sender that remembers what was acknowledged, and eyes that are not Cauda's own.

What is checked here is read with sqlite3 or psql, with the file system and with the archive; never by the product.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builders import MR_IMAGE, dataset_bytes, part10
from dicom_peers import only_asking
from listener_house import landed
from peers import HOST, PATIENCE, Postgres, answers, free_port, until
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

QUICK = {
    "CAUDA_COMPLETENESS__AFTER_RELEASE_S": "0.3",
    "CAUDA_COMPLETENESS__QUIET_S": "20",
    "CAUDA_DELIVERY__RETRY_S": "0.5",
    "CAUDA_DELIVERY__RETRY_MAX_S": "2",
    "CAUDA_LIMITS__MIN_FREE_BYTES": "0",
    "CAUDA_LIMITS__DRAIN_S": "5",
    "CAUDA_LISTENER__SLOTS": "16",
    "CAUDA_LOG__FORMAT": "json",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Waits short enough for a test; everything else as shipped."""


def pids_below(pid: int) -> list[int]:
    """The living descendants of a process, parents first."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *pids_below(int(child))]
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def command_line(pid: int) -> str:
    """How a process was started."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True)
class Node:
    """One `cauda` process tree. ``command`` is `up`, `listen` or `work`."""

    data: Path
    send_to: Sequence[str] = ()
    command: Sequence[str] = ("up",)
    env: Mapping[str, str] = field(default_factory=dict)
    under: Sequence[str] = ()  # a program that starts it: strace ...
    launch: Sequence[str] = (sys.executable, "-P", "-m", "cauda.deploy")
    postgres: Postgres | None = None
    port: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    popen: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.data.parent / f"{self.data.name}.{'-'.join(self.command)}.{self.port}.log"

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = []
        for line in lines:
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found

    def start(self, *, wait: bool = True, timeout: float = 60) -> Node:
        """Start it, and wait until it serves."""
        doors = self.command[0] != "work"
        options = ["--data", str(self.data), "--bundle", "none"]
        options += [part for one in self.send_to for part in ("--send-to", one)]
        options += ["--port", str(self.port), "--http", str(self.http)] if doors else []
        # the kernel ends it with us, whatever ends us
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *self.under, *self.launch, *self.command, *options]
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.data.parent,
                env={**os.environ, **QUICK, **self.env}, start_new_session=True,
            )  # fmt: skip
        running = self.popen
        if wait and doors:

            def up() -> bool:
                assert running.poll() is None, f"ended with {running.returncode}: {self.log.read_text()[-3000:]}"
                return answers(self.port) and answers(self.http)

            until(up, timeout, "the node serves")
        return self

    @property
    def pid(self) -> int:
        """The first process of the tree."""
        assert self.popen is not None
        return self.popen.pid

    def tree(self) -> dict[str, int]:
        """The living processes by what they do: up, grade, grade child, deliver."""
        found = {"up": self.pid} if self.popen is not None and self.popen.poll() is None else {}
        for pid in pids_below(self.pid):
            line = command_line(pid)
            for queue in ("grade", "deliver"):
                if f"--queue {queue}" in line and alive(pid):
                    found[f"{queue} child" if queue in found else queue] = pid
        return found

    def kill(self) -> None:
        """Kill -9 the first process; the rest must end by itself, and does so before this returns."""
        below = pids_below(self.pid)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if self.popen is not None:
            self.popen.wait(30)
        until(lambda: not any(alive(pid) for pid in below), 10, "children end with their parent")

    def stop(self, timeout: float = 120) -> int:
        """SIGTERM, and its exit status."""
        assert self.popen is not None
        if self.popen.poll() is None:
            os.kill(pids_below(self.pid)[0] if self.under else self.pid, signal.SIGTERM)
        return self.popen.wait(timeout)

    def end(self) -> None:
        """Whatever is left of it."""
        if self.popen is None:
            return
        for pid in [self.pid, *pids_below(self.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait(30)

    def get(self, path: str) -> tuple[int, str]:
        """A page's status and text."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.http}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def sql(self, query: str) -> list[tuple[str, ...]]:
        """Rows of the ledger as text, read past the product."""
        if self.postgres is not None:
            database = self.env["CAUDA_LEDGER_URL"].rpartition("/")[2]
            text = self.postgres.sql(query, database)
            return [tuple(line.split("|")) for line in text.splitlines()]
        path = self.data / "ledger.sqlite"
        if not path.exists():
            return []
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as conn:
            rows = conn.execute(query).fetchall()
        conn.close()
        return [tuple("" if value is None else str(value) for value in row) for row in rows]

    def one(self, query: str) -> str:
        """The single value of a query; empty when there is none."""
        with suppress(sqlite3.OperationalError):
            rows = self.sql(query)
            return rows[0][0] if rows else ""
        return ""


@contextmanager
def node(data: Path, *send_to: str, start: bool = True, **options: Any) -> Iterator[Node]:
    """A node that is gone when the block ends, whatever happened."""
    data.parent.mkdir(parents=True, exist_ok=True)
    made = Node(data=data, send_to=send_to, **options)
    try:
        yield made.start() if start else made
    finally:
        made.end()


@dataclass
class Sender:
    """A modality: sends studies, notes what was acknowledged, and sends again what was not."""

    port: int
    called: str = "CAUDA"
    calling: str = "MODALITY"
    acknowledged: dict[str, Dataset] = field(default_factory=dict)  # by SOP Instance UID
    statuses: list[int] = field(default_factory=list)

    def attempt(self, images: Iterable[Dataset], *, release: bool = True) -> bool:
        """Send over one association; True when all was acknowledged."""
        ae = AE(self.calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
        for kind in {str(image.SOPClassUID) for image in images}:
            ae.add_requested_context(kind, ExplicitVRLittleEndian)
        association = only_asking(ae.associate(HOST, self.port, ae_title=self.called))
        if not association.is_established:
            return False
        whole = True
        try:
            for image in images:
                image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                status = association.send_c_store(image).get("Status")
                self.statuses.append(-1 if status is None else int(status))
                if status == 0x0000:
                    self.acknowledged[str(image.SOPInstanceUID)] = image
                else:
                    whole = False
                    if status is None:
                        break
        except (RuntimeError, ValueError):  # the association ended under our hands
            whole = False
        if not association.is_established:
            return False
        if release:
            association.release()
        else:
            association.abort()
        return whole

    def insist(self, images: Sequence[Dataset], timeout: float = 60, stop: threading.Event | None = None) -> None:
        """Send until everything was acknowledged, as a modality's queue does."""
        deadline = time.monotonic() + timeout * PATIENCE
        prepared(images)
        while missing := [image for image in images if str(image.SOPInstanceUID) not in self.acknowledged]:
            if stop is not None and stop.is_set():
                return
            assert time.monotonic() < deadline, f"{len(missing)} images were not taken in {timeout} s"
            if not self.attempt(missing):
                time.sleep(0.05)  # a queue's pause between attempts, not a synchronisation


def prepared(images: Sequence[Dataset]) -> Sequence[Dataset]:
    """The images with the File Meta that a C-STORE takes its transfer syntax from."""
    for image in images:
        part10(image)
    return images


def own_encoding(image: Dataset) -> bytes:
    """The data set as the sender encodes it."""
    return dataset_bytes(part10(image))


def kept(data: Path, image: Dataset) -> bool:
    """Whether the image lies in its study's folder, byte for byte."""
    file = data / "studies" / str(image.StudyInstanceUID) / f"{image.SOPInstanceUID}.dcm"
    return file.is_file() and dataset_bytes(file.read_bytes()) == own_encoding(image)


def settled(house: Node, studies: Sequence[str], deliveries_each: int, timeout: float = 90) -> None:
    """Wait until every study has its results accepted everywhere; the assertion says what is missing."""

    def missing() -> dict[str, str]:
        lacking = {}
        states = {row[0]: int(row[1]) for row in house.sql(
            "SELECT study_uid, count(*) FROM delivery WHERE state IN ('accepted', 'committed') "
            "GROUP BY study_uid")}  # fmt: skip
        for study in studies:
            if states.get(study, 0) < deliveries_each:
                lacking[study] = str(
                    house.sql(f"SELECT state, hold, complete_reason FROM study WHERE uid = '{study}'")
                    + house.sql(f"SELECT number, state, attempt, deaths FROM revision WHERE study_uid = '{study}'")
                    + house.sql(f"SELECT destination, state, reason FROM delivery WHERE study_uid = '{study}'")
                )
        return lacking

    last: dict[str, str] = {}

    def done() -> bool:
        nonlocal last
        try:
            last = missing()
        except (sqlite3.OperationalError, subprocess.CalledProcessError) as error:
            last = {"ledger": str(error)}
        return not last

    try:
        until(done, timeout, "all is delivered", every=0.2)
    except AssertionError:
        raise AssertionError(f"not delivered within {timeout} s: {last}\n{house.log.read_text()[-3000:]}") from None


def hash_of(content: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(content).hexdigest()


def nothing_in_between(data: Path) -> list[str]:
    """What lies about that should not: parts, arrivals, things that could not be filed, second versions."""
    unfiled = landed(data)
    return sorted(
        str(p.relative_to(data))
        for p in data.rglob("*")
        if p.is_file()
        and (
            p.suffix == ".part"
            or p in unfiled
            or (p.suffix == ".dcm" and p.relative_to(data).parts[0] == "unfiled")
            or ".v2." in p.name
        )
    )


def assert_each_once(house: Node, sender: Sender, studies: Sequence[str], folder: Path | None = None) -> None:
    """Acknowledged = kept = reported = delivered, each once, under the same UIDs (issue 2)."""
    lost = [uid for uid, image in sender.acknowledged.items() if not kept(house.data, image)]
    assert lost == [], f"acknowledged and not kept: {lost}"
    assert nothing_in_between(house.data) == []
    images = [i for i in sender.acknowledged.values() if i.SOPClassUID == MR_IMAGE]
    rows = house.sql("SELECT study_uid, sop_uid, version FROM instance WHERE role <> 'inert'")
    assert sorted(rows) == sorted((str(i.StudyInstanceUID), str(i.SOPInstanceUID), "1") for i in images)
    for study in studies:
        revisions = house.sql(f"SELECT number, state FROM revision WHERE study_uid = '{study}'")
        assert revisions == [("1", "reported")], (study, revisions)
        results = house.sql(f"SELECT kind, sop_uid, sha256 FROM result WHERE study_uid = '{study}' ORDER BY kind")
        assert [row[0] for row in results] == ["sc", "sr"], (study, results)
        outbox = {p.stem: hash_of(p.read_bytes()) for p in (house.data / "outbox" / study).iterdir()}
        assert outbox == {row[1]: row[2] for row in results}
        if folder is not None:
            delivered = {p.stem: dataset_bytes(p.read_bytes()) for p in (folder / study).iterdir()}
            made = {p.stem: dataset_bytes(p.read_bytes()) for p in (house.data / "outbox" / study).iterdir()}
            assert delivered == made
