"""What one level is to look like, in millimetres: anatomy by level from the literature, and the causes of narrowing.

Figures are rounded from: Panjabi et al., Spine 1992;17:299 (endplates, bony canal); Schönström & Hansson, Spine
1988;13:385 and Bolender et al., J Bone Joint Surg Am 1985;67:240 (dural sac: pressure rises below about 75 mm2, narrow
below 100 mm2); Wall et al., Spine 1990;15:1244 (order of the roots in the sac); Saifuddin et al., Spine 1998;23:1452
(conus at L1 to L2); Sairyo et al., Spine 2005;30:2649 (ligamentum flavum 3-4 mm, up to 7 when thick); van Schaik et
al., Spine 1985;10:59 (facets turn from sagittal to coronal on the way down). The midline calibre of the canal behind
the discs was measured on the SPIDER masks (33 patients, CC BY 4.0): medians 13.6, 11.7, 10.8, 12.2, 12.7 mm, L1/L2 to
L5/S1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cauda.core.domain import Level


class Usual(NamedTuple):
    """A level in the middle of the population."""

    body_width: float
    body_depth: float
    canal_width: float
    sac_width: float
    sac_depth: float
    triangular: float  # 0 an ellipse, 1 a rounded triangle with its base in front
    front_fat: float  # between disc and sac
    back_fat: float  # between sac and the apex of the arch
    hollow: float  # of the disc's back border; negative bulges
    facet_deg: float  # of the joint against the sagittal plane
    rootlets: int  # strands that can be told apart
    wear: float  # how readily this level is worn


USUAL: dict[Level, Usual] = {
    Level.L1_L2: Usual(43.0, 35.0, 23.5, 18.0, 14.0, 0.30, 1.0, 4.5, 1.6, 25.0, 34, 0.60),
    Level.L2_L3: Usual(45.5, 35.0, 23.5, 18.0, 13.2, 0.35, 1.0, 5.0, 1.4, 30.0, 30, 0.85),
    Level.L3_L4: Usual(48.0, 35.0, 24.0, 17.5, 12.6, 0.45, 1.1, 5.4, 0.9, 38.0, 25, 1.00),
    Level.L4_L5: Usual(49.5, 34.5, 25.0, 17.0, 12.4, 0.60, 1.5, 5.8, 0.0, 46.0, 19, 1.05),
    Level.L5_S1: Usual(49.5, 33.5, 27.0, 14.5, 11.4, 0.60, 3.6, 6.2, -0.8, 52.0, 13, 0.80),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """What narrows the sac, all 0 in health."""

    bulge_mm: float = 0.0  # of the whole back border of the disc
    focal_mm: float = 0.0  # a protrusion or, from 6 mm, an extrusion
    focal_x_mm: float = 0.0
    flavum_mm: float = 0.0  # beyond its usual thickness
    facet_mm: float = 0.0  # growth of the joints towards the canal
    lipoma_mm: float = 0.0  # epidural fat beyond the usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One level of one person. ``seed`` decides what is not named here; causes change nothing else."""

    level: Level
    seed: int
    causes: Causes
    usual: Usual
    conus: float  # 0 no cord here, 1 the full lumbar enlargement
    flavum_mm: float
    wasting: float  # share of fat in the back muscles
    settled: float  # how much the rootlets lie at the back
    degenerate: float  # the disc's loss of water
    skin_mm: float  # from the canal's middle to the subcutaneous fat
    spinous: bool  # the spinous process, else the ligament between two
    tilt: float  # how far the slice runs off the disc's plane, mm per mm of its thickness

    def draw(self, stream: int) -> Generator:
        """A random stream of its own for each structure, so that one does not move another."""
        return np.random.default_rng([self.seed, list(Level).index(self.level), stream])


def plans(seed: int) -> tuple[Plan, ...]:
    """The five levels of one person."""
    draw = np.random.default_rng([seed, 971])
    size = float(np.clip(draw.normal(1.0, 0.06), 0.86, 1.14))
    roomy = float(np.clip(draw.normal(1.0, 0.09), 0.80, 1.20))  # canals are born narrow or wide
    life = float(draw.uniform(0.4, 1.35))
    fat = float(draw.beta(1.6, 5.0))
    tip = float(draw.normal(0.1, 0.7))  # the conus, in levels below L1/L2
    mix = draw.dirichlet([1.1, 0.7, 1.0, 0.8, 0.4])
    skin = float(draw.uniform(34.0, 60.0))
    return tuple(
        _plan(level, seed, draw, size=size, roomy=roomy, life=life, fat=fat, tip=tip - i, mix=mix, skin=skin)
        for i, level in enumerate(Level)
    )


def _plan(level: Level, seed: int, draw: Generator, *, size: float, roomy: float, life: float, fat: float,
          tip: float, mix: NDArray[np.float64], skin: float) -> Plan:  # fmt: skip
    mean = USUAL[level]
    sac = roomy * float(np.clip(draw.normal(1.0, 0.05), 0.88, 1.12))
    usual = mean._replace(
        body_width=mean.body_width * size,
        body_depth=mean.body_depth * size,
        canal_width=mean.canal_width * (0.5 + 0.5 * sac),
        sac_width=mean.sac_width * sac,
        sac_depth=mean.sac_depth * sac * float(draw.normal(1.0, 0.05)),
        triangular=float(np.clip(mean.triangular + draw.normal(0, 0.15), 0, 1)),
        front_fat=mean.front_fat * float(draw.uniform(0.7, 1.4)),
        back_fat=mean.back_fat * float(draw.uniform(0.6, 1.3)),
        hollow=mean.hollow + float(draw.normal(0, 0.4)),
        facet_deg=mean.facet_deg + float(draw.normal(0, 6)),
        rootlets=max(8, mean.rootlets + int(draw.integers(-3, 4))),
    )
    return Plan(
        level=level,
        seed=seed,
        causes=causes(draw, mix, load=life * mean.wear),
        usual=usual,
        conus=float(np.clip(0.35 + tip, 0.0, 1.0)) if tip > 0 else 0.0,
        flavum_mm=float(draw.uniform(2.6, 3.8)),
        wasting=float(np.clip(fat * draw.uniform(0.6, 1.6) * (1 + 0.15 * list(Level).index(level)), 0.02, 0.6)),
        settled=float(draw.uniform(0.2, 1.0)),
        degenerate=float(np.clip(0.8 * life * mean.wear + draw.normal(0, 0.2), 0, 1)),
        skin_mm=skin + float(draw.normal(0, 2)),
        spinous=bool(draw.random() < 0.7),
        tilt=float(draw.normal(0, 0.2)),
    )


def causes(draw: Generator, habit: NDArray[np.float64], load: float) -> Causes:
    """A burden from 0 to 1.5 shared out among the causes, by the person's habit and by chance."""
    burden = float(np.clip(load * draw.uniform(0.1, 2.6), 0, 1.5))
    shares = 0.5 * habit + 0.5 * draw.dirichlet([1.0, 0.9, 1.0, 0.8, 0.35])
    most = shares / shares.max()  # the leading cause takes the whole burden, others follow
    scale = burden * most
    return Causes(
        bulge_mm=4.6 * float(scale[0]),
        focal_mm=7.0 * float(scale[1]) if scale[1] > 0.25 else 0.0,
        focal_x_mm=float(draw.choice([-1, 1]) * draw.uniform(1.0, 6.5)),
        flavum_mm=2.6 * float(scale[2]),
        facet_mm=2.0 * float(scale[3]),
        lipoma_mm=4.5 * float(scale[4]),
    )
