"""Which processes are alive: a token that another process on the same machine can check.

A lease runs out by the database's clock whatever happens. A token only shortens the wait where the truth can be
known at once: same kernel boot, same pid namespace, and the pid is gone or belongs to a younger process.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def _place() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    namespace = os.readlink(_PROC / "self/ns/pid")  # noqa: PTH115  the link's text is the value
    return f"{boot[:8]}:{namespace[5:-1]}"


def _started(pid: int) -> str | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] in "ZX" else fields[19]  # a zombie holds no lease


def token(role: str = "", pid: int | None = None) -> str:
    """Names a process for ever: machine boot, pid namespace, pid and start time; ``/role`` may follow."""
    pid = os.getpid() if pid is None else pid
    return f"{_place()}:{pid}:{_started(pid)}" + (f"/{role}" if role else "")


def is_dead(other: str) -> bool:
    """True only when it is certain that the process has ended; False when it lives or cannot be seen from here."""
    place, _, rest = other.split("/", 1)[0].rpartition(":")
    place, _, pid = place.rpartition(":")
    if place != _place() or not pid.isdigit():
        return False
    return _started(int(pid)) != rest
