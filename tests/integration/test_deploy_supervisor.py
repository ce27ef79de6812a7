"""The supervisor with real processes: restarts, clean ends, and nobody outlives a killed parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cauda.core.errors import Misconfigured
from cauda.deploy.lock import alone
from cauda.deploy.supervisor import Program, supervise

PYTHON = (sys.executable, "-P", "-c")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def in_thread(programs: list[Program], grace_s: float) -> tuple[threading.Event, threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=supervise, args=(programs, stop), kwargs={"grace_s": grace_s})
    thread.start()
    return stop, thread


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    """A crash of a worker needs nobody."""
    log = tmp_path / "pids"
    body = f"import os; open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n'); os.kill(os.getpid(), 9)"
    stop, thread = in_thread([Program(name="x", argv=(*PYTHON, body))], 1)
    try:
        wait_for(lambda: log.exists() and len(log.read_text().split()) >= 2, "a second start")
    finally:
        stop.set()
        thread.join(10)
    pids = log.read_text().split()
    assert len(set(pids)) == len(pids)


def test_stop_ends_programs_and_what_they_started(tmp_path: Path) -> None:
    """A program that does not hear SIGTERM is killed after the grace, with its children."""
    log = tmp_path / "pids"
    body = (
        "import os, signal, subprocess, time, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(log)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n'); time.sleep(600)"
    )
    stop, thread = in_thread([Program(name="x", argv=(*PYTHON, body))], 0.2)
    wait_for(lambda: log.exists() and log.read_text().endswith("\n"), "the program to run")
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    wait_for(lambda: not any(lives(int(pid)) for pid in log.read_text().split()), "all to have ended")


def test_what_is_misconfigured_at_its_first_start_is_said_and_not_repeated() -> None:
    with pytest.raises(Misconfigured, match="grade does not start"):
        supervise([Program(name="grade", argv=(*PYTHON, "raise SystemExit(2)"))], threading.Event(), grace_s=1)


def test_a_folder_has_one_up_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Misconfigured, match="another"), alone(tmp_path, patience_s=0.2):
        pass
    with alone(tmp_path):  # given up with the block
        pass


_PARENT = """
import os, sys, threading
from cauda.deploy.supervisor import Program, supervise
body = "import os, sys; from cauda.deploy.lifeline import tie; tie(int(sys.argv[1])); print(os.getpid(), flush=True);" \
       "import time; time.sleep(600)"
supervise([Program(name="x", argv=(sys.executable, "-P", "-c", body, str(os.getpid())))], threading.Event(), grace_s=1)
"""


def test_a_killed_supervisor_takes_its_programs_along() -> None:
    """PR_SET_PDEATHSIG: kill -9 of the parent leaves nothing running."""
    parent = subprocess.Popen([*PYTHON, _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = next(int(line) for line in parent.stdout if line.strip().isdigit())  # between log lines
    assert lives(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not lives(child), "the child to end")


def test_a_child_whose_parent_died_before_it_could_ask_ends_itself() -> None:
    """The moment between fork and prctl: the parent named is not the parent any more."""
    body = "from cauda.deploy.lifeline import tie; tie(1 << 22); print('still here')"
    done = subprocess.run([*PYTHON, body], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "still here" not in done.stdout


_WAITER = """
import sys
from cauda.deploy.signals import stop_event
with stop_event() as stop:
    print("ready", flush=True)
    stop.wait()
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    process = subprocess.Popen([*PYTHON, _WAITER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    assert process.communicate(timeout=20)[0] == "ended\n"
    assert process.returncode == 0
