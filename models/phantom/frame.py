"""Points in the spine's own coordinates, with what the anatomy is like at their place along the canal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cauda.core.domain import F64
from cauda.models.phantom.noise import noise
from cauda.models.phantom.spine import LEVELS, Narrowing, Spine

SLOPE = 0.6  # of the canal's back walls
_ROUGH_MM = 0.42  # how far outlines wander
_ROUGH_SCALE_MM = 9.0
_UNEVEN_SCALE_MM = 13.0
_UPPER = Narrowing(flavum=2.2)  # discs above L1/L2


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """N points, each attribute (N,); lengths in millimetres."""

    points: Tensor  # (N, 3) in the patient
    u: Tensor  # to the left of the canal's middle
    v: Tensor  # behind the undisturbed canal's middle
    s: Tensor  # along the canal, to the feet
    disc: Tensor  # index of the nearest disc
    ds: Tensor  # below that disc's middle
    near: Tensor  # 1 at the disc, 0 away from it
    long: Tensor  # the same, reaching farther
    width: Tensor  # of the undisturbed sac, half
    depth: Tensor
    sac_v: Tensor  # where its middle is
    wall: Tensor  # v of the vertebrae's back
    front: Tensor  # v of the canal's front wall, disc or bone
    back: Tensor  # v of its back wall
    side: Tensor  # |u| of its side wall
    arch_v: Tensor  # v counted from where the arch would be had nothing slipped
    flavum: Tensor
    lipo: Tensor  # taken from the sac's radius by fat
    uneven: Tensor  # (N, 4) noise: what varies from place to place


def frame(spine: Spine, points: Tensor) -> Frame:
    """The frame of patient points (N, 3), float32."""
    table = _along(spine, points.device)
    points = _columns(points)
    u, v, s = _coordinates(table, points)
    rough = noise(spine.seed + 5, points, _ROUGH_SCALE_MM) * _ROUGH_MM
    u, v, s = u + rough[:, 0], v + rough[:, 1], s + 0.6 * rough[:, 2]
    width, depth, gap, body, arch = _at(table[:, [0, 6, 7, 8, 9, 10]], s)[:, 1:].unbind(1)
    discs = torch.from_numpy(spine.disc_s.astype(np.float32)).to(points.device)
    disc = torch.bucketize(s, (discs[1:] + discs[:-1]) / 2)
    ds = s - discs.index_select(0, disc)
    near, long = torch.exp(-((ds / 7.5) ** 2)), torch.exp(-((ds / 14.0) ** 2))
    causes = _causes(spine, points.device).index_select(0, disc)
    bulge, protrusion, where, flavum, facet, fat = causes.unbind(1)
    focal = torch.exp(-(((u - where) / 4.5) ** 2))
    wall = -(depth + gap) - body
    front = wall + near * (bulge * (1 - 0.2 * torch.clamp((u / 10) ** 2, max=2)) + protrusion * focal)
    thick = 1.2 + (flavum - 1.2) * long
    apex = depth + 4.0 + 1.2 * long - arch  # the fat behind the sac lies at the discs
    back = apex - SLOPE * u.abs() - (thick - 2.0)
    return Frame(
        points=points, u=u, v=v, s=s, disc=disc, ds=ds, near=near, long=long, width=width, depth=depth,
        sac_v=-(body + arch) / 2, wall=wall, front=front, back=back, side=width + 2.5 - facet * long,
        arch_v=v + arch, flavum=thick, lipo=fat * long, uneven=_columns(noise(spine.seed, points, _UNEVEN_SCALE_MM)),
    )  # fmt: skip


def _causes(spine: Spine, device: torch.device) -> Tensor:
    """(D, 6): bulge, protrusion and its side, flavum, facet, fat."""
    upper = len(spine.disc_s) - LEVELS
    rows = [
        (n.bulge, n.protrusion, n.protrusion_side, n.flavum, n.facet, n.fat)
        for n in (*(_UPPER,) * upper, *spine.narrowings)
    ]
    return torch.tensor(rows, dtype=torch.float32, device=device)


def _along(spine: Spine, device: torch.device) -> Tensor:
    """One row a millimetre of s: s, y, z, sin, cos, lean, half width, half depth, gap, slip of body, of arch."""
    s = spine.curve[:, 0]
    taper = np.clip(1 - (s - 25) / 55, 0.15, 1)  # the sac ends in the sacrum
    columns: list[F64] = [
        *spine.curve.T,
        spine.centre[0] + spine.bend(s),
        np.interp(s, spine.disc_s, spine.sac[:, 0]) * taper,
        np.interp(s, spine.disc_s, spine.sac[:, 1]) * taper,
        np.interp(s, spine.disc_s, spine.front_gap),
        *spine.slip(s),
    ]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32)).to(device)


def _columns(rows: Tensor) -> Tensor:
    """The same (N, k), each column in one piece: single ones are used often."""
    return rows.T.contiguous().T


def _at(table: Tensor, s: Tensor) -> Tensor:
    """Rows of the table, interpolated."""
    at = (s - table[0, 0]).clamp(0, len(table) - 1.001)
    low = at.int()
    return torch.lerp(table.index_select(0, low), table.index_select(0, low + 1), (at - low)[:, None])


def _coordinates(table: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(u, v, s): the foot of the perpendicular on the curve, found by walking along it."""
    x, y, z = points.unbind(1)
    line = table[:, :5].contiguous()
    first, last = float(table[0, 0]), len(table) - 1
    s = first + torch.searchsorted(-table[:, 2].contiguous(), (-z).contiguous()).float()
    for _ in range(4):  # to the nearest millimetre; the rest is straight
        near, cy, cz, sin, cos = line.index_select(0, (s - first).round().clamp(0, last).int()).unbind(1)
        s = near + ((y - cy) * sin - (z - cz) * cos).clamp(-25, 25)
    _, cy, cz, sin, cos, lean = _at(table[:, :6].contiguous(), s).unbind(1)
    return x - lean, (y - cy) * cos + (z - cz) * sin, s
