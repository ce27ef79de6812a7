"""Which tissue lies at a point of a spine: the label map, evaluated anywhere.

The sac, its rootlets and the fat around it are what is left between disc, flavum, facets and lamina; no grade is
known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F64
from cauda.models.phantom.spine import Spine

Labels = NDArray[np.uint8]
_TILE = 64  # side of the periodic noise volumes


class Tissue(IntEnum):
    """What a pixel can be."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    MARROW = 3
    CORTEX = 4
    NUCLEUS = 5
    ANNULUS = 6
    ARCH = 7  # pedicles, laminae, processes, facets
    FLAVUM = 8
    EPIDURAL_FAT = 9
    CSF = 10
    ROOT = 11
    CORD = 12
    VESSEL = 13
    LIGAMENT = 14
    BOWEL = 15
    SACRUM = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Here:
    """Curve coordinates of some points, and the anatomy's parameters at their place along the canal."""

    u: F64
    v: F64
    s: F64
    width: F64  # of the undisturbed sac, half
    depth: F64
    gap: F64
    disc: NDArray[np.intp]  # the nearest disc
    ds: F64  # from its centre
    front: F64  # v of the canal's front wall
    back: F64  # v of its back wall
    side: F64  # |u| of its side wall
    flavum: F64  # thickness of the flavum here
    lipo: F64


def labels(spine: Spine, points: F64) -> Labels:
    """Tissue (...,) at patient points (..., 3) in millimetres, LPS."""
    shape = points.shape[:-1]
    flat = points.reshape(-1, 3)
    here = _here(spine, flat)
    out = np.full(len(flat), Tissue.FAT, np.uint8)
    _surroundings(spine, here, flat, out)
    _vertebrae(spine, here, out)
    _canal(spine, here, out)
    return out.reshape(shape)


def noise(seed: int, points: F64, scale_mm: float) -> F64:
    """Smooth periodic noise of unit variance at points (..., 3): structures of about ``scale_mm``."""
    at = np.moveaxis(points / scale_mm * 4, -1, 0)
    found: F64 = ndimage.map_coordinates(_tile(seed), at, order=1, mode="grid-wrap")
    return found


_TILES: dict[int, Any] = {}


def _tile(seed: int) -> F64:
    key = seed % 8
    if key not in _TILES:  # eight fixed textures; a cache of a pure function
        cells = np.random.default_rng(1000 + key).normal(size=(_TILE, _TILE, _TILE))
        spectrum = np.fft.rfftn(cells)
        f = np.meshgrid(*(np.fft.fftfreq(_TILE),) * 2, np.fft.rfftfreq(_TILE), indexing="ij")
        cells = np.fft.irfftn(spectrum * np.exp(-sum(a**2 for a in f) * 180.0), s=(_TILE,) * 3, axes=(0, 1, 2))
        _TILES[key] = cells / cells.std()
    tile: F64 = _TILES[key]
    return tile


def _here(spine: Spine, points: F64) -> _Here:
    u, v, s = spine.coordinates(points)
    at = spine.disc_s
    width, depth = np.interp(s, at, spine.sac[:, 0]), np.interp(s, at, spine.sac[:, 1])
    taper = np.clip(1 - (s - 25) / 55, 0.15, 1)  # the sac ends in the sacrum
    width, depth = width * taper, depth * taper
    gap = np.interp(s, at, spine.front_gap)
    disc = np.abs(s[:, None] - at[None]).argmin(axis=1)
    ds = s - at[disc]
    near = np.exp(-((ds / 7.5) ** 2))
    long = np.exp(-((ds / 14.0) ** 2))
    table = np.zeros((7, 6))
    table[:2, 3] = 2.2
    for i, n in enumerate(spine.narrowings):
        table[i + 2] = (n.bulge, n.protrusion, n.protrusion_side, n.flavum, n.facet, n.fat)
    bulge, protrusion, where, flavum, facet, fat = table[disc].T
    focal = np.exp(-(((u - where) / 4.5) ** 2))
    front = -(depth + gap) + near * (bulge * (1 - 0.2 * np.minimum((u / 10) ** 2, 2)) + protrusion * focal)
    thick = 1.2 + (flavum - 1.2) * long
    apex = depth + 3.0 + 1.2 * long  # the fat behind the sac lies at the discs
    back = apex - 0.55 * np.abs(u) - (thick - 2.0)
    side = width + 2.5 - facet * long
    return _Here(u, v, s, width, depth, gap, disc, ds, front, back, side, thick, fat * long)


