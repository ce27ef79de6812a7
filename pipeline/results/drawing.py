"""Ink for the result page: palette, type, and marks that differ in shape, not only in colour.

The typeface is the one that Pillow carries inside itself, so a page looks the same on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cauda.core.domain import F32

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom

BACKGROUND: Colour = (12, 15, 20)
PANEL: Colour = (22, 27, 34)
RULE: Colour = (58, 66, 77)
TEXT: Colour = (238, 241, 245)
MUTED: Colour = (158, 168, 180)
FAINT: Colour = (108, 117, 129)
INK: Colour = (10, 12, 16)  # on light ground
MODERATE: Colour = (255, 190, 92)
SEVERE: Colour = (255, 236, 190)
TINT: Colour = (58, 48, 26)  # behind a severe level
LINE: Colour = (112, 200, 255)
BANNER: Colour = (214, 220, 228)


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The embedded typeface; TypeError where Pillow was built without FreeType."""
    face = ImageFont.load_default(size)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType: the result page cannot be drawn")
    return face


def width_of(text: str, size: int, *, bold: bool = False) -> float:
    """How wide a line is, in pixels."""
    return font(size).getlength(text) + (1 if bold else 0)


def fitted(text: str, width: float, largest: int, smallest: int) -> int:
    """The largest size at which a line fits, not below ``smallest``."""
    return next((s for s in range(largest, smallest, -1) if width_of(text, s, bold=True) <= width), smallest)


def wrapped(text: str, width: float, size: int) -> list[str]:
    """The text in lines that fit."""
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(f"{lines[-1]} {word}", size, bold=True) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shortened(text: str, end: str, width: float, size: int) -> str:
    """The text and its end in a line that fits, dots for what is left out of the text."""
    kept = len(text)
    line = text + end
    while kept > 1 and width_of(line, size, bold=True) > width:
        kept -= 1
        line = f"{text[:kept].rstrip()}...{end}"
    return line


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour = TEXT,
    *,
    anchor: str = "ls",
    bold: bool = False,
    halo: bool = False,
) -> None:
    """One line; ``anchor`` as in Pillow ("ls" is left, baseline). A halo keeps it readable on a picture."""
    if halo:
        draw.text(at, text, INK, font(size), anchor=anchor, stroke_width=3, stroke_fill=INK)
    stroke = 0.5 if bold else 0
    draw.text(at, text, colour, font(size), anchor=anchor, stroke_width=stroke, stroke_fill=colour)


def paragraph(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    width: float,
    size: int,
    colour: Colour = MUTED,
) -> float:
    """Wrapped lines from a top left corner; the y below them."""
    x, y = at
    for line in wrapped(text, width, size):
        write(draw, (x, y), line, size, colour, anchor="la")
        y += round(size * 1.32)
    return y


def severity_bars(draw: ImageDraw.ImageDraw, box: Box, step: int, colour: Colour = TEXT) -> None:
    """Three rising bars of which 1, 2 or 3 are filled: a grade that needs no colour."""
    left, top, right, bottom = box
    pitch = (right - left) / 3
    for index in range(3):
        bar = (
            left + index * pitch,
            top + (2 - index) * (bottom - top) * 0.28,
            left + (index + 1) * pitch - pitch * 0.28,
            bottom,
        )
        if index < step:
            draw.rectangle(bar, fill=colour)
        else:
            draw.rectangle(bar, outline=FAINT, width=1)


def warning_mark(draw: ImageDraw.ImageDraw, box: Box, colour: Colour = TEXT) -> None:
    """A triangle with an exclamation mark: something is missing that could have been there."""
    left, top, right, bottom = box
    middle = (left + right) / 2
    draw.polygon([(middle, top), (right, bottom), (left, bottom)], fill=colour)
    write(draw, (middle, bottom - 2), "!", round((bottom - top) * 0.75), INK, anchor="ms", bold=True)


def absent_mark(draw: ImageDraw.ImageDraw, box: Box) -> None:
    """A dash: nothing to grade here, and no alarm."""
    left, top, right, bottom = box
    middle = (top + bottom) / 2
    draw.line((left + 3, middle, right - 3, middle), fill=FAINT, width=3)


def segment(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: Colour,
    *,
    dashed: bool = False,
) -> None:
    """A line on a picture with a dark edge; dashes are 7 pixels long."""
    a, b = np.array(start), np.array(end)
    length = float(np.hypot(*(b - a)))
    if length < 1:
        return
    stops = np.arange(0, length, 12) if dashed else np.array([0.0])
    for stop in stops:
        reach = min(stop + 7, length) if dashed else length
        piece = [tuple(a + (b - a) * t / length) for t in (stop, reach)]
        draw.line(piece, fill=INK, width=4)
        draw.line(piece, fill=colour, width=2)


def scale_bar(draw: ImageDraw.ImageDraw, right: float, bottom: float, px_per_mm: float) -> None:
    """A bar of 20 mm with its length beside it, ending at a lower right corner."""
    length = 20 * px_per_mm
    draw.line((right - length - 1, bottom, right + 1, bottom), fill=INK, width=5)
    draw.line((right - length, bottom, right, bottom), fill=TEXT, width=2)
    for x in (right - length, right):
        draw.line((x, bottom - 4, x, bottom + 4), fill=TEXT, width=2)
    write(draw, (right - length / 2, bottom - 6), "20 mm", 13, anchor="ms", halo=True)


def window_onto(pixels: F32, box: Box, size: tuple[int, int]) -> Image.Image:
    """The part of a picture inside ``box`` (column and row edges) at ``size``, black outside it."""
    grey = Image.fromarray((np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8))
    left, top, right, bottom = box
    step_x, step_y = (right - left) / size[0], (bottom - top) / size[1]
    coefficients = (step_x, 0.0, left, 0.0, step_y, top)
    shown = grey.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return shown.convert("RGB")


def as_array(picture: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) bytes."""
    return np.asarray(picture, dtype=np.uint8)
