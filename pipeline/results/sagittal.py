"""The sagittal picture: which disc is which, and where the graded planes truly cut it."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from cauda.core.domain import Finding, Report
from cauda.pipeline.pictures import PlaneLine, SagittalPicture
from cauda.pipeline.results import drawing, words

CANAL_MM = 11.0  # either side of the level's point nothing is drawn: the reader wants to see the canal there
REACH_MM = 46.0  # how far anterior a line and its name begin: beyond the disc
BEHIND_MM = 24.0
MARGIN_MM = 28.0  # above the highest and below the lowest level
CAPTION = 26
_TITLE_PX = 100
_LETTERS_PX = 27  # the strip at the left edge that belongs to the orientation letters
_NAME_PX = 90  # for a level name; ``L4/L5`` takes 58 of them
_SMALLEST = 14

Pair = tuple[float, float]


def draw_sagittal(
    page: Image.Image,
    box: tuple[int, int, int, int],
    report: Report,
    findings: tuple[Finding, ...],
    picture: SagittalPicture | None,
) -> None:
    """The picture in ``box`` under a caption line, cropped to the levels when there are any."""
    left, top, right, bottom = box
    draw = ImageDraw.Draw(page)
    drawing.write(draw, (left, top + 18), "Sagittal", 21, bold=True)
    top += CAPTION
    if picture is None:
        draw.rectangle((left, top, right, bottom), fill=drawing.PANEL)
        middle = ((left + right) / 2, (top + bottom) / 2)
        drawing.write(draw, middle, "no sagittal picture", 18, drawing.MUTED, anchor="ms")
        return
    place = words.place_words(picture.place)
    size = drawing.fitted(place, right - left - _TITLE_PX, 17, 12)
    drawing.write(draw, (right, top - 8), place, size, drawing.MUTED, anchor="rs")
    view = _view(picture, right - left, bottom - top)
    shown = drawing.window_onto(picture.pixels, view, (right - left, bottom - top))
    zoom = (right - left) / (view[2] - view[0])
    _levels(ImageDraw.Draw(shown), report, findings, picture, view, zoom)
    _orientation(ImageDraw.Draw(shown), shown.size)
    drawing.scale_bar(ImageDraw.Draw(shown), shown.width - 26, shown.height - 14, zoom / picture.mm_per_px)
    page.paste(shown, (left, top))


def _view(picture: SagittalPicture, width: int, height: int) -> drawing.Box:
    """The part of the picture to show, in its pixels: around the levels, else all of it."""
    rows, columns = picture.pixels.shape
    if not picture.points_px:
        scale = max(rows / height, columns / width)
        middle = (columns / 2, rows / 2)
    else:
        xs = [x for x, _ in picture.points_px.values()]
        margin = MARGIN_MM / picture.mm_per_px
        ys = [y for _, y in picture.points_px.values()]
        top, bottom = min(ys) - margin, max(ys) + margin
        names = _name_heights(picture)
        top, bottom = min([top, *(y - margin / 3 for y in names)]), max([bottom, *(y + margin / 3 for y in names)])
        tall = bottom - top
        wide = max(xs) - min(xs) + (REACH_MM + BEHIND_MM + 42) / picture.mm_per_px
        scale = min(max(tall / height, wide / width), max(rows / height, columns / width))
        # The canal stands right of the middle: names and discs lie before it.
        middle = ((min(xs) + max(xs)) / 2 - 0.10 * width * scale, (top + bottom) / 2)
    half_width, half_height = width * scale / 2, height * scale / 2
    return (
        middle[0] - half_width,
        middle[1] - half_height,
        middle[0] + half_width,
        middle[1] + half_height,
    )


def _name_heights(picture: SagittalPicture) -> list[float]:
    """The rows where names will stand: at the anterior ends of the lines, far below a steep L5/S1 disc's point."""
    found = []
    for level, line in picture.lines.items():
        length = math.dist(line.start_px, line.end_px) or 1.0
        slope = (line.start_px[1] - line.end_px[1]) / length
        found.append(picture.points_px[level][1] + slope * REACH_MM / picture.mm_per_px)
    return found


def _levels(
    draw: ImageDraw.ImageDraw,
    report: Report,
    findings: tuple[Finding, ...],
    picture: SagittalPicture,
    view: drawing.Box,
    zoom: float,
) -> None:
    px_per_mm = zoom / picture.mm_per_px

    def shown(point: Pair) -> Pair:
        return (point[0] + 0.5 - view[0]) * zoom, (point[1] + 0.5 - view[1]) * zoom

    lowest = -math.inf
    for finding in findings:
        if finding.level not in picture.points_px:
            continue
        point = shown(picture.points_px[finding.level])
        line = picture.lines.get(finding.level)
        name_at = (point[0] - REACH_MM * px_per_mm, point[1])
        if line is not None:
            name_at = _plane(draw, point, shown(line.start_px), shown(line.end_px), line, px_per_mm)
        name_y = max(name_at[1], lowest + 20)  # names never cover each other
        lowest = name_y
        colour = drawing.TEXT if line is not None else drawing.MUTED
        name = report.level_name(finding.level)
        size = drawing.fitted(name, _NAME_PX, 19, _SMALLEST)
        at = (max(name_at[0] - 5, _LETTERS_PX + drawing.width_of(name, size, bold=True)), name_y)
        drawing.write(draw, at, name, size, colour, anchor="rm", halo=True, bold=True)


def _plane(draw: ImageDraw.ImageDraw, point: Pair, start: Pair, end: Pair, line: PlaneLine, px_per_mm: float) -> Pair:
    """The plane's two parts, before and behind the canal; returns the anterior end, where the name goes."""
    length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
    along = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
    canal = (point[0] - start[0]) * along[0] + (point[1] - start[1]) * along[1]

    def at(distance: float) -> Pair:
        held = min(max(distance, 0.0), length)
        return start[0] + held * along[0], start[1] + held * along[1]

    gap = CANAL_MM * px_per_mm
    front = at(canal - REACH_MM * px_per_mm)
    drawing.segment(draw, front, at(canal - gap), drawing.LINE, dashed=line.dashed)
    drawing.segment(draw, at(canal + gap), at(canal + BEHIND_MM * px_per_mm), drawing.LINE, dashed=line.dashed)
    return front


def _orientation(draw: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    width, height = size
    for at, anchor, letter in (
        ((8, height / 2), "lm", "A"),
        ((width - 8, height / 2), "rm", "P"),
        ((8, 8), "la", "H"),
        ((8, height - 8), "ls", "F"),
    ):
        drawing.write(draw, at, letter, 19, anchor=anchor, halo=True, bold=True)
