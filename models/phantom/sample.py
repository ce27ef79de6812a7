"""Draws a spine: how much anatomy varies between people, and how often something narrows a canal.

Sizes follow anatomical tables; how often a level is narrowed by nature follows the RSNA 2024 labels (canal: 88 %
Normal/Mild, 7 % Moderate, 5 % Severe of all levels), the lower levels more; numbers of lumbar vertebrae follow
surveys of transitional anatomy (five in about nine of ten people).
"""

from __future__ import annotations

import numpy as np

from cauda.core.domain import F64, Point
from cauda.models.phantom.spine import LEVELS, THORACIC, Joint, Narrowing, Spine, Strand

_STEP_MM = 1.0
_TOP_MM, _BOTTOM_MM = -370.0, 170.0
_ROOM_MM, _APART_MM = (8.0, 6.5), 1.35  # half the room the rootlets share, and how near they lie
_SACRAL_S = 60.0  # where the last rootlets leave the sac
_NARROWED = (0.05, 0.08, 0.14, 0.22, 0.13)  # how likely something narrows L1/L2 .. L5/S1


def sample_spine(seed: int, *, balanced: bool = False) -> Spine:
    """Draw a spine; the same seed gives the same spine.

    ``balanced`` draws narrowings evenly from none to severe; otherwise most levels are healthy, the lower ones less.
    """
    draw = np.random.default_rng(seed)
    lumbar = int(draw.choice((4, 5, 6), p=(0.04, 0.90, 0.06)))
    discs = THORACIC + lumbar
    along = np.linspace(0, 6, discs)  # the tables below are for five lumbar vertebrae

    def table(*values: float) -> F64:
        return np.interp(along, np.arange(7), values)

    heights = np.clip(table(6.5, 7.5, 8.5, 9.5, 10.5, 11.0, 10.0) * draw.normal(1, 0.1), 5, 14)
    bodies = np.clip(table(24.0, 25, 26, 27, 27.5, 27.5, 27.5)[:-1] * draw.normal(1, 0.06), 20, 32)
    wear = np.clip(draw.beta(1.5, 2.0, discs) + table(-0.2, -0.2, -0.1, 0, 0, 0.1, 0.1), 0, 1)
    heights = heights * (1 - 0.35 * wear * draw.random(discs))
    steps = bodies + (heights[:-1] + heights[1:]) / 2
    disc_s = -np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
    size = draw.normal(1.0, 0.1)
    width = table(9.5, 9.5, 9.3, 9.0, 8.8, 8.4, 7.3) * size * draw.normal(1, 0.04, discs)
    depth = table(7.6, 7.6, 7.4, 7.2, 7.0, 6.6, 5.6) * size * draw.normal(1, 0.05, discs)
    width, depth = np.clip(width, 5.5, 12), np.clip(depth, 4.2, 9.5)
    gap = np.clip(table(0.8, 0.8, 0.8, 0.9, 1.0, 1.6, 3.5) * draw.normal(1, 0.25), 0.5, 6)
    conus = disc_s[-1 - lumbar] + draw.normal(16, 9)  # about the body of L1
    centre = (float(draw.normal(0, 4)), float(draw.normal(60, 8)), float(draw.normal(-500, 30)))
    first = discs - LEVELS
    return Spine(
        seed=seed,
        lumbar=lumbar,
        disc_s=disc_s,
        disc_height=heights,
        degeneration=wear,
        fatty=np.where(draw.random(discs) < 0.5 * wear, draw.uniform(2, 7, discs), 0.0),
        narrowings=tuple(
            _narrowing(draw, i, depth[first + i], gap[first + i], balanced=balanced) for i in range(LEVELS)
        ),
        joints=tuple((_joint(draw, wear[i]), _joint(draw, wear[i])) for i in range(discs)),
        lamina=draw.uniform(4.2, 7.8, discs),
        sac=np.stack([width, depth], axis=1),
        front_gap=gap,
        body=(float(draw.normal(23.5, 1.5)), float(draw.normal(33.5, 2.0))),
        conus_s=float(np.clip(conus, disc_s[first - 1] - 12, disc_s[first + 1] - 8)),
        remnant=_remnant(draw),
        strands=_strands(draw, disc_s),
        curve=_curve(draw, disc_s, centre),
        centre=centre,
        sideways=_sideways(draw),
        muscle_fat=float(draw.beta(1.5, 3.0)),
        skin=float(draw.uniform(6, 38)),
    )


def _sideways(draw: np.random.Generator) -> F64:
    """Most spines are nearly straight; some are scoliotic."""
    amplitude = draw.uniform(6, 14) if draw.random() < 0.05 else abs(draw.normal(0, 1.5))
    return np.array([amplitude, draw.uniform(0, 6.3), draw.uniform(150, 260)])


