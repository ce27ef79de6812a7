"""Pages that carry one message: a study that was not analysed, a result that was taken back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cauda.core.domain import Report
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.context import ResultContext
from cauda.pipeline.results.margins import EDGE, WIDTH, foot, header

HEIGHT = 640
RETRACTED = "RETRACTED: DO NOT USE"


def render_not_analysed(report: Report, context: ResultContext) -> NDArray[np.uint8]:
    """``NOT ANALYSED: no axial T2 found``, with what was found and what is needed (H, 1024, 3)."""
    if report.reason is None:
        raise ValueError("a report without a reason was analysed")
    detail = f"{report.reason_text} {words.NO_GRADES}".strip()
    return _notice(report, context, f"NOT ANALYSED: {report.reason.text}", detail)


def render_retracted(report: Report, context: ResultContext, why: str) -> NDArray[np.uint8]:
    """``RETRACTED: DO NOT USE``, for an archive that still shows what was rejected (H, 1024, 3)."""
    return _notice(
        report, context, RETRACTED, f"Earlier Cauda results of this study are withdrawn: {why}. Delete them by hand."
    )


def _notice(report: Report, context: ResultContext, message: str, detail: str) -> NDArray[np.uint8]:
    page = Image.new("RGB", (WIDTH, 2 * WIDTH), drawing.BACKGROUND)
    draw = ImageDraw.Draw(page)
    y = header(draw, report, context) + 60
    lines = drawing.wrapped(message, WIDTH - 6 * EDGE, 52)
    block = (EDGE, y, WIDTH - EDGE, y + 62 * len(lines) + 42)
    draw.rounded_rectangle(block, 10, fill=drawing.SEVERE)
    for number, line in enumerate(lines):
        at = (WIDTH / 2, y + 70 + 62 * number)
        drawing.write(draw, at, line, 52, drawing.INK, anchor="ms", bold=True)
    below = drawing.paragraph(draw, (EDGE, block[3] + 34), detail, WIDTH - 2 * EDGE, 26, drawing.TEXT)
    below = foot(draw, max(below + 24, HEIGHT - 130), report, context)
    return drawing.as_array(page.crop((0, 0, WIDTH, round(below))))
