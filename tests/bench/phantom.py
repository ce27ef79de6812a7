"""How fast phantoms are drawn: `make bench-phantom`. Processor time, which a busy machine does not lengthen."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from cauda.models.phantom import anatomy
from cauda.models.phantom.crops import crops
from cauda.models.phantom.protocol import FULL, QUICK, ROUTINE, Protocol
from cauda.models.phantom.study import make_study

_SPINES, _REPEATS = 8, 3
_CROPS_A_SECOND, _STUDY_S, _CORES = 20.0, 10.0, 2


def main() -> None:
    """Print the table."""
    crops(1, 1)  # imports and noise are there
    print(f"drawn on: {anatomy.device()}; torch {torch.__version__}")
    seconds = min(_processor(lambda: crops(100, _SPINES)) for _ in range(_REPEATS))
    _line("training crops, 64 mm, 128 px", f"{5 * _SPINES / seconds:.1f} a second a core", f"> {_CROPS_A_SECOND:g}")
    for name, kinds in (("quick", QUICK), ("routine", ROUTINE), ("full", FULL)):
        protocol = Protocol(kinds=kinds)
        wall, busy = _both(lambda protocol=protocol: make_study(3, protocol=protocol))
        goal = f"< {_STUDY_S:g} s" if name == "quick" else ""
        _line(f"study, {name}", f"{busy / _CORES:.1f} s on {_CORES} idle cores ({wall:.1f} s just now)", goal)


def _line(what: str, value: str, goal: str) -> None:
    print(f"{what:32} {value:44} {goal}", flush=True)


def _processor(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _both(work: Callable[[], object]) -> tuple[float, float]:
    began = time.monotonic()
    busy = _processor(work)
    return time.monotonic() - began, busy


if __name__ == "__main__":
    main()
