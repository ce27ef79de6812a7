"""Runs `cauda` and kills it, with SIGKILL, on entering the n-th call of a kind on a path that matches.

    python killer.py CALL PATTERN N -- listen --data DIR ...

The product knows nothing of it: the calls are those of the standard library, wrapped before the product is imported.
Forked children inherit the wrap; each counts for itself.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _place(argument: Any) -> str:
    return str(Path(f"/proc/self/fd/{argument}").readlink()) if isinstance(argument, int) else os.fspath(argument)


def arm(call: str, pattern: str, when: int) -> None:
    """Wrap ``os.<call>``; the path that counts is its last argument."""
    real: Callable[..., Any] = getattr(os, call)
    lock = threading.Lock()
    seen = 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        if re.search(pattern, _place(arguments[-1])):
            with lock:
                seen += 1
                if seen == when:
                    os.write(2, f"killed on entering {call} {when}\n".encode())
                    os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, call, deadly)


if __name__ == "__main__":
    separator = sys.argv.index("--")
    arm(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.argv[1:] = sys.argv[separator + 1 :]
    from cauda.deploy.cli import main

    main()
