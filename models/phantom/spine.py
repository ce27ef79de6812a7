"""A parametric lumbar spine in millimetres: a curved canal, its discs, and what narrows it at each level.

The canal's centreline is a curve in the patient's space (LPS). Everything else is described in the curve's own
coordinates: ``s`` along it (0 at L5/S1, growing caudally), ``u`` to the patient's left and ``v`` to the back,
so that one anatomy can be cut by any plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cauda.core.domain import F64, Level, Point

DISCS = len(Level)
_STEP_MM = 1.0
_TOP_MM, _BOTTOM_MM = -330.0, 170.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """What narrows the canal at one disc level; all in millimetres, nothing here is a grade."""

    bulge: float = 0.0  # the disc's whole posterior margin, backward
    protrusion: float = 0.0  # its focal part
    protrusion_side: float = 0.0  # where, to the left
    flavum: float = 2.5  # thickness of the ligamentum flavum
    facet: float = 0.0  # growth of the facet joints into the canal, each side
    fat: float = 0.0  # epidural lipomatosis: taken from the sac's radius


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """One rootlet of the cauda equina: its place in the sac's cross-section and where it leaves."""

    across: float  # -1..1, of the sac's half width
    along: float  # -1 (front) .. 1 (back), of the sac's half depth
    radius: float
    ends: float  # s at which it has left the sac
    wave: float  # phase of its wandering


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spine:
    """One patient's lumbar spine."""

    seed: int
    disc_s: F64  # (7,) disc centres along the canal: T11/T12, T12/L1, L1/L2 .. L5/S1
    disc_height: F64  # (7,)
    degeneration: F64  # (7,) 0 bright nucleus .. 1 dark
    narrowings: tuple[Narrowing, ...]  # (5,) L1/L2 .. L5/S1
    sac: F64  # (7, 2) half width and half depth of the undisturbed sac at each disc
    front_gap: F64  # (7,) epidural fat between sac and vertebral wall
    body: tuple[float, float]  # half width and depth of a vertebral body
    conus_s: float
    remnant: tuple[float, float]  # S1/S2 disc: depth as a share of the sacrum there (0 none), and s
    strands: tuple[Strand, ...]
    curve: F64  # (N, 5): s, y, z, sin and cos of the tangent's angle, one a millimetre
    centre: Point  # of L3/L4, in the patient
    sideways: F64  # (3,) scoliosis: amplitude, phase, length

    def place(self, s: float, u: float = 0.0, v: float = 0.0) -> Point:
        """The patient point of curve coordinates."""
        at = self.curve[:, 0]
        y, z, sin, cos = (float(np.interp(s, at, self.curve[:, i])) for i in range(1, 5))
        x = self.centre[0] + float(self.bend(np.asarray(s)))
        return x + u, y + v * cos, z + v * sin

    def bend(self, s: F64) -> F64:
        """How far the canal leans to the left at ``s``."""
        amplitude, phase, length = self.sideways
        lean: F64 = amplitude * np.sin(phase + s * (2 * np.pi / length))
        return lean

    def coordinates(self, points: F64) -> tuple[F64, F64, F64]:
        """Curve coordinates (u, v, s) of patient points (..., 3)."""
        at = self.curve[:, 0]
        y, z = points[..., 1], points[..., 2]
        s = np.interp(-z, -self.curve[:, 2], at)  # z falls along the curve
        for _ in range(4):  # to the foot of the perpendicular
            cy, cz = np.interp(s, at, self.curve[:, 1]), np.interp(s, at, self.curve[:, 2])
            sin, cos = np.interp(s, at, self.curve[:, 3]), np.interp(s, at, self.curve[:, 4])
            s = s + np.clip((y - cy) * sin - (z - cz) * cos, -25, 25)
        cy, cz = np.interp(s, at, self.curve[:, 1]), np.interp(s, at, self.curve[:, 2])
        sin, cos = np.interp(s, at, self.curve[:, 3]), np.interp(s, at, self.curve[:, 4])
        v = (y - cy) * cos + (z - cz) * sin
        u = points[..., 0] - self.centre[0] - self.bend(s)
        return u, v, s

    def level_s(self, level: Level) -> float:
        """Where a level's disc is along the canal."""
        return float(self.disc_s[2 + list(Level).index(level)])

    def canal_centre(self, level: Level) -> Point:
        """The middle of the canal at a level, in the patient."""
        return self.place(self.level_s(level))

    def normal(self, level: Level) -> tuple[float, float, float]:
        """The direction of the canal at a level, pointing to the head."""
        at = self.curve[:, 0]
        s = self.level_s(level)
        sin, cos = (float(np.interp(s, at, self.curve[:, i])) for i in (3, 4))
        return 0.0, -sin, cos


