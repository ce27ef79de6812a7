"""Where a bug was, without what it was working on: an exception's text may hold patient data."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

from cauda.core.errors import CaudaError


def of(error: BaseException) -> str:
    """Frames with their source lines and the exceptions' types, causes first; messages only of our own errors."""
    return "\n".join(line for one in _chain(error) for line in _lines(one))


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain[::-1]


def _lines(error: BaseException) -> Iterator[str]:
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} in {frame.name}: {frame.line}"
    said = f": {error.message}" if isinstance(error, CaudaError) else ""
    yield f"{type(error).__name__}{said}"
