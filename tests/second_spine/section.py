"""A level as label maps: the sheets of one thick slice, painted from the back of the picture to the front."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from .drawing import Canvas, Labels, closed, ellipse, mirrored
from .plan import Plan
from .sac import fit
from .surroundings import paint_muscles
from .tissues import Tissue

SHEETS_MM = (-1.8, -0.6, 0.6, 1.8)  # through a slice of some 4 mm
# The halves of a joint: along it from its front end (-1) to its back end, and off it, in its thickness.
_UPPER = ((-1.0, 0.10), (-0.75, 0.75), (0.0, 1.0), (0.75, 0.7), (0.95, 0.10), (0.0, 0.06))
_LOWER = ((-0.95, 0.08), (-0.6, 0.30), (0.1, 0.80), (0.7, 1.0), (1.0, 0.40), (0.1, 0.06))
EXTRUDED_MM = 5.0  # beyond this a herniation has a head of its own


def sheets(plan: Plan) -> Labels:
    """Label maps (S, H, W) of the slice, with patient's right on the left and belly up."""
    return np.stack([_sheet(plan, z) for z in SHEETS_MM])


def _sheet(plan: Plan, z_mm: float) -> Labels:
    canvas = Canvas(Tissue.FAT)
    paint_muscles(canvas, plan, z_mm)
    labels = canvas.labels()
    canvas = Canvas(Tissue.FAT)
    _paint_canal(canvas, plan)
    _paint_arch(canvas, plan, z_mm)
    _paint_flavum(canvas, plan, z_mm)
    _paint_disc(canvas, plan, z_mm)
    _paint_nerves(canvas, plan, z_mm)
    spine = canvas.labels()
    labels = np.where(spine == Tissue.FAT, labels, spine).astype(np.uint8)
    return fit(labels, plan, z_mm, *walls(plan), pushed_mm=_pushed(plan, z_mm))


def walls(plan: Plan) -> tuple[float, float]:
    """The y of the disc's back border and of the arch's apex in the midline, in health."""
    usual = plan.usual
    return -usual.sac_depth / 2 - usual.front_fat, usual.sac_depth / 2 + usual.back_fat


def _through(plan: Plan, z_mm: float) -> float:
    """How much of the causes this sheet has: the disc and the joints are thickest in one plane."""
    middle = plan.draw(1).normal(0, 1.0)
    return float(np.exp(-(((z_mm - middle) / 4.5) ** 2)))


def _pushed(plan: Plan, z_mm: float) -> float:
    causes = plan.causes
    intruding = (causes.bulge_mm + 0.5 * causes.focal_mm) * _through(plan, z_mm) - plan.usual.front_fat
    return float(np.clip(0.3 * intruding, 0, 0.6 * plan.usual.back_fat))


def _paint_canal(canvas: Canvas, plan: Plan) -> None:
    """Fat wherever nothing else will be, out to the foramina."""
    front, back = walls(plan)
    half = plan.usual.canal_width / 2
    side = np.array([
        (0.45 * half, front - 0.5), (half - 1.5, front + 0.5), (half + 4, front - 2.0), (half + 9, front + 1.5),
        (half + 6, front + 6.0), (half + 0.5, front + 7.0), (0.68 * half, 0.62 * back), (0.08 * half, back),
    ])  # fmt: skip
    canvas.fill(closed(np.vstack([side, mirrored(side[::-1])]), 4), Tissue.EPIDURAL_FAT)


