"""What lies around the spine: muscles with their fat, psoas, vessels, kidneys, bowel, ilium, subcutaneous fat, skin."""

from __future__ import annotations

import torch
from torch import Tensor

from cauda.models.phantom.frame import Frame
from cauda.models.phantom.noise import noise
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.tissue import Tissue, drawn

_SKIN_MM = 2.0
_KIDNEY_MM = (24.0, 21.0, 54.0)  # half axes: across, deep, along
_BESIDE_MM = 37.0  # kidneys lie farther to the side


def paint_surroundings(spine: Spine, f: Frame, out: Tensor) -> Tensor:
    """The label map (N,) with all but the spine drawn over it."""
    across = f.u.abs()
    coarse = f.uneven
    # bundles of muscle run along the body, so does the fat between them
    bundles = noise(spine.seed + 3, f.points, (4.5, 4.5, 28.0))
    marbling = noise(spine.seed + 4, f.points, (2.0, 2.0, 14.0))
    belly_edge = f.wall - spine.body[1]
    out = _belly(spine, f, belly_edge, coarse, out)
    out = _muscles(spine, f, across, (coarse[:, 0], bundles, marbling), out)
    out = _ilium(f, across, out)
    back_skin = 50 + spine.skin - 8 * (1 - torch.cos(f.u / 90)) + 2 * coarse[:, 3]
    reach = 125 + spine.skin
    flank = reach - 25 * ((f.v + 60).clamp(-80, 110) / 110) ** 2
    front_skin = belly_edge - 95 - spine.skin
    depth = torch.minimum(torch.minimum(back_skin - f.v, flank - across), f.v - front_skin)
    out = drawn(out, depth < _SKIN_MM, Tissue.SKIN)
    return drawn(out, depth < 0, Tissue.AIR)


def _belly(spine: Spine, f: Frame, edge: Tensor, coarse: Tensor, out: Tensor) -> Tensor:
    """Bowel, kidneys and great vessels; only points that one of them can reach are looked at."""
    reach = (f.v < f.wall + 1) & ((f.u.abs() > _BESIDE_MM) | (f.v < edge - 3))
    where = reach.nonzero()[:, 0]
    if not len(where):
        return out
    u, v, s, wall, edge, coarse, found = (x.index_select(0, where) for x in (f.u, f.v, f.s, f.wall, edge, coarse, out))
    belly = (v < edge - 6) & (u.abs() < 110) & (v > edge - 95)
    found = drawn(found, belly & (coarse[:, 0] > -0.3), Tissue.BOWEL)
    found = drawn(found, belly & (coarse[:, 1] > 1.5) & (v < edge - 25), Tissue.GAS)
    top = float(spine.disc_s[1])
    for side, along in ((1.0, top + 40), (-1.0, top + 52)):  # the right one lies lower
        a, b, c = _KIDNEY_MM
        far = ((u - side * 62) / a) ** 2 + ((v - wall + 20) / b) ** 2 + ((s - along) / c) ** 2
        found = drawn(found, far < 1, Tissue.KIDNEY)
        sinus = ((u - side * 55) / 9) ** 2 + ((v - wall + 22) / 8) ** 2 + ((s - along) / 26) ** 2
        found = drawn(found, sinus < 1 + 0.4 * coarse[:, 2], Tissue.FAT)
    for side, radius in ((1.0, 8.5), (-1.0, 10.5)):  # aorta on the left, vena cava on the right
        apart = torch.where(s < -20, 11.0, 11.0 + 0.5 * (s + 20))
        vessel = (u - side * apart) ** 2 + (v - edge + radius + 3) ** 2 < radius**2
        found = drawn(found, vessel & (s < 60), Tissue.VESSEL)
    return out.index_put((where,), found)


def _muscles(spine: Spine, f: Frame, across: Tensor, grains: tuple[Tensor, Tensor, Tensor], out: Tensor) -> Tensor:
    """Multifidus and erector spinae with a septum between, quadratus, psoas; fatter low down and near the bone."""
    coarse, bundles, marbling = grains
    low = ((f.s + 60) / 200).clamp(0, 0.7)
    fatty = 1.9 - 1.3 * spine.muscle_fat - low - 0.4 * torch.exp(-(((across - 10) / 9) ** 2))
    edge = 46 - 0.02 * (across - 25).clamp_min(0) ** 2 - 0.006 * (25 - across).clamp_min(0) ** 2
    back = (f.v > 3 + 2.5 * coarse) & (f.v < edge) & (across < 64)
    lean = 0.4 * coarse + 0.55 * bundles[:, 0] + 0.6 * marbling[:, 0] < fatty
    septum = (across - 27 - 0.25 * (f.v - 15) - 2 * coarse).abs() < 0.35 + 0.4 * bundles[:, 2]
    out = drawn(drawn(out, back, Tissue.FAT), back & lean & ~septum, Tissue.MUSCLE)
    fascia = (f.v - edge).abs() < 0.8
    out = drawn(out, fascia & (across < 64), Tissue.LIGAMENT)
    quadratus = ((across - 66) / 13) ** 2 + ((f.v - f.wall - 6) / 9) ** 2 < 1 + 0.15 * bundles[:, 1]
    psoas = ((across - 39) / 15) ** 2 + ((f.v - f.wall + 18) / 21) ** 2 < ((f.s + 190) / 110).clamp(0, 1.1)
    streaks = 0.3 * coarse + 0.5 * bundles[:, 3] + 0.5 * marbling[:, 1] < 1.9 - 0.4 * spine.muscle_fat
    deep = psoas | (quadratus & (f.s < -20))
    return drawn(drawn(out, deep, Tissue.FAT), deep & streaks, Tissue.MUSCLE)


def _ilium(f: Frame, across: Tensor, out: Tensor) -> Tensor:
    """The iliac wings, from L5 down."""
    apart = (across - 72) * 0.8 - (f.v + 5) * 0.6
    wing = (
        (apart.abs() < 6)
        & (f.s > -28 + 0.3 * (across - 60))
        & (across > 38)
        & (across < 118)
        & (f.v < 45)
        & (f.v > -80)
    )
    out = drawn(out, wing, Tissue.CORTEX)
    return drawn(out, wing & (apart.abs() < 4.6), Tissue.ILIUM)
