"""What the heat map page costs a study: `make bench-heat`. Processor time, which a busy machine does not lengthen."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from cauda.models.bundle import load_bundle
from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.study import make_study
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.occlusion import heat_maps
from cauda.pipeline.source import SourceImage

STARTER = Path(__file__).parents[2] / "models" / "starter"
_SEED, _REPEATS = 1, 3
T = TypeVar("T")


def main() -> None:
    """Print the table."""
    parts = load_bundle(STARTER, None)
    images = [
        SourceImage(header=one, read=lambda one=one: one) for one in make_study(_SEED, protocol=Protocol()).images
    ]
    report = analyse_study("1.2.3", images, parts).report  # everything is loaded and warm
    print(f"{torch.get_num_threads()} threads; torch {torch.__version__}; {parts.info.name} {parts.info.version}")
    rows = {
        "grading alone": lambda: analyse_study("1.2.3", images, parts),
        "heat maps beside it": lambda: heat_maps(report, images, parts),
    }
    for what, work in rows.items():
        busy, wall, found = min((_timed(work) for _ in range(_REPEATS)), key=lambda one: one[0])
        levels = f"; {len(found)} levels" if isinstance(found, dict) else ""
        print(f"{what:24} {busy:6.1f} s of processor, {wall:6.1f} s just now{levels}", flush=True)


def _timed(work: Callable[[], T]) -> tuple[float, float, T]:
    began, busy = time.monotonic(), time.process_time()
    found = work()
    return time.process_time() - busy, time.monotonic() - began, found


if __name__ == "__main__":
    main()