def _paint_disc(canvas: Canvas, plan: Plan, z_mm: float) -> None:
    usual, causes, draw = plan.usual, plan.causes, plan.draw(2)
    front, _ = walls(plan)
    half, through = usual.body_width / 2, _through(plan, z_mm)
    x = np.linspace(-15, 15, 21)
    skew = draw.uniform(-0.15, 0.15)
    y = front + usual.hollow * (x / 11.0) ** 2 + draw.normal(0, 0.12, len(x))
    y += causes.bulge_mm * through * np.exp(-((x / 15.5) ** 4)) * (1 + skew * x / 15)
    y += causes.focal_mm * through * np.exp(-(((x - causes.focal_x_mm) / 4.2) ** 2))
    share = np.array([0.0, 0.25, 0.5, 0.88])  # of the way to the front
    side = np.stack([[19.5, half - 0.8, half, 0.72 * half], front - share * usual.body_depth], axis=1) - ((0, 1.5),)
    side = side + draw.normal(0, 0.5, side.shape)
    top = np.array([(0.0, front - usual.body_depth)])
    outline = closed(np.vstack([np.stack([x, y], axis=1), side, top, mirrored(side[::-1])]), 4)
    canvas.fill(outline, Tissue.ANNULUS)
    core = np.array([0.0, front - 0.5 * usual.body_depth])
    if draw.random() < 0.3 and z_mm * draw.choice([-1, 1]) > 0:  # the slice runs into the vertebra
        canvas.fill((outline - core) * 0.93 + core - (0, 2.0), Tissue.MARROW, rim=Tissue.CORTEX)
    else:
        canvas.fill((outline - core) * (0.84, 0.78) + core, Tissue.NUCLEUS)
    if causes.focal_mm > EXTRUDED_MM:
        head = 0.5 * causes.focal_mm * through
        at = (causes.focal_x_mm, front + causes.bulge_mm * through + causes.focal_mm * through - head)
        canvas.fill(ellipse(at, (3.0 + 0.25 * causes.focal_mm, head)), Tissue.HERNIATION)


def _paint_arch(canvas: Canvas, plan: Plan, z_mm: float) -> None:
    """Joints, laminae, spinous process or the ligament between two."""
    usual, causes, draw = plan.usual, plan.causes, plan.draw(3)
    _, back = walls(plan)
    away = np.array([0.0, plan.tilt * z_mm])
    for sign in (1.0, -1.0):
        turn = np.radians(usual.facet_deg + draw.normal(0, 4))
        along = np.array([np.sin(turn), np.cos(turn)])  # from the front inner end of the joint to its back outer end
        out = np.array([np.cos(turn), -np.sin(turn)])  # towards the upper process of the vertebra below
        grown = causes.facet_mm * draw.uniform(0.75, 1.25) * _through(plan, z_mm)
        middle = np.array([usual.canal_width / 2 + 2.4 - 0.35 * grown, 5.0])
        length = draw.uniform(6.2, 7.8) + 0.5 * grown
        below, above = (
            middle + draw.normal(0, 0.35, (6, 2)) + np.array([
                (a * length) * along + side * (b * (thick + 0.7 * grown)) * out
                for a, b in profile
            ])
            for side, thick, profile in ((1.0, draw.uniform(5.5, 7.5), _UPPER), (-1.0, draw.uniform(5.5, 7.0), _LOWER))
        )  # fmt: skip
        mirror = np.array([sign, 1.0])
        lamina = np.array([(0.5, back + 3.2), (5.0, back - 0.3), (middle[0] - 3.5, 9.0)]) + away
        thick = draw.uniform(4.2, 6.2)
        canvas.stroke(lamina * mirror, Tissue.CORTEX, thick)
        canvas.fill(closed((above + away) * mirror), Tissue.MARROW, rim=Tissue.CORTEX, rim_mm=1.0)
        canvas.stroke(lamina * mirror, Tissue.MARROW, thick - 2.2)
        canvas.fill(closed((below + away) * mirror), Tissue.MARROW, rim=Tissue.CORTEX, rim_mm=1.0)
        line = np.array([middle + a * length * along for a in (-0.8, 0.0, 0.75)]) + away
        canvas.stroke(line * mirror, Tissue.JOINT, draw.uniform(0.5, 1.4))
    long = draw.uniform(23, 31) * (0.7 if plan.level.value == "L5/S1" else 1.0)
    wide = draw.uniform(1.6, 2.6)
    spine = np.array([(wide, back + 2.5), (wide * 0.9, back + 0.5 * long), (wide * 1.4, back + 0.9 * long)])
    spine = np.vstack([spine, [(0.0, back + long)], mirrored(spine[::-1])]) + away
    spine[:, 0] += draw.normal(0, 0.05) * (spine[:, 1] - back)
    if plan.spinous:
        canvas.fill(closed(spine), Tissue.MARROW, rim=Tissue.CORTEX, rim_mm=0.8)
    else:
        canvas.fill(closed(spine * (0.75, 1.0)), Tissue.LIGAMENT)


