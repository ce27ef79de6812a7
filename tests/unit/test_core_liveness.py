"""A dead process must be known for dead, and a living one never taken for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from peers import until

from cauda.core import liveness


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_living_process_is_not_dead_and_a_killed_one_is(other: subprocess.Popen[bytes]) -> None:
    token = liveness.token("grade", other.pid)
    assert not liveness.is_dead(token)
    other.kill()
    other.wait()
    assert liveness.is_dead(token)


def test_a_zombie_holds_no_lease(other: subprocess.Popen[bytes]) -> None:
    """Killed, and its parent has not noticed yet."""
    token = liveness.token("grade", other.pid)
    os.kill(other.pid, signal.SIGKILL)
    until(lambda: liveness.is_dead(token), 5, "the zombie is seen as dead")
    assert other.returncode is None


def test_a_pid_used_again_is_another_process(other: subprocess.Popen[bytes]) -> None:
    place, pid, started = liveness.token("", other.pid).rsplit(":", 2)
    assert liveness.is_dead(f"{place}:{pid}:{int(started) - 1}")


def test_a_process_of_another_machine_or_container_is_not_judged(other: subprocess.Popen[bytes]) -> None:
    boot, namespace, rest = liveness.token("listener", other.pid).split(":", 2)
    other.kill()
    other.wait()
    assert liveness.is_dead(f"{boot}:{namespace}:{rest}")
    assert not liveness.is_dead(f"00000000:{namespace}:{rest}")
    assert not liveness.is_dead(f"{boot}:1:{rest}")


@pytest.mark.parametrize("text", ["", "x", "a:b", "worker-7/grade", "::::"])
def test_a_text_that_is_no_token_is_not_judged(text: str) -> None:
    assert not liveness.is_dead(text)


def test_tokens_differ_by_process_and_role(other: subprocess.Popen[bytes]) -> None:
    mine = liveness.token("grade")
    assert mine == liveness.token("grade")
    assert len({mine, liveness.token("deliver"), liveness.token("grade", other.pid)}) == 3
    assert not liveness.is_dead(mine)
    assert len(mine) <= 128  # the ledger's column