def sample_spine(seed: int, *, balanced: bool = False) -> Spine:
    """Draw a spine; the same seed gives the same spine.

    ``balanced`` draws narrowings evenly from none to severe; otherwise most levels are healthy, the lower ones less.
    """
    draw = np.random.default_rng(seed)
    heights = np.clip(np.array([6.5, 7.5, 8.5, 9.5, 10.5, 11.0, 10.0]) * draw.normal(1, 0.1), 5, 14)
    bodies = np.clip(np.array([24.0, 25, 26, 27, 27.5, 27.5]) * draw.normal(1, 0.06), 20, 32)
    wear = np.clip(draw.beta(1.5, 2.0, 7) + np.array([-0.2, -0.2, -0.1, 0, 0, 0.1, 0.1]), 0, 1)
    heights = heights * (1 - 0.35 * wear * draw.random(7))
    steps = bodies + (heights[:-1] + heights[1:]) / 2
    disc_s = -np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
    size = draw.normal(1.0, 0.1)
    width = np.clip(np.array([9.5, 9.5, 9.3, 9.0, 8.8, 8.4, 7.3]) * size * draw.normal(1, 0.04, 7), 5.5, 12)
    depth = np.clip(np.array([7.6, 7.6, 7.4, 7.2, 7.0, 6.6, 5.6]) * size * draw.normal(1, 0.05, 7), 4.2, 9.5)
    gap = np.clip(np.array([0.8, 0.8, 0.8, 0.9, 1.0, 1.6, 3.5]) * draw.normal(1, 0.25), 0.5, 6)
    conus = disc_s[1] + draw.normal(16, 9)  # about the body of L1
    centre = (float(draw.normal(0, 4)), float(draw.normal(60, 8)), float(draw.normal(-500, 30)))
    return Spine(
        seed=seed,
        disc_s=disc_s,
        disc_height=heights,
        degeneration=wear,
        narrowings=tuple(_narrowing(draw, i, depth[2 + i], gap[2 + i], balanced=balanced) for i in range(DISCS)),
        sac=np.stack([width, depth], axis=1),
        front_gap=gap,
        body=(float(draw.normal(23.5, 1.5)), float(draw.normal(33.5, 2.0))),
        conus_s=float(np.clip(conus, disc_s[1] - 12, disc_s[3] - 8)),
        remnant=_remnant(np.random.default_rng([seed, 12])),
        strands=_strands(draw, disc_s),
        curve=_curve(draw, disc_s, centre),
        centre=centre,
        sideways=np.array([abs(draw.normal(0, 1.5)), draw.uniform(0, 6.3), draw.uniform(150, 260)]),
    )


def _narrowing(draw: np.random.Generator, index: int, depth: float, gap: float, *, balanced: bool) -> Narrowing:
    likely = (0.12, 0.2, 0.35, 0.45, 0.25)[index]
    if balanced:
        amount = float(draw.uniform(0, 1.0) ** 0.45)
    else:
        amount = float(draw.beta(3.0, 1.8)) if draw.random() < likely else float(draw.beta(1.0, 8.0))
    share = draw.dirichlet([1.6, 0.8, 1.8])  # bulge, protrusion, flavum
    # Nerves do not vanish: what is taken from front to back leaves a cleft that they still fit in.
    room = 2 * depth + gap + 4.0 - float(draw.uniform(1.0, 3.2))
    taken = amount * room * share
    taken[1:] = np.minimum(taken[1:], (7.0, 5.0))
    taken[0] = amount * room - taken[1:].sum()  # whatever one cause cannot take, the bulging disc does
    return Narrowing(
        bulge=float(taken[0]),
        protrusion=float(taken[1]),
        protrusion_side=float(draw.normal(0, 3.5)),
        flavum=float(2.2 + draw.uniform(-0.4, 0.6) + taken[2]),
        facet=float(amount * draw.uniform(0, 3.8)),
        fat=float(draw.uniform(1.0, 3.0) if draw.random() < 0.06 else 0.0),
    )


def _remnant(draw: np.random.Generator) -> tuple[float, float]:
    """Most sacra keep a little of their uppermost disc."""
    share = 0.0 if draw.random() < 0.35 else draw.uniform(0.15, 0.45)
    return float(share), float(draw.normal(31, 2))


def _strands(draw: np.random.Generator, disc_s: F64) -> tuple[Strand, ...]:
    """Rootlets settle to the back of a lying patient and leave two by two, the lateral ones first."""
    settle = draw.uniform(0.25, 0.6)
    clump = draw.normal(0, 0.25, (7, 2))
    strands = []
    for level in range(2, 7):
        for _ in range(int(draw.integers(6, 9))):
            centre = clump[draw.integers(7)]
            radius, angle = np.sqrt(draw.random()), draw.uniform(0, 2 * np.pi)
            across = radius * np.cos(angle) * (0.95 if level < 5 else 0.7) + 0.25 * centre[0]
            along = radius * np.sin(angle) * (1 - 0.6 * settle) + settle * 0.7 + 0.15 * centre[1]
            strands.append(
                Strand(
                    across=float(np.clip(across, -0.95, 0.95)),
                    along=float(np.clip(along, -0.95, 0.92)),
                    radius=float(draw.uniform(0.55, 0.85)),
                    ends=float(disc_s[level] + draw.uniform(5, 18) + (60 if level == 6 else 0)),
                    wave=float(draw.uniform(0, 6.3)),
                )
            )
    return tuple(strands)


def _curve(draw: np.random.Generator, disc_s: F64, centre: Point) -> F64:
    """The centreline: kyphotic above, lordotic below, and a sacrum that tips backward."""
    s = np.arange(_TOP_MM, _BOTTOM_MM, _STEP_MM)
    slope = draw.normal(28, 6)
    knots = [disc_s[0] - 60, disc_s[1], disc_s[4], disc_s[5], disc_s[6], 30.0, 80.0]
    angles = [draw.normal(-4, 3), draw.normal(-13, 4), draw.normal(0, 3), slope * 0.38, slope, slope + 14, slope + 2]
    angle = np.radians(np.interp(s, knots, angles))
    kernel = np.hanning(31) / np.hanning(31).sum()
    angle = np.convolve(np.pad(angle, 15, mode="edge"), kernel, mode="valid")
    y = np.cumsum(np.sin(angle)) * _STEP_MM
    z = -np.cumsum(np.cos(angle)) * _STEP_MM
    y += centre[1] - np.interp(disc_s[4], s, y)
    z += centre[2] - np.interp(disc_s[4], s, z)
    return np.stack([s, y, z, np.sin(angle), np.cos(angle)], axis=1)
