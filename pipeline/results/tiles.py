"""The axial tiles: for each level the slice that gave the grade, or why there is none."""

from __future__ import annotations

from PIL import Image, ImageDraw

from cauda.core.domain import Finding, Reason, Report
from cauda.pipeline.pictures import Tile
from cauda.pipeline.results import drawing, words

CAPTION = 46
MARK = 20  # the strip below a picture that says RESEARCH
MARK_WIDTH = 22
TICK = 14
SMALLEST = 13  # type that is still read at half size by who looks closely


def draw_tile(
    page: Image.Image,
    at: tuple[int, int],
    side: int,
    report: Report,
    finding: Finding,
    tile: Tile | None,
    *,
    research: bool,
) -> None:
    """Caption, picture and mark from a top left corner; ``side`` is the picture's."""
    draw = ImageDraw.Draw(page)
    x, y = at
    _caption(draw, (x, y), side, report, finding, tile)
    top = y + CAPTION
    if tile is None:
        _no_picture(draw, (x, top, x + side, top + side), finding)
    else:
        _picture(page, (x, top), side, tile)
    if research:
        size = drawing.fitted(words.RESEARCH, side, 15, 9)
        drawing.write(draw, (x + side / 2, top + side + 15), words.RESEARCH, size, drawing.MUTED, anchor="ms")


def _caption(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    side: int,
    report: Report,
    finding: Finding,
    tile: Tile | None,
) -> None:
    x, y = at
    name = report.level_name(finding.level)
    size = drawing.fitted(name, side / 2, 21, SMALLEST)
    drawing.write(draw, (x, y + 18), name, size, bold=True)
    mark_x = x + drawing.width_of(name, size, bold=True) + 8
    _mark(draw, (mark_x, y + 3, mark_x + MARK_WIDTH, y + 18), report, finding)
    if tile is not None:
        room = x + side - mark_x - MARK_WIDTH - 6
        full, short = words.place_words(tile.place), words.place_words(tile.place, short=True)
        place = full if drawing.width_of(full, SMALLEST, bold=True) <= room else short
        size = drawing.fitted(place, room, 17, 10)
        drawing.write(draw, (x + side, y + 18), place, size, drawing.MUTED, anchor="rs")
    said = _short(report, finding, side)
    muted = finding.abstained is Reason.NOT_IMAGED
    size = drawing.fitted(said, side, 18, SMALLEST)
    drawing.write(draw, (x, y + 39), said, size, drawing.MUTED if muted else drawing.TEXT)


def _mark(draw: ImageDraw.ImageDraw, box: drawing.Box, report: Report, finding: Finding) -> None:
    """The row's mark again: who looks at the pictures first sees at once which was graded and how."""
    if finding.grade is not None:
        drawing.severity_bars(draw, box, words.severity_step(words.scale_of(report), finding.grade))
    elif finding.abstained is Reason.NOT_IMAGED:
        drawing.absent_mark(draw, box)
    else:
        drawing.warning_mark(draw, box)


def _short(report: Report, finding: Finding, side: int) -> str:
    """The row's words, shortened where a tile is too narrow for them."""
    if finding.grade is None:
        return "Not imaged" if finding.abstained is Reason.NOT_IMAGED else "NOT GRADED"
    scale = words.scale_of(report)
    said = words.finding_words(finding, scale)
    if drawing.width_of(said, SMALLEST, bold=True) > side:
        return f"{words.grade_words(scale, finding.grade)} (uncertain)"
    return said


def _no_picture(draw: ImageDraw.ImageDraw, box: drawing.Box, finding: Finding) -> None:
    left, top, right, bottom = box
    draw.rectangle(box, fill=drawing.PANEL)
    quiet = finding.abstained is Reason.NOT_IMAGED
    colour = drawing.MUTED if quiet else drawing.TEXT
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    mark = (middle_x - 16, middle_y - 52, middle_x + 16, middle_y - 24)
    if quiet:
        drawing.absent_mark(draw, mark)
    else:
        drawing.warning_mark(draw, mark)
    reason = finding.abstained.text if finding.abstained else "no picture"
    y = middle_y + 6
    for line in drawing.wrapped(reason, right - left - 24, 17):
        drawing.write(draw, (middle_x, y), line, 17, colour, anchor="ms")
        y += 22


def _picture(page: Image.Image, at: tuple[int, int], side: int, tile: Tile) -> None:
    rows, columns = tile.pixels.shape
    page.paste(drawing.window_onto(tile.pixels, (0, 0, columns, rows), (side, side)), at)
    draw = ImageDraw.Draw(page)
    x, y = at
    zoom = side / columns
    half = tile.box_mm / tile.mm_per_px / 2
    column, row = (value + 0.5 for value in tile.center_px)
    _corner_ticks(
        draw,
        (
            x + max(zoom * (column - half), 2),
            y + max(zoom * (row - half), 2),
            x + min(zoom * (column + half), side - 3),
            y + min(zoom * (row + half), side - 3),
        ),
    )
    drawing.write(draw, (x + 8, y + side / 2), "R", 19, anchor="lm", halo=True, bold=True)
    drawing.write(draw, (x + side - 8, y + side / 2), "L", 19, anchor="rm", halo=True, bold=True)
    px_per_mm = zoom / tile.mm_per_px
    drawing.scale_bar(draw, x + side / 2 + 10 * px_per_mm, y + side - 10, px_per_mm)  # between the ticks


def _corner_ticks(draw: ImageDraw.ImageDraw, box: drawing.Box) -> None:
    """The corners of the graded square: they lie far outside the sac and hide nothing."""
    left, top, right, bottom = box
    for corner_x, to_x in ((left, TICK), (right, -TICK)):
        for corner_y, to_y in ((top, TICK), (bottom, -TICK)):
            drawing.segment(draw, (corner_x, corner_y), (corner_x + to_x, corner_y), drawing.LINE)
            drawing.segment(draw, (corner_x, corner_y), (corner_x, corner_y + to_y), drawing.LINE)
