"""What stands above and below every page: research band, title, limits, origin."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import ImageDraw

from cauda.core.domain import Report
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.context import ResultContext

WIDTH = 1024
EDGE = 18
BAND = 34  # high; its place at the top is kept where it is not drawn, so that every head is the same
# No word stands in the middle of the head, where OHIF lays its film-loop control, nor at its left edge just below the
# title, where it lays the name of the series (docs/viewers.md).
HEAD = 124
COLUMN = 368  # on either side of it
SMALLEST = 18  # of the title and the model, whose name is cut where even that is too wide


def header(draw: ImageDraw.ImageDraw, report: Report, context: ResultContext) -> int:
    """Research band, title, what this page replaces and what changed, in two columns; the y below them."""
    if context.research:
        draw.rectangle((0, 0, WIDTH, BAND), fill=drawing.BANNER)
        for x, anchor in ((EDGE, "ls"), (WIDTH - EDGE, "rs")):
            size = drawing.fitted(words.RESEARCH, COLUMN, 25, 16)
            drawing.write(draw, (x, 26), words.RESEARCH, size, drawing.INK, anchor=anchor, bold=True)
    what, model = "CAUDA AI canal, UNVERIFIED", "no grading model"
    if report.bundle is not None:
        scale, name = report.bundle.scale.value, words.bundle_name(report, report.bundle)
        model = drawing.shortened(f"{scale} \u00b7 {name}", f" {report.bundle.version}", COLUMN, SMALLEST)
    size = min(drawing.fitted(text, COLUMN, 29, SMALLEST) for text in (what, model))
    drawing.write(draw, (EDGE, BAND + 34), what, size, bold=True)
    drawing.write(draw, (WIDTH - EDGE, BAND + 34), model, size, anchor="rs", bold=True)
    replaces, _, changes = (words.change_words(report, context) or "").partition(": ")
    left = drawing.paragraph(draw, (EDGE, BAND + 66), replaces, COLUMN, 19, drawing.MODERATE)
    right = drawing.paragraph(draw, (WIDTH - EDGE - COLUMN, BAND + 47), changes, COLUMN, 19, drawing.MODERATE)
    y = round(max(HEAD, left, right)) + 4 if replaces else HEAD
    draw.line((EDGE, y, WIDTH - EDGE, y), fill=drawing.RULE, width=1)
    return y + 3


def band(draw: ImageDraw.ImageDraw, y: int, text: str) -> int:
    """A light strip over the whole width; the y below it."""
    draw.rectangle((0, y, WIDTH, y + BAND), fill=drawing.BANNER)
    size = drawing.fitted(text, WIDTH - 2 * EDGE, 25, 16)
    drawing.write(draw, (WIDTH / 2, y + 26), text, size, drawing.INK, anchor="ms", bold=True)
    return y + BAND


def foot(
    draw: ImageDraw.ImageDraw, y: float, report: Report, context: ResultContext, notes: Sequence[str] = ()
) -> float:
    """Notes on the page, remarks, what was not looked at, and what made the page; the y below them."""
    draw.line((EDGE, y, WIDTH - EDGE, y), fill=drawing.RULE, width=1)
    y += 8
    for remark in (*notes, *words.remarks(report, context)):
        y = drawing.paragraph(draw, (EDGE, y), remark, WIDTH - 2 * EDGE, 19, drawing.TEXT)
    y = drawing.paragraph(draw, (EDGE, y), words.footer(report), WIDTH - 2 * EDGE, 19, drawing.TEXT)
    made_by = [f"Cauda {context.code_version}", f"configuration {context.configuration_digest[:12]}"]
    if report.bundle is not None:
        made_by.insert(1, f"bundle {report.bundle.digest[:12]}")
    y = drawing.paragraph(draw, (EDGE, y + 2), " \u00b7 ".join(made_by), WIDTH - 2 * EDGE, 16)
    return y + 10
