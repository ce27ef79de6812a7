"""Vertebrae, discs, arches and the roots that leave between them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cauda.models.phantom.frame import Frame
from cauda.models.phantom.noise import noise
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.tissue import Tissue, drawn

_CORTEX_MM = 0.9
_REMNANT_MM = 1.5
_WING_MM = 30.0  # length of a transverse process
_FLAVUM_MM = 10.0  # it spans this far above and below a disc


def paint_bones(spine: Spine, f: Frame, out: Tensor) -> Tensor:
    """The label map (N,) with bones, discs, ligaments and exiting roots drawn over it."""
    out = _bodies(spine, f, out)
    out = _foramina(spine, f, out)
    return _arches(spine, f, out)


def _bodies(spine: Spine, f: Frame, out: Tensor) -> Tensor:
    half_width, depth = spine.body
    sacral = f.s > float(spine.disc_s[-1]) + 2
    shrink = torch.where(sacral, (1 - (f.s - 5) / 110).clamp(0.45, 1), 1.0)
    waist = 1 - 0.09 * torch.exp(-(((f.ds.abs() - 17) / 8) ** 2))
    half_depth = depth / 2 * shrink * waist
    ahead = (f.v - f.wall + half_depth) / half_depth  # -1 front .. 1 back
    inside = (f.u.abs() / (half_width * shrink * waist)) ** 2.6 + ahead.abs() ** 2.6
    height = _of(spine.disc_height, f) / 2 * torch.where(sacral & (f.s > 18), 0.0, 1.0)
    # endplates are hollow, and discs are higher in front
    wedge = height * (1 - 0.22 * ahead) * (1.12 - 0.38 * inside.clamp(0, 1))
    in_disc = f.ds.abs() < wedge
    body = (inside < 1) & ~in_disc
    edge = f.ds.abs() - wedge  # from the endplate
    out = drawn(out, body, Tissue.MARROW)
    out = drawn(out, body & sacral, Tissue.SACRUM)
    patchy = f.uneven[:, 3]
    vein = ((f.ds.abs() - 18) / 2.6) ** 2 + ((1 - ahead) / 0.7) ** 2 + (f.u / 6) ** 2 < 1 + 0.3 * patchy
    worn = (edge < _of(spine.fatty, f) * (1 + 0.45 * patchy)) & (patchy > -0.3)
    fatty = body & ~sacral & (worn | vein)
    out = drawn(out, fatty, Tissue.FATTY_MARROW)
    out = drawn(out, body & ((inside >= 0.9) | (edge < _CORTEX_MM)), Tissue.CORTEX)
    out = drawn(out, in_disc & (inside < 1.12), Tissue.ANNULUS)
    core = in_disc & (inside < 0.56 + 0.08 * patchy) & (f.ds.abs() < wedge * 0.75)
    dry = _of(spine.degeneration, f) + 0.18 * patchy > 0.55
    cleft = (f.ds.abs() < 0.7) & (inside < 0.4)
    out = drawn(out, core, Tissue.NUCLEUS)
    out = drawn(out, core & (dry | cleft), Tissue.DRY_NUCLEUS)
    out = _remnant(spine, f, sacral & (inside < 1), ahead.abs(), out)
    # what stands behind the wall into the canal is disc too
    pushed = ((f.v - (f.front - f.wall) - f.wall + half_depth) / half_depth).clamp_min(0)
    outline = (f.u.abs() / (half_width * 1.06)) ** 2.6 + pushed**2.6
    bulging = (f.v > f.wall - 0.6 * half_depth) & (outline < 1.0) & (f.ds.abs() < height + 3) & ~(inside < 1)
    bulging &= f.v <= f.front
    out = drawn(out, bulging, Tissue.ANNULUS)
    band = (f.v > f.wall - 0.2) & (f.v < f.wall + 0.9) & (f.u.abs() < 9) & ~in_disc & (f.v <= f.front)
    return drawn(out, band, Tissue.LIGAMENT)


def _of(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], f: Frame) -> Tensor:
    """A value a disc, at the nearest disc of each point."""
    return torch.from_numpy(values.astype(np.float32)).to(f.u.device).index_select(0, f.disc)


def _remnant(spine: Spine, f: Frame, sacrum: Tensor, from_middle: Tensor, out: Tensor) -> Tensor:
    share, at = spine.remnant
    away = (f.s - at).abs()
    disc = sacrum & (away < _REMNANT_MM + 2.5 * share) & (from_middle < share)
    out = drawn(out, disc, Tissue.ANNULUS)
    core = disc & (away < 2.5 * share - 0.8) & (from_middle < 0.7 * share)
    return drawn(out, core, Tissue.NUCLEUS)


def _foramina(spine: Spine, f: Frame, out: Tensor) -> Tensor:
    """Fat in the foramina, and in it the root of the vertebra above, with its ganglion and a vein."""
    across = f.u.abs()
    door = (
        (across > f.side - 1) & (across < f.side + 13) & (f.v > f.wall - 3) & (f.arch_v < 4) & (f.ds > -15) & (f.ds < 5)
    )
    free = out != int(Tissue.ANNULUS)
    out = drawn(out, door & free & (f.v > f.wall), Tissue.FAT)
    down = (across - f.side).clamp(0, 26) / 26  # the root runs down and forward as it leaves
    root_s, root_v = -13.0 + 13.0 * down, f.wall + 4.5 - 5.0 * down
    radius = 1.5 + 1.5 * torch.exp(-(((down - 0.3) / 0.18) ** 2))
    root = ((f.ds - root_s) ** 2 + (f.v - root_v) ** 2 < radius**2) & (across > f.side - 2) & (down < 1)
    root &= f.s < float(spine.disc_s[-1]) + 4
    vein = ((f.ds - root_s - 4.5) ** 2 + (f.v - root_v - 1.0) ** 2 < 1.1) & door
    out = drawn(out, vein & free, Tissue.VESSEL)
    return drawn(out, root & free, Tissue.NERVE)


def _arches(spine: Spine, f: Frame, out: Tensor) -> Tensor:
    """Pedicles at the upper half of each body, laminae between them, facet joints beside the discs, processes."""
    across, v = f.u.abs(), f.arch_v
    back = f.back + (f.arch_v - f.v)
    behind = (v >= back) | (across >= f.side)
    upper = (f.ds > 5) & (f.ds < 19)
    pedicle = (across >= f.side) & (across < f.side + 8) & (f.v > f.wall - 3) & (v < 5) & upper
    thick = _of(spine.lamina, f) * (1 - 0.25 * torch.exp(-((across / 4) ** 2)))
    ligament = torch.where(f.ds.abs() <= _FLAVUM_MM, f.flavum, 0.0)
    deep = v - back - ligament - 0.2
    over = (f.ds > 9) | (f.ds < 0)  # the disc is covered by the lamina of the vertebra above
    lamina = behind & (deep >= 0) & (deep < thick) & (across < f.side + 6) & over
    lean = f.ds - 0.3 * (v - back - 6)  # processes point down
    long = ((lean + 10.5) / 10.0).abs() ** 3 + ((v - back - 17) / 16.5).abs() ** 3
    process = (across < 3.4 + 0.8 * f.uneven[:, 1]) & (long < 1 + 0.15 * f.uneven[:, 2]) & (deep >= 0)
    process &= f.s < 40
    wing = _wings(f, across)
    bone = (pedicle | lamina | process | (wing < 1)) & ~((out == Tissue.NERVE) & ~pedicle)
    out = drawn(out, bone, Tissue.ARCH)
    rim = lamina & ((deep < _CORTEX_MM) | (thick - deep < _CORTEX_MM))
    rim |= process & ((long > 0.8) | (across > 2.7)) & ~lamina
    rim |= pedicle & ((across < f.side + _CORTEX_MM) | (across > f.side + 8 - _CORTEX_MM)) & ~lamina
    rim |= (wing < 1) & (wing > 0.55) & ~lamina & ~pedicle
    out = drawn(out, rim, Tissue.CORTEX)
    between = (across < 2.2) & (v > back + 5) & (v < f.depth + 28) & ~process & (f.s < 12)
    grain = noise(spine.seed + 7, f.points, 6.0)
    out = drawn(out, between & ~lamina, Tissue.FAT)
    out = drawn(out, between & ~lamina & (grain[:, 0].abs() < 0.35), Tissue.LIGAMENT)
    out = _facets(spine, f, out, behind, grain[:, 1])
    flavum = behind & (v >= back) & (v < back + f.flavum) & (across < f.side + 3) & (f.ds.abs() <= _FLAVUM_MM)
    flavum &= (across > 0.35) | (f.flavum > 4)  # a cleft in the middle, where the two do not meet
    return drawn(out, flavum, Tissue.FLAVUM)


def _wings(f: Frame, across: Tensor) -> Tensor:
    """Below 1 in a transverse process: flat, from the pedicle sideways and a little back, thinner at its end."""
    out = (across - f.side - 6) / _WING_MM
    shape = ((f.arch_v - 1.5 - 5 * out) / 3.4) ** 2 + ((f.ds - 12 + 2 * out + 0.5 * f.uneven[:, 1]) / 5.5) ** 2
    there = (out > 0) & (out < 1) & (f.s < 0)  # the sacrum has its ala instead
    return torch.where(there, shape + 0.6 * out.clamp(0, 1) ** 4, 9.0)


def _facets(spine: Spine, f: Frame, out: Tensor, behind: Tensor, grain: Tensor) -> Tensor:
    """Two bones that meet in a curved joint: the upper process of the vertebra below lies in front."""
    table = torch.tensor(
        [(j.angle, j.size, j.gap, float(j.fluid)) for pair in spine.joints for j in pair],
        dtype=torch.float32, device=f.u.device,
    )  # fmt: skip
    angle, size, gap, fluid = table.index_select(0, 2 * f.disc + (f.u > 0)).unbind(1)
    x, y = f.u.abs() - f.side - 6.5, f.arch_v - 4
    along = x * torch.sin(angle) + y * torch.cos(angle)
    apart = x * torch.cos(angle) - y * torch.sin(angle) + 0.02 * along**2
    reach = (apart / (6.6 * size)) ** 2 + (along / (7.4 * size)) ** 2 + 0.07 * grain
    whole = (reach < 1) & (f.ds.abs() < 12 + 2 * grain) & behind
    joint = whole & (apart.abs() < gap / 2) & (along.abs() < 6 * size)
    out = drawn(out, whole, Tissue.ARCH)
    lining = whole & ((reach > 0.78) | (apart.abs() < gap / 2 + _CORTEX_MM))
    out = drawn(out, lining, Tissue.CORTEX)
    wet = joint & (fluid > 0) & (apart.abs() < gap / 2 - 0.2)
    out = drawn(out, joint, Tissue.LIGAMENT)
    return drawn(out, wet, Tissue.FLUID)
