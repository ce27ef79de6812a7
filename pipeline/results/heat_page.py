"""The heat map page: on which places of the graded crops the model's answers hang (CLINICAL.md 20), never a finding.

Orange and blue are told apart by every kind of eye, and in grey by their rings: whole or broken.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from cauda.core.domain import F32, Finding, Level, Report
from cauda.pipeline.occlusion import HeatMap
from cauda.pipeline.pictures import Pictures, Tile
from cauda.pipeline.results import drawing, words
from cauda.pipeline.results.context import ResultContext
from cauda.pipeline.results.margins import EDGE, WIDTH, band, foot, header

TITLE = "HEAT MAP: explains the model, not the patient"
LEGEND = (
    "Each place was covered with an 8 mm blur, and graded again.",
    "Orange: covered, the answer is milder. Blue: more severe.",
    "Ringed: at least half of the level's strongest effect; the ring is broken where it is blue.",
    "Each level has its own scale. Strong colour is no proof of disease, and no colour is no proof of health.",
)
LEAST = 0.05  # grades: below it no place alone matters, and a scale of its own would show noise
_GAP = 12
_SIDE = (WIDTH - 2 * EDGE - 2 * _GAP) // 3
_CAPTION = 50
_MARK = 24


def render_heat_page(
    report: Report, pictures: Pictures, maps: Mapping[Level, HeatMap], context: ResultContext
) -> NDArray[np.uint8]:
    """The page (H, 1024, 3); every level has a cell, with or without a map."""
    page = Image.new("RGB", (WIDTH, 2 * WIDTH), drawing.BACKGROUND)
    draw = ImageDraw.Draw(page)
    top = band(draw, header(draw, report, context), TITLE) + 10
    if report.level_doubt is not None:
        top = band(draw, top - 10, words.doubt_words(report.level_doubt)) + 10
    height = _CAPTION + _SIDE + _MARK + _GAP
    places = [(EDGE + column * (_SIDE + _GAP), top + row * height) for row in range(2) for column in range(3)]
    for place, finding in zip(places, words.canal_findings(report), strict=False):
        _caption(draw, place, report, finding, pictures.tiles.get(finding.level))
        x, y = place[0], place[1] + _CAPTION
        _cell(page, (x, y), finding, maps.get(finding.level))
        if context.research:
            at = (x + _SIDE / 2, y + _SIDE + 17)
            drawing.write(draw, at, words.RESEARCH, 15, drawing.MUTED, anchor="ms")
    _legend(draw, places[-1])
    y = top + 2 * height
    if numbering := words.numbering_words(report):
        drawing.write(draw, (EDGE, y + 14), numbering, drawing.fitted(numbering, WIDTH - 2 * EDGE, 22, 16))
    notes = words.place_remarks([tile.place for tile in pictures.tiles.values()])
    bottom = foot(draw, y + 26, report, context, notes)
    return drawing.as_array(page.crop((0, 0, WIDTH, round(bottom))))


def _caption(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], report: Report, finding: Finding, tile: Tile | None
) -> None:
    x, y = at
    name = report.level_name(finding.level)
    drawing.write(draw, (x, y + 18), name, 21, bold=True)
    if tile is not None:
        place = words.place_words(tile.place)
        size = drawing.fitted(place, _SIDE - drawing.width_of(name, 21, bold=True) - 12, 17, 10)
        drawing.write(draw, (x + _SIDE, y + 18), place, size, drawing.MUTED, anchor="rs")
    said = words.finding_words(finding, words.scale_of(report))
    drawing.write(draw, (x, y + 41), said, drawing.fitted(said, _SIDE, 18, 12))


def _cell(page: Image.Image, at: tuple[int, int], finding: Finding, heat: HeatMap | None) -> None:
    draw = ImageDraw.Draw(page)
    x, y = at
    strongest = float(np.abs(heat.effect).max()) if heat else 0.0
    if heat is None or strongest < LEAST:
        draw.rectangle((x, y, x + _SIDE, y + _SIDE), fill=drawing.PANEL)
        why = "no place alone matters" if heat else "no heat map" if finding.grade else "not graded: no heat map"
        drawing.write(draw, (x + _SIDE / 2, y + _SIDE / 2), why, 18, drawing.MUTED, anchor="ms")
        return
    page.paste(_overlaid(heat, heat.effect / np.float32(strongest)), at)
    drawing.write(draw, (x + 8, y + _SIDE / 2), "R", 19, anchor="lm", halo=True, bold=True)
    drawing.write(draw, (x + _SIDE - 8, y + _SIDE / 2), "L", 19, anchor="rm", halo=True, bold=True)


def _overlaid(heat: HeatMap, share: F32) -> Image.Image:
    """The crop in grey under its effects, which are -1..1."""
    size = (_SIDE, _SIDE)
    grey = drawing.window_onto(heat.crop, (0, 0, heat.crop.shape[1], heat.crop.shape[0]), size)
    strength = ndimage.zoom(share, (_SIDE / share.shape[0], _SIDE / share.shape[1]), order=1)
    colour = np.where(strength[..., None] >= 0, drawing.MODERATE, drawing.LINE)
    alpha = 0.6 * np.clip(np.abs(strength), 0, 1)[..., None]
    mixed = np.asarray(grey) * (1 - alpha) + colour * alpha
    row, column = np.indices(strength.shape)
    dashes = (row + column) // 5 % 2 == 0
    for most, seen in ((strength >= 0.5, True), (strength <= -0.5, dashes)):
        mixed[most & ~ndimage.binary_erosion(most, iterations=2, border_value=1) & seen] = drawing.TEXT
    return Image.fromarray(mixed.round().astype(np.uint8))


def _legend(draw: ImageDraw.ImageDraw, at: tuple[int, int]) -> None:
    x, y = at
    drawing.write(draw, (x, y + 18), "How to read", 19, drawing.MUTED, bold=True)
    below: float = y + 34
    for sentence in LEGEND:
        below = drawing.paragraph(draw, (x, below), sentence, _SIDE, 19, drawing.TEXT) + 8
