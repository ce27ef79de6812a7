"""The result page: read in five seconds from its top third, checked against the pictures below (CLINICAL.md 19-24).

Words and shapes carry the meaning; colour only repeats it. Neither identity nor date stands in the pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cauda.core.domain import Finding, Reason, Report
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.context import ResultContext
from cauda.pipeline.results.legend import draw_legend
from cauda.pipeline.results.sagittal import draw_sagittal
from cauda.pipeline.results.tiles import CAPTION, MARK, draw_tile, place_words

WIDTH = 1024
EDGE = 18
ROW = 46
SIDE = 190  # of a tile's picture
GAP = 12
_NAME_X, _MARK_X, _WORDS_X, _PLACE_X = EDGE, 122, 178, WIDTH - EDGE
_TILES_X = WIDTH - EDGE - 3 * SIDE - 2 * GAP
_CELL = CAPTION + SIDE + MARK


def render_page(report: Report, pictures: Pictures, context: ResultContext) -> NDArray[np.uint8]:
    """The page (H, 1024, 3), about square. Every level has a row and a tile, with or without a picture."""
    findings = words.canal_findings(report)
    page = Image.new("RGB", (WIDTH, 2 * WIDTH), drawing.BACKGROUND)
    draw = ImageDraw.Draw(page)
    y = header(draw, report, context)
    for finding in findings:
        _row(draw, y, report, finding, pictures)
        y += ROW
    y = _numbering(draw, y + 6, report)
    y = _pictures(page, y + 10, report, findings, pictures, context)
    bottom = foot(draw, y + 8, report, context)
    return drawing.as_array(page.crop((0, 0, WIDTH, round(bottom))))


def header(draw: ImageDraw.ImageDraw, report: Report, context: ResultContext) -> int:
    """Research band, title, and what this page replaces; the y below them."""
    y = 0
    if context.research:
        y = band(draw, y, words.RESEARCH)
    parts = ["CAUDA AI canal, UNVERIFIED"]
    if report.bundle is not None:
        parts += [report.bundle.scale.value, f"{report.bundle.name} {report.bundle.version}"]
    else:
        parts.append("no grading model")
    title = " \u00b7 ".join(parts)
    size = drawing.fitted(title, WIDTH - 2 * EDGE, 29, 20)
    drawing.write(draw, (EDGE, y + 34), title, size, bold=True)
    y += 46
    for line in drawing.wrapped(words.change_words(report, context) or "", WIDTH - 2 * EDGE, 22):
        drawing.write(draw, (EDGE, y + 20), line, 22, drawing.MODERATE)
        y += 28
    draw.line((EDGE, y, WIDTH - EDGE, y), fill=drawing.RULE, width=1)
    return y + 3


def band(draw: ImageDraw.ImageDraw, y: int, text: str) -> int:
    """A light strip over the whole width; the y below it."""
    draw.rectangle((0, y, WIDTH, y + 34), fill=drawing.BANNER)
    size = drawing.fitted(text, WIDTH - 2 * EDGE, 25, 16)
    drawing.write(draw, (WIDTH / 2, y + 26), text, size, drawing.INK, anchor="ms", bold=True)
    return y + 34


def _row(draw: ImageDraw.ImageDraw, y: int, report: Report, finding: Finding, pictures: Pictures) -> None:
    base = y + 34
    tile = pictures.tiles.get(finding.level)
    quiet = finding.abstained is Reason.NOT_IMAGED
    drawing.write(
        draw, (_NAME_X, base), report.level_name(finding.level), 33, drawing.MUTED if quiet else drawing.TEXT, bold=True
    )
    end: float = _PLACE_X
    if tile is not None:
        place = place_words(tile.series_number, tile.instance_number, tile.frame)
        drawing.write(draw, (_PLACE_X, base), place, 28, drawing.TEXT, anchor="rs")
        end -= drawing.width_of(place, 28) + 16
    mark = (_MARK_X, y + 12, _MARK_X + 34, y + 36)
    said = words.finding_words(finding, words.scale_of(report))
    if finding.grade is not None:
        size = drawing.fitted(said, end - _WORDS_X - 20, 30, 20)
        step = words.severity_step(words.scale_of(report), finding.grade)
        _grade(draw, y, mark, said, size, step)
    elif quiet:
        drawing.absent_mark(draw, mark)
        drawing.write(draw, (_WORDS_X + 10, base - 1), said, 27, drawing.MUTED)
    else:
        drawing.warning_mark(draw, mark)
        size = drawing.fitted(said, end - _WORDS_X - 20, 27, 19)
        drawing.write(draw, (_WORDS_X + 10, base - 2), said, size, bold=True)
        width = drawing.width_of(said, size, bold=True)
        drawing.dashed_rectangle(draw, (_WORDS_X, y + 5, _WORDS_X + width + 20, y + 42), drawing.TEXT)
    draw.line((EDGE, y + ROW - 1, WIDTH - EDGE, y + ROW - 1), fill=drawing.PANEL, width=1)


def _grade(draw: ImageDraw.ImageDraw, y: int, mark: drawing.Box, said: str, size: int, step: int) -> None:
    """Mild is plain, moderate outlined, severe filled: told apart without colour."""
    colour = (drawing.TEXT, drawing.MODERATE, drawing.SEVERE)[step - 1]
    drawing.severity_bars(draw, mark, step, colour)
    width = drawing.width_of(said, size, bold=True)
    pill = (_WORDS_X, y + 5, _WORDS_X + width + 22, y + 42)
    if step == 3:
        draw.rounded_rectangle(pill, 8, fill=drawing.SEVERE)
    elif step == 2:
        draw.rounded_rectangle(pill, 8, outline=drawing.MODERATE, width=2)
    ink = (drawing.TEXT, drawing.MODERATE, drawing.INK)[step - 1]
    drawing.write(draw, (_WORDS_X + 10, y + 33), said, size, ink, bold=step > 1)


def _numbering(draw: ImageDraw.ImageDraw, y: int, report: Report) -> int:
    if report.level_doubt is not None:
        y = band(draw, y, words.doubt_words(report.level_doubt)) + 4
    size = drawing.fitted(words.NUMBERING, WIDTH - 2 * EDGE, 22, 16)
    drawing.write(draw, (EDGE, y + 20), words.NUMBERING, size)
    return y + 28


def _pictures(
    page: Image.Image,
    y: int,
    report: Report,
    findings: tuple[Finding, ...],
    pictures: Pictures,
    context: ResultContext,
) -> int:
    """Sagittal on the left, five tiles and the legend in two rows of three; the y below them."""
    bottom = y + 2 * _CELL + GAP
    draw_sagittal(page, (EDGE, y, _TILES_X - 2 * GAP, bottom - MARK), report, findings, pictures.sagittal)
    places = [(_TILES_X + column * (SIDE + GAP), y + row * (_CELL + GAP)) for row in range(2) for column in range(3)]
    for place, finding in zip(places, findings, strict=False):
        tile = pictures.tiles.get(finding.level)
        draw_tile(page, place, SIDE, report, finding, tile, research=context.research)
    draw_legend(page, places[-1], SIDE, words.scale_of(report))
    return bottom


def foot(draw: ImageDraw.ImageDraw, y: float, report: Report, context: ResultContext) -> float:
    """Remarks, what was not looked at, and what made the page; the y below them."""
    draw.line((EDGE, y, WIDTH - EDGE, y), fill=drawing.RULE, width=1)
    y += 8
    for remark in words.remarks(report, context):
        y = drawing.paragraph(draw, (EDGE, y), remark, WIDTH - 2 * EDGE, 19, drawing.TEXT)
    y = drawing.paragraph(draw, (EDGE, y), words.footer(report), WIDTH - 2 * EDGE, 19, drawing.TEXT)
    made_by = [f"Cauda {context.code_version}", f"configuration {context.configuration_digest[:12]}"]
    if report.bundle is not None:
        made_by.insert(1, f"bundle {report.bundle.digest[:12]}")
    y = drawing.paragraph(draw, (EDGE, y + 2), " \u00b7 ".join(made_by), WIDTH - 2 * EDGE, 16)
    return y + 10
