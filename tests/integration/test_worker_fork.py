"""What the worker's parent process must not do: hold a database open while it forks, or load torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORK = """
import os, sys, threading, time
from pathlib import Path
from worker_house import house
from cauda.worker.tick import Ear, Tick, Work

at = house(Path(sys.argv[1]))
looking, go_on, forking, forked = (threading.Event() for _ in range(4))

def bell(_task):
    looking.set()
    go_on.wait(20)

tick = Tick(ledger=at.ledger, bell=bell, task="cauda.grade", role="grade", token="t", known=(), every_s=0.01,
            work=Work(slots=lambda: 1, busy=lambda: False, begun=lambda: 0, deaf=lambda: None),
            ear=Ear(patience_s=60), clock=time.monotonic)
tick.guard_forks()
os.register_at_fork(before=forking.set)  # runs before the guard's own

import builders
at.complete(builders.mr_study(1))  # so that there is something to ring for
threading.Thread(target=tick.run, daemon=True).start()
assert looking.wait(20)

def fork():
    pid = os.fork()
    if pid == 0:
        open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                      if os.path.exists(f"/proc/self/fd/{fd}")]
        os._exit(1 if any("ledger" in name for name in open_files) else 0)
    forked.set()
    print("child", os.waitpid(pid, 0)[1])

thread = threading.Thread(target=fork)
thread.start()
assert forking.wait(20)
print("forked during the tick", forked.is_set())
go_on.set()
thread.join(20)
print("forked after the tick", forked.is_set())
"""


def test_a_fork_waits_for_the_tick_and_inherits_no_open_ledger(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORK, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert run.stdout.splitlines() == ["forked during the tick False", "child 0", "forked after the tick True"], run


def test_the_worker_itself_loads_no_torch() -> None:
    """Only the forked child does, and only with a bundle."""
    code = "import sys, cauda.worker.serve; print([m for m in ('torch', 'timm', 'sklearn') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"
