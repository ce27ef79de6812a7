"""`make realism`: how far the phantom's pictures are from SPIDER's; the table is printed, and with --write kept.

Exits 1 where the probe fails to tell a crude 2D trial's pictures from real ones: then its word on ours means nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cauda.models.realism import sheets
from cauda.models.realism.measure import WEIGHTS, Found, measure
from cauda.models.realism.report import CEILING, table

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_ROOT = Path(__file__).resolve().parents[2]
_DOCS = _ROOT / "docs"

Measure = Callable[[Path, Callable[[str], None]], Found]


def main(arguments: Sequence[str] | None = None, measure: Measure = measure, docs: Path = _DOCS) -> int:
    """Measure, print, write where that is asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cauda.models.realism", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the table in docs/realism.md, the phantoms beside")
    parser.add_argument("--look", type=Path, help="write real pictures beside phantoms to this PNG")
    asked = parser.parse_args(arguments)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201  progress

    found = measure(_data(), say)
    text = table(found.report)
    print(text, flush=True)  # noqa: T201  the command's output
    if asked.look:
        sheets.beside(found.patches, asked.look)
    if not found.report.proves:
        say(f"the probe is too weak: it tells the trial's pictures from real ones with an AUC below {CEILING}")
        return 1
    if asked.write:
        page = docs / "realism.md"
        page.write_text(kept(page.read_text(), text))
        sheets.phantoms(found.patches, docs / "realism.png")
    return 0


def kept(page: str, text: str) -> str:
    """A page with what stands between its two marks replaced; ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _data() -> Path:
    """Where SPIDER and the ImageNet weights lie; ends the command where they are not."""
    data = Path(os.environ.get("CAUDA_REALDATA") or _ROOT.parent / "shared" / "data")
    for needed in (data / "spider" / "overview.csv", data / "weights" / WEIGHTS):
        if not needed.is_file():
            sys.exit(f"not found: {needed}; set CAUDA_REALDATA to the folder that holds spider and weights")
    return data


if __name__ == "__main__":
    torch.set_num_threads(1)  # pictures are drawn two at a time, each too small to be shared out
    sys.exit(main())
