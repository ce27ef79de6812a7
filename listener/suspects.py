"""What is being filed is written down before: an image that ends the process is found, set aside and named.

A file beside the landed ones says which of them are being filed, and how often a process died doing it: one for each
thread that files. It outlives the process and not the machine: of a machine that goes down no image is to blame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cauda.core import seal, slots

MARKER, BESIDE = ".filing", ".comparing"  # of the filer, and of its line for what has to be compared
MAX_DEATHS = 3  # as of one that is graded: a process is killed for other reasons too, but not so often over one image


@contextmanager
def written_down(paths: Sequence[Path], marker: str = MARKER) -> Iterator[None]:
    """Written down while the block runs, whatever becomes of this process in it. All lie in one folder."""
    if not paths:
        yield
        return
    folder = paths[0].parent
    before = _read(folder / marker)
    write(folder, {name: before.get(name, 0) for name in map(_name, paths)}, marker)
    try:
        yield
    finally:
        (folder / marker).unlink(missing_ok=True)


def write(folder: Path, deaths: Mapping[str, int], marker: str = MARKER) -> None:
    """Say which files of a folder are being filed, and how often that ended a process before."""
    part = folder / f"{marker}.part"
    part.write_text(json.dumps(deaths))
    part.rename(folder / marker)


def after_death(folder: Path) -> dict[str, int]:
    """The files that were being filed when the process that owned a folder died, with this death."""
    found = _read(folder / BESIDE) | _read(folder / MARKER)
    return {name: deaths + 1 for name, deaths in found.items()}


def _read(marker: Path) -> dict[str, int]:
    try:
        found = json.loads(marker.read_text())
        return {str(name): int(deaths) for name, deaths in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # none, or one that the machine's end has spoilt


def _name(path: Path) -> str:
    """How a landed file is called when another process finds it."""
    if path.suffix != slots.SUFFIX:
        return path.name
    return f"{seal.sealed_as(path)}.dcm"
