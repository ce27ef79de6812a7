"""The canal: sac, rootlets, cord, and the fat that is left around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cauda.core.domain import Level
from cauda.models.phantom.frame import SLOPE, Frame
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.tissue import Tissue, drawn

_RIM_MM = 0.5  # dura and the fat no picture shows
_ENDS_S = 75.0
_CLEAR_MM = 0.3  # that a rootlet keeps from a fragment
_PACKED = 0.85  # share of the sac that rootlets take when no CSF is left to see
_LOOSE = 0.45  # below this share they lie where they settle
_SAMPLES = 9  # across the sac, by which its area is taken

_Blob = tuple[float, Tensor, Tensor]  # u, v and radius at each point's s


def paint_canal(spine: Spine, f: Frame, out: Tensor) -> Tensor:
    """The label map (N,) with the canal's content drawn over it."""
    inside = (f.u.abs() < f.side) & (f.v > f.front) & (f.v < f.back) & (f.s < _ENDS_S)
    out = drawn(out, inside, Tissue.EPIDURAL_FAT)
    where = inside.nonzero()[:, 0]
    if not len(where):
        return out
    found = _content(spine, _few(f, where), out[where])
    return out.index_put((where,), found)


@dataclass(frozen=True, slots=True, eq=False)
class _Few:
    """What the content of the canal depends on."""

    u: Tensor
    v: Tensor  # from the sac's middle
    s: Tensor
    width: Tensor
    depth: Tensor
    front: Tensor
    back: Tensor
    side: Tensor
    lipo: Tensor


def _few(f: Frame, where: Tensor) -> _Few:
    middle = f.sac_v[where]
    return _Few(
        u=f.u[where], v=f.v[where] - middle, s=f.s[where], width=f.width[where], depth=f.depth[where],
        front=f.front[where] - middle, back=f.back[where] - middle, side=f.side[where], lipo=f.lipo[where],
    )  # fmt: skip


def _content(spine: Spine, f: _Few, out: Tensor) -> Tensor:
    width, depth = (f.width - f.lipo).clamp_min(1), (f.depth - f.lipo).clamp_min(1)
    sac = ((f.u / width) ** 2 + (f.v / depth) ** 2 < 1) & (f.v > f.front + _RIM_MM)
    sac &= (f.v < f.back - _RIM_MM) & (f.u.abs() < f.side - _RIM_MM)
    blobs = _fragments(spine, f)
    out = drawn(out, sac, Tissue.CSF)
    apex = f.back + SLOPE * f.u.abs() - _RIM_MM
    narrow = torch.minimum(width, f.side - _RIM_MM).clamp_min(1)
    front = torch.maximum(f.front + _RIM_MM, -depth)
    out = drawn(out, sac & _rootlets(spine, f, (narrow, depth, front, apex), blobs), Tissue.ROOT)
    middle = (front + torch.minimum(apex, depth)) / 2
    taper = ((spine.conus_s - f.s) / 25).clamp(0, 1) ** 0.6
    cord = (f.u / (4.8 * taper + 1e-3)) ** 2 + ((f.v - middle) / (3.7 * taper + 1e-3)) ** 2 < 1
    out = drawn(out, cord & sac & (f.s < spine.conus_s), Tissue.CORD)
    for x, y, radius in blobs:
        out = drawn(out, (f.u - x) ** 2 + (f.v - y) ** 2 < radius**2, Tissue.FRAGMENT)
    return out


def _rootlets(spine: Spine, f: _Few, room: tuple[Tensor, Tensor, Tensor, Tensor], blobs: list[_Blob]) -> Tensor:
    """Whether a point lies in a rootlet (n,); ``room``: half width, half depth, front and apex of what is left."""
    narrow, depth, front, apex = room
    across, along, radius, ends, wave = torch.tensor(
        [(one.across, one.along, one.radius, one.ends, one.wave) for one in spine.strands],
        dtype=torch.float32, device=f.u.device,
    ).T[:, :, None]  # each (strands, 1)  # fmt: skip
    drift = 0.06 * torch.sin(f.s / 23.0 + wave)
    here = f.s < ends
    crowd = _crowding(torch.where(here, radius**2, 0.0).sum(dim=0) * torch.pi, room)
    even = _even(len(spine.strands), f.u.device)
    pressed = ((crowd - _LOOSE) / (1 - _LOOSE)).clamp(0, 1)  # they spread over what room there is
    across, along = torch.lerp(across, even[0], pressed), torch.lerp(along, even[1], pressed)
    radius = radius * torch.sqrt((-torch.log1p(-crowd) / crowd.clamp_min(1e-3)).clamp_min(1))
    x = (across + drift) * narrow * 0.88
    round_ = depth * torch.sqrt((1 - (x / narrow) ** 2).clamp(0.05, 1))
    top, bottom = torch.maximum(front, -round_), torch.minimum(apex - SLOPE * x.abs(), round_)
    y = (top + bottom) / 2 + (along - drift) * ((bottom - top) / 2 - 0.4).clamp_min(0)
    for blob in blobs:
        x, y = _aside(blob, x, y, radius)
    hit = ((f.u - x) ** 2 + (f.v - y) ** 2 < radius**2) & here
    return torch.any(hit, dim=0) & torch.gt(f.s, spine.conus_s - 45)


def _crowding(nerves: Tensor, room: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """How full of rootlets (n,) the sac is, 0 to nearly 1, by their area in mm2 and the room's.

    Nerves do not vanish where the sac is narrow: CSF is what is pressed out (Schonstrom and Hansson 1988).
    """
    narrow, depth, front, apex = room
    x = torch.linspace(-0.9, 0.9, _SAMPLES, device=narrow.device)[:, None] * narrow
    round_ = depth * torch.sqrt((1 - (x / narrow) ** 2).clamp(0, 1))
    high = (torch.minimum(apex - SLOPE * x.abs(), round_) - torch.maximum(front, -round_)).clamp_min(0)
    area = 2 * narrow * high.mean(dim=0)
    return (nerves / (_PACKED * area.clamp_min(1))).clamp(0, 0.97)


def _even(count: int, device: torch.device) -> Tensor:
    """(2, count, 1) places spread evenly over the unit disc (Vogel 1979)."""
    number = torch.arange(count, device=device, dtype=torch.float32)[:, None]
    out, angle = torch.sqrt((number + 0.5) / count), number * 2.399963
    return torch.stack([out * torch.cos(angle), out * torch.sin(angle)])


def _fragments(spine: Spine, f: _Few) -> list[_Blob]:
    """Extruded disc: a ball drawn out along the canal, against its front wall."""
    found = []
    for level, narrowing in zip(Level, spine.narrowings, strict=True):
        if not narrowing.extrusion:
            continue
        away = (f.s - spine.level_s(level) - narrowing.extrusion_down) / (1.5 * narrowing.extrusion)
        if not bool((away.abs() < 1).any()):
            continue
        radius = narrowing.extrusion * torch.sqrt((1 - away**2).clamp_min(0))
        found.append((narrowing.extrusion_side, f.front + 0.6 * narrowing.extrusion, radius))
    return found


def _aside(blob: _Blob, x: Tensor, y: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Where a rootlet goes that a fragment pushes away: it is displaced, not destroyed."""
    at, deep, ball = blob
    dx, dy = x - at, y - deep
    apart = torch.sqrt(dx**2 + dy**2) + 1e-3
    wanted = torch.where(ball > 0, ball + radius + _CLEAR_MM, 0.0)
    push = torch.where(apart < wanted, wanted / apart, 1.0)
    return at + dx * push, deep + dy * push
