"""What stands above and below every page: research band, title, limits, origin."""

from __future__ import annotations

from PIL import ImageDraw

from cauda.core.domain import Report
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.context import ResultContext

WIDTH = 1024
EDGE = 18
LOOP = 210  # left free in the middle of the title line: OHIF lays its film-loop control there (docs/viewers.md)


def header(draw: ImageDraw.ImageDraw, report: Report, context: ResultContext) -> int:
    """Research band, title, and what this page replaces; the y below them."""
    y = 0
    if context.research:
        y = band(draw, y, words.RESEARCH)
    what, model = "CAUDA AI canal, UNVERIFIED", "no grading model"
    if report.bundle is not None:
        model = f"{report.bundle.scale.value} \u00b7 {report.bundle.name} {report.bundle.version}"
    size = drawing.fitted(f"{what} {model}", WIDTH - 2 * EDGE - LOOP, 29, 20)
    drawing.write(draw, (EDGE, y + 34), what, size, bold=True)
    drawing.write(draw, (WIDTH - EDGE, y + 34), model, size, anchor="rs", bold=True)
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