def _canal(spine: Spine, here: _Here, out: Labels) -> None:
    inside = (np.abs(here.u) < here.side) & (here.v > here.front) & (here.v < here.back) & (here.s < 75)
    out[inside] = Tissue.EPIDURAL_FAT
    where = np.flatnonzero(inside)
    u, v, s = here.u[where], here.v[where], here.s[where]
    width, depth = here.width[where] - here.lipo[where], here.depth[where] - here.lipo[where]
    rim = 0.5  # dura and the fat no picture shows
    sac = ((u / np.maximum(width, 1)) ** 2 + (v / np.maximum(depth, 1)) ** 2 < 1) & (v > here.front[where] + rim)
    sac &= (v < here.back[where] - rim) & (np.abs(u) < here.side[where] - rim)
    where, u, v, s, width = where[sac], u[sac], v[sac], s[sac], width[sac]
    out[where] = Tissue.CSF
    if not len(where):
        return
    depth, lipo = here.depth[where], here.lipo[where]
    width = np.minimum(width, here.side[where] - rim)
    apex = here.back[where] + 0.55 * np.abs(u) - rim
    front = np.maximum(here.front[where] + rim, lipo - depth)
    for strand in spine.strands:
        drift = 0.06 * np.sin(s / 23.0 + strand.wave)
        x = (strand.across + drift) * width * 0.88
        round_ = (depth - lipo) * np.sqrt(np.clip(1 - (x / np.maximum(width, 1)) ** 2, 0.05, 1))
        top, bottom = np.maximum(front, -round_), np.minimum(apex - 0.55 * np.abs(x), round_)
        y = (top + bottom) / 2 + (strand.along - drift) * np.maximum((bottom - top) / 2 - 0.4, 0)
        hit = ((u - x) ** 2 + (v - y) ** 2 < strand.radius**2) & (s < strand.ends) & (s > spine.conus_s - 45)
        out[where[hit]] = Tissue.ROOT
    middle = (front + np.minimum(apex, depth)) / 2
    taper = np.clip((spine.conus_s - s) / 25, 0, 1) ** 0.6
    cord = (u / (4.8 * taper + 1e-3)) ** 2 + ((v - middle) / (3.7 * taper + 1e-3)) ** 2 < 1
    out[where[cord & (s < spine.conus_s)]] = Tissue.CORD


