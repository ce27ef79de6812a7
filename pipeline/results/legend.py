"""How to read the page, in the cell that five tiles leave free."""

from __future__ import annotations

from PIL import Image, ImageDraw

from cauda.core.domain import GradeScale
from cauda.pipeline.results import drawing, words

_STEP = 25


def draw_legend(page: Image.Image, at: tuple[int, int], side: int, scale: GradeScale) -> None:
    """Bars, triangle, dash, ticks and lines, each with its meaning."""
    draw = ImageDraw.Draw(page)
    x, y = at
    drawing.write(draw, (x, y + 18), "How to read", 19, drawing.MUTED, bold=True)
    y += 34
    for step in (1, 2, 3):
        grades = [grade for grade in scale.grades if words.severity_step(scale, grade) == step]
        prefix = "" if scale is GradeScale.RSNA_3 else "Schizas "
        drawing.severity_bars(draw, (x, y, x + 26, y + 17), step)
        y = _meaning(draw, x, y, side, prefix + ", ".join(grades))
    drawing.warning_mark(draw, (x + 2, y, x + 24, y + 18))
    y = _meaning(draw, x, y, side, "not graded: read it")
    drawing.absent_mark(draw, (x, y, x + 26, y + 17))
    y = _meaning(draw, x, y, side, "not imaged")
    for end in ((x + 10, y + 3), (x + 1, y + 12)):
        drawing.segment(draw, (x + 1, y + 3), end, drawing.LINE)
    y = _meaning(draw, x, y, side, "corners of graded area")
    drawing.segment(draw, (x, y + 9), (x + 26, y + 9), drawing.LINE)
    y = _meaning(draw, x, y, side, "slice that was graded")
    drawing.segment(draw, (x, y + 9), (x + 26, y + 9), drawing.LINE, dashed=True)
    _meaning(draw, x, y, side, "over one slice off")


def _meaning(draw: ImageDraw.ImageDraw, x: int, y: int, side: int, text: str) -> int:
    size = drawing.fitted(text, side - 36, 16, 12)
    drawing.write(draw, (x + 36, y + 14), text, size, drawing.MUTED)
    return y + _STEP
