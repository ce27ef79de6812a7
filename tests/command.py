"""`cauda` as a process of its own, forked from one that has its imports: loading them takes two seconds each time."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO, NoReturn

from cauda.deploy import cli


def cauda(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; nothing is raised on failure."""
    argv = ["cauda", *map(str, words)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _run(argv, out, err)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(
            argv, os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()
        )


def _run(argv: list[str], out: IO[bytes], err: IO[bytes]) -> NoReturn:
    code = 1
    try:
        for number, to in enumerate((os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno())):
            os.dup2(to, number)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding="utf-8") for number in (1, 2)
        )
        sys.argv = argv
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  whatever it is must not go on as a second test run
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