def _vertebrae(spine: Spine, here: _Here, out: Labels) -> None:
    u, v, ds = here.u, here.v, here.ds
    half_width, depth = spine.body
    wall = -(here.depth + here.gap)  # the undisturbed front wall of the canal
    sacral = here.s > spine.disc_s[6] + 2
    shrink = np.where(sacral, np.clip(1 - (here.s - 5) / 110, 0.45, 1), 1.0)
    waist = 1 - 0.09 * np.exp(-(((np.abs(ds) - 17) / 8) ** 2))
    half_depth = depth / 2 * shrink * waist
    inside = (np.abs(u) / (half_width * shrink * waist)) ** 2.6 + np.abs((v - wall + half_depth) / half_depth) ** 2.6
    height = spine.disc_height[here.disc] / 2 * np.where(sacral & (here.s > 18), 0, 1)
    wedge = height * (1 - 0.25 * (v - wall + half_depth) / half_depth)  # discs are higher in front
    in_disc = np.abs(ds) < wedge
    body = (inside < 1) & ~in_disc
    out[body] = np.where(sacral[body], Tissue.SACRUM, Tissue.MARROW)
    out[(inside >= 0.9) & body] = Tissue.CORTEX
    out[body & (np.abs(ds) < wedge + 0.9)] = Tissue.CORTEX
    annulus = in_disc & (inside < 1.12)
    out[annulus] = Tissue.ANNULUS
    out[in_disc & (inside < 0.5) & (np.abs(ds) < wedge * 0.75)] = Tissue.NUCLEUS
    share, at = spine.remnant
    from_middle = np.abs(v - wall + half_depth) / half_depth
    remnant = sacral & (inside < 1) & (np.abs(here.s - at) < 1.5 + 2.5 * share) & (from_middle < share)
    out[remnant] = Tissue.ANNULUS
    out[remnant & (np.abs(here.s - at) < 2.5 * share - 0.8) & (from_middle < 0.7 * share)] = Tissue.NUCLEUS
    # what stands behind the wall into the canal is disc too
    bulging = (v > wall) & (v <= here.front) & (np.abs(u) < here.side + 2) & (np.abs(ds) < height + 3)
    out[bulging] = Tissue.ANNULUS
    out[(v > wall - 0.2) & (v < wall + 0.9) & (np.abs(u) < 9) & ~in_disc & (v <= here.front)] = Tissue.LIGAMENT
    # behind the canal: pedicles at the upper half of each body, laminae between them, facets beside the discs
    behind = (v >= here.back) | (np.abs(u) >= here.side)
    upper = (ds > 5) & (ds < 19)
    pedicle = (np.abs(u) >= here.side) & (np.abs(u) < here.side + 8) & (v > wall - 3) & (v < 5) & upper
    lamina_at = here.back + 0.2
    lamina = behind & (v >= lamina_at) & (v < lamina_at + 6) & (np.abs(u) < here.side + 6) & ((ds > 8) | (ds < -9))
    facet = ((np.abs(u) - here.side - 6.5) / 7.5) ** 2 + ((v - 4) / 7.0) ** 2 < 1
    facet &= (np.abs(ds) < 13) & behind
    flavum = behind & (v >= here.back) & (v < here.back + here.flavum) & (np.abs(u) < here.side + 3)
    flavum &= np.abs(ds) <= 10
    process = (np.abs(u) < 3.2) & (v > here.back + 2) & (v < here.depth + 36) & ((ds < -6) | (ds > 14)) & (here.s < 40)
    for mask in (pedicle, lamina, process, facet):
        out[mask] = Tissue.ARCH
    joint = facet & (np.abs(((np.abs(u) - here.side - 6.5) - 0.4 * (v - 4)) / 7.5) < 0.1)
    out[joint] = Tissue.CORTEX
    out[flavum] = Tissue.FLAVUM


def _surroundings(spine: Spine, here: _Here, points: F64, out: Labels) -> None:
    u, v = here.u, here.v
    across = np.abs(u)
    coarse = noise(spine.seed, points, 14.0)
    fine = noise(spine.seed + 3, points, 5.0)
    # muscles of the back, with fat between their bundles and more of it low down
    fatty = 1.25 - np.clip((here.s + 60) / 200, 0, 0.7)
    back = (v > 3 + 2.5 * coarse) & (v < 48 - 0.006 * (across - 25) ** 2) & (across < 62)
    out[back] = np.where(coarse[back] + 0.5 * fine[back] < fatty[back], Tissue.MUSCLE, Tissue.FAT)
    wall = -(here.depth + here.gap)
    psoas = ((across - 39) / 15) ** 2 + ((v - wall + 18) / 21) ** 2 < np.clip((here.s + 190) / 110, 0, 1.1)
    out[psoas] = np.where(coarse[psoas] + fine[psoas] < 2.2, Tissue.MUSCLE, Tissue.FAT)
    belly = v < wall - spine.body[1] - 6
    out[belly & (coarse > -0.3)] = Tissue.BOWEL
    for side, radius in ((1.0, 8.5), (-1.0, 10.5)):  # aorta on the left, vena cava on the right
        lies = np.where(here.s < -20, 11.0, 11.0 + 0.5 * (here.s + 20))
        vessel = (u - side * lies) ** 2 + (v - wall + spine.body[1] + radius + 3) ** 2 < radius**2
        out[vessel & (here.s < 60)] = Tissue.VESSEL
    out[v > 66 + 8 * np.cos(u / 90) - 4] = Tissue.AIR
    out[(across > 165) | (v < wall - 150)] = Tissue.AIR