def _narrowing(draw: np.random.Generator, index: int, depth: float, gap: float, *, balanced: bool) -> Narrowing:
    if balanced:
        amount = float(draw.uniform(0, 1.0) ** 0.35)
    else:
        amount = float(draw.beta(4.5, 1.2)) if draw.random() < _NARROWED[index] else float(draw.beta(1.0, 9.0))
    share = draw.dirichlet([1.6, 0.8, 1.8])  # bulge, protrusion, flavum
    # Nerves do not vanish: what is taken from front to back leaves a cleft that they still fit in.
    room = 2 * depth + gap + 5.0 - float(draw.uniform(1.8, 5.0))
    slip = 0.0
    if index in (2, 3, 4) and draw.random() < (0.02, 0.10, 0.04)[index - 2]:
        slip = float(min(draw.uniform(2.0, 8.0), 0.5 * room))
        room -= slip
    taken = amount * room * share
    taken[1:] = np.minimum(taken[1:], (7.0, 5.0))
    taken[0] = amount * room - taken[1:].sum()  # whatever one cause cannot take, the bulging disc does
    extruded = draw.random() < (0.12 if balanced else 0.03)
    return Narrowing(
        bulge=float(taken[0]) * (0.4 if extruded else 1.0),
        protrusion=float(taken[1]),
        protrusion_side=float(draw.normal(0, 3.5)),
        extrusion=float(draw.uniform(2.5, 5.5)) if extruded else 0.0,
        extrusion_side=float(draw.normal(0, 4.0)),
        extrusion_down=float(draw.normal(2.0, 6.0)),
        flavum=float(2.2 + draw.uniform(-0.4, 0.6) + taken[2]),
        facet=float(amount * draw.uniform(0, 3.8)),
        fat=float(draw.uniform(1.0, 3.0) if draw.random() < 0.06 else 0.0),
        slip=slip,
    )


def _joint(draw: np.random.Generator, wear: float) -> Joint:
    return Joint(
        angle=float(np.radians(draw.normal(38, 10))),
        size=float(draw.normal(1.0, 0.1) + 0.25 * wear * draw.random()),
        gap=float(draw.uniform(0.8, 2.2)),
        fluid=bool(draw.random() < 0.35),
    )


def _remnant(draw: np.random.Generator) -> tuple[float, float]:
    """Most sacra keep a little of their uppermost disc."""
    share = 0.0 if draw.random() < 0.35 else draw.uniform(0.15, 0.45)
    return float(share), float(draw.normal(31, 2))


def _strands(draw: np.random.Generator, disc_s: F64) -> tuple[Strand, ...]:
    """Rootlets settle to the back of a lying patient, in some along the side walls, in some hardly at all."""
    kind = draw.random()
    settle = draw.uniform(0.25, 0.6) if kind < 0.8 else draw.uniform(0.0, 0.12)
    horseshoe = kind < 0.15
    clumps = draw.normal(0, 1.0, (6, 2)) * (0.45, 0.3)  # rootlets of one root lie together
    tight = draw.uniform(0.15, 0.5) if 0.15 <= kind < 0.8 else 0.0
    last = len(disc_s) - 1
    leaves = [(float(disc_s[level]), int(draw.integers(5, 8))) for level in range(THORACIC, len(disc_s))]
    leaves += [(_SACRAL_S, int(draw.integers(12, 18)))]  # S2 to S5, thinner
    places, sizes, ends = [], [], []
    for level, (s, count) in enumerate(leaves, THORACIC):
        for _ in range(count):
            clump = clumps[draw.integers(6)]
            radius, angle = np.sqrt(draw.random()), draw.uniform(0, 2 * np.pi)
            across = radius * np.cos(angle) * (0.95 if level < last - 1 else 0.7)
            along = radius * np.sin(angle) * (1 - 0.6 * settle)
            if horseshoe:
                across = np.sign(across) * (0.62 + 0.33 * abs(across))
            places.append((across + tight * (clump[0] - across), along + tight * (clump[1] - along) + settle * 0.7))
            sizes.append(draw.uniform(0.55, 0.85) * (1.0 if level <= last else 0.75))
            ends.append(s + draw.uniform(5, 18))
    return tuple(
        Strand(across=float(x), along=float(y), radius=float(r), ends=float(end), wave=float(draw.uniform(0, 6.3)))
        for (x, y), r, end in zip(_apart(np.array(places)), sizes, ends, strict=True)
    )


def _apart(places: F64) -> F64:
    """Rootlets (N, 2) moved until none lies in another, where the sac has room."""
    unit = np.array(_ROOM_MM)
    for _ in range(30):
        away = (places[:, None] - places[None]) * unit
        distance = np.hypot(away[..., 0], away[..., 1]) + np.eye(len(places)) * 1e9 + 1e-6
        push = np.clip(_APART_MM - distance, 0, None) / distance
        places = np.clip(places + 0.4 * (away * push[..., None]).sum(axis=1) / unit, -0.95, 0.95)
    return places


def _curve(draw: np.random.Generator, disc_s: F64, centre: Point) -> F64:
    """The centreline: kyphotic above, lordotic below, and a sacrum that tips backward."""
    s = np.arange(_TOP_MM, _BOTTOM_MM, _STEP_MM)
    slope = draw.normal(28, 6)
    knots = [disc_s[0] - 60, disc_s[1], disc_s[-3], disc_s[-2], disc_s[-1], 30.0, 80.0]
    angles = [draw.normal(-4, 3), draw.normal(-13, 4), draw.normal(0, 3), slope * 0.38, slope, slope + 14, slope + 2]
    angle = np.radians(np.interp(s, knots, angles))
    kernel = np.hanning(31) / np.hanning(31).sum()
    angle = np.convolve(np.pad(angle, 15, mode="edge"), kernel, mode="valid")
    y = np.cumsum(np.sin(angle)) * _STEP_MM
    z = -np.cumsum(np.cos(angle)) * _STEP_MM
    y += centre[1] - np.interp(disc_s[-3], s, y)
    z += centre[2] - np.interp(disc_s[-3], s, z)
    return np.stack([s, y, z, np.sin(angle), np.cos(angle)], axis=1)
