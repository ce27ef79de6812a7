"""`cauda up` as a process: it says when it is ready, ends cleanly, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from peers import HOST, answers, free_port, program, until

pytestmark = pytest.mark.peers
QUIET = {"CAUDA_LIMITS__MIN_FREE_BYTES": "0", "CAUDA_LOG__FORMAT": "json"}


@dataclass(frozen=True, slots=True)
class Up:
    """A running `cauda up`."""

    process: subprocess.Popen[bytes]
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log events of a name."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [one for one in found if one["event"] == name]

    def children(self) -> list[int]:
        """Every process below it."""
        return [pid for pid in pids() if self.process.pid in ancestors(pid)]


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            break
        if fields[0] in "ZX":
            return []
        pid = int(fields[1])
        found.append(pid)
    return found


@contextmanager
def up(folder: Path, *words: str) -> Iterator[Up]:
    """Started on the folder's data, stopped with the block if it still runs."""
    log = folder / f"log{len(list(folder.glob('log*')))}"
    command = [sys.executable, "-P", "-m", "cauda.deploy", "up", "--data", str(folder / "data"), "--bundle", "none"]
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                                   env=os.environ | QUIET)  # fmt: skip
    try:
        yield Up(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


def ready(node: Up) -> dict[str, Any]:
    """Listening, and both workers there; returns the event with the ports."""
    until(lambda: node.events("ready") or node.process.poll() is not None, 60, "cauda up to be ready")
    assert node.process.poll() is None, node.log.read_text()
    until(lambda: len(node.events("worker_starts")) >= 2, 60, "both workers")
    return node.events("ready")[0]


def test_it_is_ready_answers_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--http", "0") as node:
        ports = ready(node)
        subprocess.run([program("echoscu"), "-aec", "CAUDA", HOST, str(ports["dimse"])], check=True, timeout=30)
        children = node.children()
        assert len(children) >= 2
        node.process.terminate()
        assert node.process.wait(40) == 0
        assert not set(children) & set(pids())
        assert not answers(ports["dimse"])


@pytest.mark.parametrize("moment", ["at the first sign of life", "when ready"])
def test_a_killed_node_leaves_nothing_and_starts_again_at_once(tmp_path: Path, moment: str) -> None:
    """Same data folder, same ports, no waiting: kill -9 at any instant of the start too."""
    words = ("--port", str(free_port()), "--http", str(free_port()))
    with up(tmp_path, *words) as node:
        if moment == "when ready":
            ready(node)
        else:
            until(lambda: node.events("child_started"), 60, "a child")
        children = node.children()
        node.process.kill()
        node.process.wait(10)
        until(lambda: not set(children) & {pid for pid in pids() if ancestors(pid)}, 10, "the children's end")
    with up(tmp_path, *words) as again:
        ready(again)
        again.process.terminate()
        assert again.process.wait(40) == 0


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--http", "0") as node:
        ready(node)
        for started in node.events("child_started"):
            os.kill(started["pid"], signal.SIGKILL)
        until(lambda: len(node.events("worker_starts")) >= 4, 60, "both workers again")
        assert node.process.poll() is None


def mistake(folder: Path, *words: str) -> str:
    """Start it wrongly; returns what it said."""
    with up(folder, *words) as node:
        assert node.process.wait(60) == 2, node.log.read_text()
        text = node.log.read_text()
        assert "Traceback" not in text
        return next(line for line in text.splitlines() if line.startswith("cauda: "))


def test_a_second_node_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--http", "0") as node:
        ready(node)
        assert "another `cauda up`" in mistake(tmp_path, "--port", "0", "--http", "0")
        assert node.process.poll() is None


@pytest.mark.parametrize("option", ["--port", "--http"])
def test_a_taken_port_is_named(tmp_path: Path, option: str) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = str(other.getsockname()[1])
        words = {"--port": "0", "--http": "0"} | {option: port}
        assert port in mistake(tmp_path, *(word for pair in words.items() for word in pair))


def test_a_data_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert "data" in mistake(tmp_path, "--port", "0", "--http", "0")
