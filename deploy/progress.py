"""How a running command tells where it stands: one line that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cauda.core.plain_text import plain
from cauda.deploy import output

Tell = Callable[[Callable[[], str]], None]  # is given how to word it, and words it when it is time

_TERMINAL_S = 0.25
_PLAIN_S = 5.0


@contextmanager
def progress(*, silent: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator[Tell]:
    """Tell as often as can be read; the changing line is gone at the end of the block."""
    console = Console(highlight=False)
    if silent:
        yield lambda _: None
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield _every(_TERMINAL_S, clock, lambda line: live.update(_one_line(line), refresh=True))
    else:
        yield _every(_PLAIN_S, clock, output.say)


def _one_line(line: str) -> Text:
    return Text(plain(line), no_wrap=True, overflow="ellipsis")


def _every(seconds: float, clock: Callable[[], float], show: Callable[[str], None]) -> Tell:
    told = clock()

    def tell(worded: Callable[[], str]) -> None:
        nonlocal told
        if clock() - told >= seconds:
            told = clock()
            show(worded())

    return tell
