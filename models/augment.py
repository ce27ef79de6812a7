"""How training crops are varied, so that a grader looks at the canal and not at what its drawing came with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_FIELD_MM = 64.0  # of a crop
_CANAL_MM = (15.0, 22.0)  # from the middle of a crop: the sac and what touches it lie within


def elsewhere(x: Tensor, draw: np.random.Generator) -> Tensor:
    """The canals of crops (N, P, P), each in the surroundings of the crop before it, which must not tell the grade."""
    size = x.shape[-1]
    side = (torch.arange(size) - (size - 1) / 2) * (_FIELD_MM / size)
    away = torch.hypot(side[:, None], side[None, :])
    inside = torch.sigmoid(float(draw.uniform(*_CANAL_MM)) - away)  # an edge of some millimetres
    return x * inside + x.roll(1, 0) * (1 - inside)


def varied(x: Tensor, draw: np.random.Generator) -> Tensor:
    """Crops (N, P, P) in other surroundings, shifted, mirrored, of other contrast and grain; fresh at each look."""
    if draw.random() < 0.5:
        x = elsewhere(x, draw)
    shift = [int(v) for v in draw.integers(-4, 5, 2)]
    x = torch.roll(x, shift, dims=(1, 2))
    if draw.random() < 0.5:
        x = x.flip(2)
    gamma = torch.from_numpy(np.exp(draw.normal(0, 0.25, (len(x), 1, 1))).astype(np.float32))
    grain = torch.from_numpy(draw.uniform(0, 0.05, (len(x), 1, 1)).astype(np.float32))
    if draw.random() < 0.3:
        x = functional.avg_pool2d(x[:, None], 3, 1, 1)[:, 0]
    return (x.clamp_min(0) ** gamma + grain * torch.randn_like(x)).clamp(0, 1)
