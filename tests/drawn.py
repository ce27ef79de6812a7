"""What a page says, told by whom it had drawn: every text that reaches Pillow while a page is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from PIL import ImageDraw


@contextmanager
def texts_drawn() -> Iterator[list[str]]:
    """The texts in the order in which they are drawn, a line each; one with a halo stands there twice."""
    said: list[str] = []
    text = ImageDraw.ImageDraw.text

    def noted(self: ImageDraw.ImageDraw, at: Any, words: str, *args: Any, **options: Any) -> None:
        said.append(words)
        text(self, at, words, *args, **options)

    with patch.object(ImageDraw.ImageDraw, "text", noted):
        yield said
