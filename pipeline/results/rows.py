"""The rows of the page's top third: level, mark, grade in words, and where to look."""

from __future__ import annotations

from PIL import ImageDraw

from cauda.core.domain import Finding, Reason, Report
from cauda.pipeline.pictures import Tile
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.margins import EDGE, WIDTH

HEIGHT = 42
_MARK_X, _WORDS_X = 124, 182
_PLACE_WIDTH = 400  # at most; the words at their smallest need the rest
_STRIP = 8  # at the page's left edge: full for severe, outlined for moderate, hatched for what was not graded


def draw_row(draw: ImageDraw.ImageDraw, y: int, report: Report, finding: Finding, tile: Tile | None) -> None:
    """One level, ``HEIGHT`` pixels high. Words stand on one plain ground: people and machines read them alike."""
    base = y + 31
    quiet = finding.abstained is Reason.NOT_IMAGED
    colour = drawing.MUTED if quiet else drawing.TEXT
    step = words.severity_step(words.scale_of(report), finding.grade) if finding.grade else 0
    if step == 3:
        draw.rectangle((0, y, WIDTH, y + HEIGHT - 2), fill=drawing.TINT)
    draw.line((EDGE, y + HEIGHT - 1, WIDTH - EDGE, y + HEIGHT - 1), fill=drawing.PANEL, width=1)
    _name(draw, y, report.level_name(finding.level), colour)
    end: float = WIDTH - EDGE
    if tile is not None:
        place = words.place_words(tile.place)
        size = drawing.fitted(place, _PLACE_WIDTH, 28, 16)
        drawing.write(draw, (end, base), place, size, drawing.TEXT, anchor="rs")
        end -= drawing.width_of(place, size) + 16
    said = words.finding_words(finding, words.scale_of(report))
    size = drawing.fitted(said, end - _WORDS_X, 30, 19)
    mark = (_MARK_X, y + 9, _MARK_X + 34, y + 33)
    if step:
        ink = (drawing.TEXT, drawing.MODERATE, drawing.SEVERE)[step - 1]
        drawing.severity_bars(draw, mark, step, ink)
        drawing.write(draw, (_WORDS_X, base), said, size, ink, bold=step > 1)
    elif quiet:
        drawing.absent_mark(draw, mark)
        drawing.write(draw, (_WORDS_X, base), said, min(size, 27), colour)
    else:
        drawing.warning_mark(draw, mark)
        drawing.write(draw, (_WORDS_X, base), said, size, colour, bold=True)
    _strip(draw, y, step, missing=not step and not quiet)


def _name(draw: ImageDraw.ImageDraw, y: int, name: str, colour: drawing.Colour) -> None:
    """A level's name; one that is longer than ``L4/L5`` on two lines."""
    first, _, last = name.rpartition(" ")
    if not first:
        drawing.write(draw, (EDGE, y + 31), name, 33, colour, bold=True)
        return
    size = min(drawing.fitted(line, _MARK_X - EDGE - 8, 21, 16) for line in (first, last))
    drawing.write(draw, (EDGE, y + 18), first, size, colour, bold=True)
    drawing.write(draw, (EDGE, y + 37), last, size, colour, bold=True)


def _strip(draw: ImageDraw.ImageDraw, y: int, step: int, *, missing: bool) -> None:
    box = (0, y, _STRIP, y + HEIGHT - 2)
    if step == 3:
        draw.rectangle(box, fill=drawing.SEVERE)
    elif step == 2:
        draw.rectangle(box, outline=drawing.MODERATE, width=2)
    elif missing:
        for offset in range(0, HEIGHT - 2, 9):
            draw.rectangle((0, y + offset, _STRIP, y + offset + 3), fill=drawing.TEXT)