def _paint_flavum(canvas: Canvas, plan: Plan, z_mm: float) -> None:
    """Two leaves from the midline to the joints; they thicken inwards, and the joints push them."""
    usual, causes, draw = plan.usual, plan.causes, plan.draw(4)
    front, back = walls(plan)
    half, through = usual.canal_width / 2, _through(plan, z_mm)
    leaves = []
    for sign in (1.0, -1.0):
        uneven = draw.uniform(0.8, 1.2)
        outer = np.array([(0.5, back + 0.7), (0.74 * half, 0.63 * back), (half + 0.5, -0.5), (half + 0.2, front + 3.5)])
        outer = outer + draw.normal(0, 0.25, outer.shape)
        usually = plan.flavum_mm * np.array([0.5, 0.95, 0.85, 0.35])
        thicker = causes.flavum_mm * uneven * through * np.array([0.75, 1.15, 0.9, 0.3])
        moved = causes.facet_mm * uneven * through * np.array([0.0, 0.75, 0.85, 0.35])
        s, fine = np.arange(4.0), np.linspace(0, 3, 25)
        line = CubicSpline(s, outer)(fine)
        step = np.gradient(line, axis=0)
        inward = np.stack([step[:, 1], -step[:, 0]], axis=1) / np.linalg.norm(step, axis=1, keepdims=True)
        depth = CubicSpline(s, usually + thicker + moved)(fine)[:, None]
        inner = line + inward * np.maximum(depth, 0.3)
        leaves.append((line * (sign, 1.0), inner * (sign, 1.0)))
    (left, _), (right, _) = leaves
    canvas.fill(np.vstack([left, right[::-1]]), Tissue.EPIDURAL_FAT)  # no bone lies within the ligaments
    for line, inner in leaves:
        canvas.fill(np.vstack([line, inner[::-1]]), Tissue.FLAVUM)


def _paint_nerves(canvas: Canvas, plan: Plan, z_mm: float) -> None:
    """Roots and vessels outside the sac. Aorta and vena cava lie in front of the crop."""
    usual, draw = plan.usual, plan.draw(5)
    front, _ = walls(plan)
    half = usual.canal_width / 2
    for sign in (1.0, -1.0):
        at = np.array([half + 4.5, front + 2.8]) + draw.normal(0, 0.7, 2) + np.array([0.25, 0.1]) * z_mm
        canvas.fill(ellipse((sign * at[0], at[1]), (2.0, 3.0), sign * draw.uniform(-50, -20)), Tissue.NERVE)
        for _ in range(int(draw.integers(2, 5))):
            x, y = half + draw.uniform(0, 9), front + draw.uniform(-0.5, 6)
            kind = Tissue.VESSEL if draw.random() < 0.6 else Tissue.FLOW
            radii = draw.uniform(0.4, 1.1, 2)
            canvas.fill(ellipse((sign * x, y), (radii[0], radii[1])), kind)
        if usual.front_fat > 2.5:  # the next root runs beside a small sac
            x, y = usual.sac_width / 2 + draw.uniform(0.5, 2.0), front + draw.uniform(2.5, 4.5)
            canvas.fill(ellipse((sign * x, y), (1.3, 1.6)), Tissue.NERVE)
        if draw.random() < 0.6:
            at = np.array([draw.uniform(2, 6), front + usual.hollow * 0.2 + 0.7])
            canvas.fill(ellipse((sign * at[0], at[1]), (draw.uniform(0.8, 2.0), 0.5)), Tissue.VESSEL)
