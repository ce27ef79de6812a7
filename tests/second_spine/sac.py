"""The dural sac: what is left of its free shape between disc, ligaments and fat; and the strands within it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .drawing import PITCH_MM, Canvas, Labels, Points, closed, ellipse, grid, inside, signed_distance, window
from .plan import Plan
from .tissues import Tissue

FIELD_MM = 18.0  # half the square in which the sac is fitted
DURA_MM = 0.4
SQUEEZED = 0.75  # of the nerves' area is the least that a sac is pressed to
SOLID = (Tissue.ANNULUS, Tissue.NUCLEUS, Tissue.HERNIATION, Tissue.FLAVUM, Tissue.CORTEX, Tissue.MARROW, Tissue.JOINT)
STEPS = 60


def fit(labels: Labels, plan: Plan, z_mm: float, front: float, back: float, *, pushed_mm: float) -> Labels:
    """The label map with the sac in it. ``pushed_mm``: how far the disc has moved it into the fat behind."""
    square = window(FIELD_MM)
    room = _room(labels[square], plan, pushed_mm)
    depth = _smallest(room, SQUEEZED * _nerve_mm2(plan))
    sac = depth < 0
    dura = (depth < DURA_MM) & ~sac
    out = labels.copy()
    part = out[square]
    part[dura & ~np.isin(part, SOLID)] = Tissue.DURA
    part[sac] = Tissue.CSF
    painted = np.where(sac, _strands(plan, z_mm, depth)[square], 0)
    part[painted > 0] = painted[painted > 0]
    _keep_area(part, _nerve_mm2(plan))
    return out


def _keep_area(labels: Labels, nerve_mm2: float) -> None:
    """Strands that had to overlap press the water out between them: they keep their area where the sac has it."""
    nerve = np.isin(labels, (Tissue.ROOTLET, Tissue.CORD))
    missing = round(nerve_mm2 / PITCH_MM**2) - int(nerve.sum())
    water = np.flatnonzero(labels == Tissue.CSF)
    if missing > 0 and nerve.any():
        near = ndimage.distance_transform_edt(~nerve).ravel()[water]
        labels.flat[water[np.argsort(near, kind="stable")[:missing]]] = Tissue.ROOTLET


def _room(labels: Labels, plan: Plan, pushed_mm: float) -> NDArray[np.float64]:
    """Signed distance (mm) to the border of where the sac can be."""
    square = window(FIELD_MM)
    free = signed_distance(inside(_outline(plan) + np.array([0.0, pushed_mm]))[square])
    x, y = (axis[part] for axis, part in zip(grid(), ((slice(None), square[1]), (square[0], slice(None))), strict=True))
    angle = np.arctan2(x, y - pushed_mm)  # 0 at the back
    three = 0.62 + 0.38 * np.cos(3 * angle)  # fat presses from the back and from both sides in front: a Y
    fat = plan.causes.lipoma_mm * three * np.clip((y + 14) / 14, 0.5, 1.0)
    away = signed_distance(np.isin(labels, SOLID))
    room = np.maximum(free + fat, DURA_MM + 0.3 - away)
    return np.asarray(ndimage.gaussian_filter(room, 0.7 / PITCH_MM))


def _outline(plan: Plan) -> Points:
    usual, draw = plan.usual, plan.draw(7)
    t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    down = np.sin(t)
    x = usual.sac_width / 2 * np.cos(t) * (1 - 0.35 * usual.triangular * down)
    y = usual.sac_depth / 2 * (down - 0.12 * usual.triangular * np.cos(2 * t))
    return closed(np.stack([x, y], axis=1) * (1 + draw.normal(0, 0.012, (20, 1))), 6)


def _smallest(room: NDArray[np.float64], least_mm2: float) -> NDArray[np.float64]:
    """The room shifted so that the sac keeps its least area, and only its largest part."""
    least = float(np.partition(room, n := round(least_mm2 / PITCH_MM**2), axis=None)[n])
    depth = room - max(least, 0.0)
    parts, count = ndimage.label(depth < 0)
    if count > 1:
        sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
        depth = np.where((parts > 0) & (parts != 1 + int(np.argmax(sizes))), -depth, depth)
    return np.asarray(depth)


def _strands(plan: Plan, z_mm: float, depth: NDArray[np.float64]) -> Labels:
    """Cord and rootlets of a sheet as (H, W) labels, 0 elsewhere."""
    draw, radii = plan.draw(8), _radii(plan)
    count = len(radii)
    turns, longer = draw.uniform(0, 180, count), draw.uniform(1.0, 1.45, count)
    sticky = draw.uniform(-0.25, 0.65, count)  # mm of water kept around a strand
    start = _start(plan, draw, count) + z_mm * draw.normal(0, 0.06, (count, 2))
    cord = _cord(plan)
    canvas = Canvas(0)
    middle = _centre(depth)
    places = settle(start + middle, radii, sticky, depth, middle, float(cord.mean()))
    for place, radius, turn, long in zip(places, radii, turns, longer, strict=True):
        canvas.fill(ellipse((place[0], place[1]), (radius * long, radius / long**0.5), turn, 12), Tissue.ROOTLET)
    if plan.conus > 0:
        canvas.fill(ellipse((middle[0], middle[1]), (cord[0], cord[1])), Tissue.CORD)
    return canvas.labels()


def _radii(plan: Plan) -> Points:
    """Of the strands: the fewer, the thicker; beside the conus some have not left the cord."""
    count = plan.usual.rootlets
    radii = np.clip(plan.draw(10).normal(0.60 + 0.012 * (34 - count), 0.09, count), 0.45, 1.0)
    return np.asarray(radii * (1 - 0.3 * plan.conus))


def _cord(plan: Plan) -> Points:
    return np.array([7.6, 6.4]) / 2 * plan.conus


def _nerve_mm2(plan: Plan) -> float:
    return float(np.pi * (np.sum(_radii(plan) ** 2) + _cord(plan).prod()))


def _start(plan: Plan, draw: np.random.Generator, count: int) -> Points:
    """Right and left strands in crescents along the back wall; the further settled, the closer to it."""
    usual = plan.usual
    angle = np.linspace(-1, 1, count) * np.radians(draw.uniform(85, 125)) + draw.normal(0, 0.12, count)
    radius = 0.95 - draw.uniform(0, 0.25 + 0.65 * (1 - plan.settled), count)
    half = np.array([usual.sac_width, usual.sac_depth]) / 2
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1) * half


def _centre(depth: NDArray[np.float64]) -> Points:
    rows, cols = np.nonzero(depth < 0)
    return (np.array([cols.mean(), rows.mean()]) + 0.5) * PITCH_MM - FIELD_MM


def settle(
    places: Points, radii: Points, sticky: Points, depth: NDArray[np.float64], middle: Points, cord_mm: float
) -> Points:
    """Strands pushed apart, off the cord and into the sac as far as there is room; where there is none they overlap."""
    slope = np.gradient(depth, PITCH_MM)
    reach = radii[:, None] + radii[None, :] + (sticky[:, None] + sticky[None, :]) / 2
    np.fill_diagonal(reach, 0.0)
    for step in range(STEPS):
        apart = places[:, None, :] - places[None, :, :]
        far = np.sqrt((apart**2).sum(axis=2)) + 1e-6
        near = np.clip(reach - far, 0, None)
        places = places + 0.3 * ((near / far)[:, :, None] * apart).sum(axis=1)
        if cord_mm > 0:
            off = places - middle
            distance = np.sqrt((off**2).sum(axis=1)) + 1e-6
            places = places + (np.clip(cord_mm + radii + 0.3 - distance, 0, None) / distance)[:, None] * off
        for _ in range(2):
            at = ((places + FIELD_MM) / PITCH_MM - 0.5).T[::-1]
            over = ndimage.map_coordinates(depth, at, order=1, mode="nearest") + radii + 0.15
            parts = (ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in slope[::-1])
            push = np.stack(list(parts), axis=1)
            push = push / (np.sqrt((push**2).sum(axis=1, keepdims=True)) + 1e-6)
            places = places - (np.clip(over, 0, None) * (0.5 if step < STEPS - 1 else 1.0))[:, None] * push
    return places
