"""Pages that carry one message: a study that was not analysed, a result that was taken back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cauda.core.domain import Reason, Report
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.context import ResultContext
from cauda.pipeline.results.margins import EDGE, WIDTH, foot, header

HEIGHT = WIDTH  # about square, as the result page is: a viewer lays its words over the same places
RETRACTED = "RETRACTED: DO NOT USE"


def render_not_analysed(report: Report, context: ResultContext) -> NDArray[np.uint8]:
    """``NOT ANALYSED: no axial T2 found``, with what was found and what is needed (H, 1024, 3)."""
    if report.reason is None:
        raise ValueError("a report without a reason was analysed")
    stated = words.guarded(report, report.reason_text).split("; ")
    # what no picture shows is not another part of the body: the reason in full says which of the two it is
    headline = stated[0].partition(":")[0] if report.reason is Reason.NOT_LUMBAR and stated[0] else report.reason.text
    found = [part for part in stated if part and part not in {report.reason.text, headline}]
    details = (*(f"{part[:1].upper()}{part[1:]}." for part in found), words.NO_GRADES)
    return _notice(report, context, f"NOT ANALYSED: {headline}", details)


def render_retracted(report: Report, context: ResultContext, why: str) -> NDArray[np.uint8]:
    """``RETRACTED: DO NOT USE``, for an archive that still shows what was rejected (H, 1024, 3)."""
    details = (f"Earlier Cauda results of this study are withdrawn: {why}. Delete them by hand.",)
    return _notice(report, context, RETRACTED, details)


def _notice(report: Report, context: ResultContext, message: str, details: tuple[str, ...]) -> NDArray[np.uint8]:
    page = Image.new("RGB", (WIDTH, 2 * WIDTH), drawing.BACKGROUND)
    draw = ImageDraw.Draw(page)
    y = header(draw, report, context) + 60
    lines = drawing.wrapped(message, WIDTH - 6 * EDGE, 52)
    block = (EDGE, y, WIDTH - EDGE, y + 62 * len(lines) + 42)
    draw.rounded_rectangle(block, 10, fill=drawing.SEVERE)
    for number, line in enumerate(lines):
        at = (WIDTH / 2, y + 70 + 62 * number)
        drawing.write(draw, at, line, 52, drawing.INK, anchor="ms", bold=True)
    below: float = block[3] + 34
    for detail in details:
        below = drawing.paragraph(draw, (EDGE, below), detail, WIDTH - 2 * EDGE, 26, drawing.TEXT) + 6
    below = foot(draw, max(below + 24, HEIGHT - 130), report, context)
    return drawing.as_array(page.crop((0, 0, WIDTH, round(below))))
