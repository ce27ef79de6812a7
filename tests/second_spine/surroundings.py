"""What lies around the spine: muscles with fat between and within them, psoas, sacral ala, the fat under the skin."""

from __future__ import annotations

import numpy as np

from cauda.core.domain import Level

from .drawing import HALF_MM, Canvas, Points, closed, ellipse
from .plan import Plan
from .tissues import Tissue

_MULTIFIDUS = ((3.2, 17.0), (7.0, 12.5), (14.0, 11.0), (19.0, 14.0), (19.5, 24.0), (16.0, 34.0), (7.0, 42.0), (3.2, 34))
_ERECTOR = ((20.5, 12.5), (25.0, 7.5), (36.0, 7.5), (46.0, 14.0), (46.0, 38.0), (25.0, 45.0), (18.0, 36.0), (21, 24))
_BETWEEN = ((22.0, 0.0), (31.0, -3.5), (46.0, -3.0), (46.0, 6.0), (34.0, 6.3), (24.0, 6.0))
_ALA = ((22.0, -1.0), (30.0, -9.0), (46.0, -7.0), (46.0, 7.0), (33.0, 8.5), (24.0, 5.0))
_PSOAS = {Level.L1_L2: 9.0, Level.L2_L3: 11.5, Level.L3_L4: 14.0, Level.L4_L5: 15.5, Level.L5_S1: 13.5}  # radius


def paint_muscles(canvas: Canvas, plan: Plan, z_mm: float) -> None:
    """Paint them with the patient's two sides alike but not equal."""
    draw = plan.draw(6)
    radius, half = _PSOAS[plan.level], plan.usual.body_width / 2
    for sign in (1.0, -1.0):
        mirror = np.array([sign, 1.0])
        for outline, jitter in ((_MULTIFIDUS, 0.9), (_ERECTOR, 1.0)):
            curve = closed(np.array(outline) + draw.normal(0, jitter, (len(outline), 2)))
            canvas.fill(curve * mirror, Tissue.MUSCLE)
            _streaks(canvas, curve, mirror, plan, draw, z_mm)
        if plan.level is Level.L5_S1:
            side = np.array(_ALA) + draw.normal(0, 1.0, (len(_ALA), 2))
            canvas.fill(closed(side) * mirror, Tissue.MARROW, rim=Tissue.CORTEX)
        else:
            side = np.array(_BETWEEN) + draw.normal(0, 0.8, (len(_BETWEEN), 2))
            canvas.fill(closed(side) * mirror, Tissue.MUSCLE)
        at = (sign * (half + 0.75 * radius + 0.3), -12.5 - 0.6 * radius + draw.normal(0, 1.0))
        canvas.fill(ellipse(at, (0.8 * radius, radius * draw.uniform(0.95, 1.15)), sign * 15), Tissue.PSOAS)
        canvas.fill(ellipse((sign * (half + 1.2), -22.0 + draw.normal(0, 2)), (1.0, 1.3)), Tissue.FLOW)
    back = plan.skin_mm
    canvas.fill(np.array([(-HALF_MM, back), (0.0, back + 1.5), (HALF_MM, back), (HALF_MM, 90.0), (-HALF_MM, 90.0)]),
                Tissue.SKIN_FAT)  # fmt: skip


def _streaks(canvas: Canvas, curve: Points, mirror: Points, plan: Plan, draw: np.random.Generator, z_mm: float) -> None:
    """Spindles of fat along the fibres, more of them where a muscle wastes: deep and near the midline."""
    low, high = curve.min(axis=0), curve.max(axis=0)
    for _ in range(int(5 + 65 * plan.wasting)):
        deep = draw.beta(1.0, 1.6)  # 0 at the bone
        at = np.array([draw.uniform(low[0] + 1, high[0] - 1), low[1] + 1.5 + deep * (high[1] - low[1] - 4)])
        long, thin = draw.uniform(0.6, 3.2), draw.uniform(0.15, 0.35 + 1.2 * plan.wasting)
        turn = np.degrees(np.arctan2(at[1] + 15, at[0])) + draw.normal(0, 25)
        at = at + z_mm * draw.normal(0, 0.25, 2)
        canvas.fill(ellipse((at[0] * mirror[0], at[1]), (long, thin), turn * mirror[0], 10), Tissue.STREAK)
