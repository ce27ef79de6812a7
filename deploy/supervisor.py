"""Keeps programs running beside the listener, and ends them with it (`cauda up`, `cauda work`).

Each program is a process group of its own: a terminal's Ctrl-C reaches the supervisor alone, and what a program left
behind is killed with it. Should the supervisor itself be killed, the kernel kills them (`lifeline`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cauda.core import log
from cauda.core.errors import Misconfigured
from cauda.core.settings import Settings
from cauda.deploy.bootstrap import NO_BUNDLE
from cauda.deploy.options import Options

QUEUES = ("grade", "deliver")
EXIT_MISCONFIGURED = 2
_LOOK_S = 0.1
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_SETTLED_S = 60.0  # who ran so long starts again at once, without what came before counting


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command line under a name for the log."""

    name: str
    argv: tuple[str, ...]


class _Child:
    """A program and the process that runs it now, if any."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.deaths = 0  # in a row
        self.started_at = 0.0
        self.due_at = 0.0

    def look(self, now: float) -> None:
        """Start what is due; note what ended. Misconfigured when the very first start says so."""
        if self.process is None:
            if now >= self.due_at:
                self._start(now)
            return
        code = self.process.poll()
        if code is None:
            return
        self._kill_group()
        self.process = None
        if code == EXIT_MISCONFIGURED and self.starts == 1:
            raise Misconfigured(f"{self.program.name} does not start; what it said stands above")
        self.deaths = 1 if now - self.started_at > _SETTLED_S else self.deaths + 1
        wait_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** (self.deaths - 1))
        self.due_at = now + wait_s
        log.get("supervisor").error("child_died", child=self.program.name, exit_code=code, restart_in_s=wait_s)

    def _start(self, now: float) -> None:
        self.process = subprocess.Popen(self.program.argv, stdin=subprocess.DEVNULL, process_group=0)
        self.starts += 1
        self.started_at = now
        log.get("supervisor").info("child_started", child=self.program.name, pid=self.process.pid)

    def terminate(self) -> None:
        """Ask it to finish what it does and end."""
        if self.process is not None:
            self.process.terminate()

    def reap(self, deadline: float) -> None:
        """Wait for its end until the deadline, then kill it and all it started."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.get("supervisor").warning("child_killed", child=self.program.name, pid=self.process.pid)
        self._kill_group()
        self.process.wait()

    def _kill_group(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)


def supervise(programs: Sequence[Program], stop: threading.Event, *, grace_s: float) -> None:
    """Run the programs until ``stop`` is set, restarting with growing waits what ends; then end them.

    Call it from the main thread: the kernel ties the children to the thread that started them.
    """
    children = [_Child(program) for program in programs]
    try:
        while not stop.is_set():
            for child in children:
                child.look(time.monotonic())
            stop.wait(_LOOK_S)
    finally:
        for child in children:
            child.terminate()
        deadline = time.monotonic() + grace_s
        for child in children:
            child.reap(deadline)


def workers(options: Options, settings: Settings) -> list[Program]:
    """One program a queue, started as on a server, with the options of this command line and its bundle."""
    bundle = str(settings.grading.bundle.resolve()) if settings.grading.bundle else NO_BUNDLE
    arguments = replace(options, bundle=bundle).arguments()
    # -P: what lies in the folder we were started in must not be imported
    python = (sys.executable, "-P", "-m", "cauda.deploy")
    return [
        Program(name=queue, argv=(*python, "work", "--queue", queue, "--supervisor", str(os.getpid()), *arguments))
        for queue in QUEUES
    ]


class Beside:
    """A function in a thread of its own, whose end sets ``stop`` and whose error is raised by `result`."""

    def __init__(self, function: Callable[[], None], stop: threading.Event, name: str) -> None:
        """Start it."""
        self._error: BaseException | None = None
        self._function = function
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001  raised again where the process waits for it
            self._error = error
        finally:
            self._stop.set()

    def result(self) -> None:
        """Wait for its end, and raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
