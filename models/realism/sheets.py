"""Contact sheets: phantoms beside phantoms for the documentation, beside real pictures for who works on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cauda.models.realism.measure import FIRST, SECOND, Kinds
from cauda.models.realism.pictures import Grey

_ACROSS = 8


def phantoms(patches: Kinds, path: Path) -> None:
    """Phantoms alone: a row as each scanner's twins."""
    _saved([_row(patches[f"phantom, {name}"]) for name in (FIRST, SECOND)], path)


def beside(patches: Kinds, path: Path) -> None:
    """A row of real pictures, one of phantoms, for each scanner, and one of the trial's: for looking, not for keeping.

    SPIDER's pictures are under CC BY 4.0 and stay out of this repository.
    """
    pairs = [_row(patches[kind]) for name in (FIRST, SECOND) for kind in (name, f"phantom, {name}")]
    _saved([*pairs, _row(patches[f"trial, {FIRST}"])], path)


def _row(pictures: Sequence[Grey]) -> Grey:
    return np.concatenate(list(pictures[:_ACROSS]), axis=1)


def _saved(rows: Sequence[Grey], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)
