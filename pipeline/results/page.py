"""The result page: read in five seconds from its top third, checked against the pictures below (CLINICAL.md 19-24).

Words and shapes carry the meaning; colour only repeats it. Neither identity nor date stands in the pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cauda.core.domain import Finding, Report
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.context import ResultContext
from cauda.pipeline.results.legend import draw_legend
from cauda.pipeline.results.margins import EDGE, WIDTH, band, foot, header
from cauda.pipeline.results.rows import HEIGHT, draw_row
from cauda.pipeline.results.sagittal import draw_sagittal
from cauda.pipeline.results.tiles import CAPTION, MARK, draw_tile

SIDE = 190  # of a tile's picture
GAP = 12
_TILES_X = WIDTH - EDGE - 3 * SIDE - 2 * GAP
_CELL = CAPTION + SIDE + MARK


def render_page(report: Report, pictures: Pictures, context: ResultContext) -> NDArray[np.uint8]:
    """The page (H, 1024, 3), about square. Every level has a row and a tile, with or without a picture."""
    findings = words.canal_findings(report)
    page = Image.new("RGB", (WIDTH, 2 * WIDTH), drawing.BACKGROUND)
    draw = ImageDraw.Draw(page)
    y = header(draw, report, context)
    if report.level_doubt is not None:
        y = band(draw, y, words.doubt_words(report.level_doubt)) + 4  # before the names that it explains
    for finding in findings:
        draw_row(draw, y, report, finding, pictures.tiles.get(finding.level))
        y += HEIGHT
    y = _numbering(draw, y + 6, words.numbering_words(report))
    y = _pictures(page, y + 10, report, findings, pictures, context)
    places = [one.place for one in (*pictures.tiles.values(), pictures.sagittal) if one is not None]
    bottom = foot(draw, y + 8, report, context, words.place_remarks(places))
    return drawing.as_array(page.crop((0, 0, WIDTH, round(bottom))))


def _numbering(draw: ImageDraw.ImageDraw, y: int, text: str | None) -> int:
    if text is None:
        return y
    drawing.write(draw, (EDGE, y + 20), text, drawing.fitted(text, WIDTH - 2 * EDGE, 22, 16))
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
