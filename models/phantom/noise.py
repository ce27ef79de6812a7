"""Smooth periodic noise at points in the body: what gives tissue its grain and outlines their roughness."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from cauda.core.domain import F64

_CELLS = 128  # along each side of a periodic tile
_FINE = 8  # cells a structure: fine enough that the nearest cell will do
_TILES = 2
_FIELDS = 4  # that are independent in one tile


@cache
def _tile(number: int, device: torch.device) -> Tensor:
    """(cells,): the four fields of unit variance, half precision, as one number: fetched at once."""
    cells = np.random.default_rng(1000 + number).normal(size=(_FIELDS, *(_CELLS,) * 3)).astype(np.float32)
    spectrum = fft.rfftn(cells, axes=(1, 2, 3))
    for axis, f in enumerate((fft.fftfreq(_CELLS), fft.fftfreq(_CELLS), fft.rfftfreq(_CELLS)), 1):
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        spectrum *= np.exp(-(f**2) * 180.0 * (_FINE / 4) ** 2).astype(np.float32).reshape(shape)
    cells = fft.irfftn(spectrum, s=(_CELLS,) * 3, axes=(1, 2, 3))
    cells /= cells.std(axis=(1, 2, 3), keepdims=True)
    together = np.ascontiguousarray(cells.reshape(_FIELDS, -1).T, np.float16).view(np.int64)[:, 0]
    return torch.from_numpy(together).to(device)


def noise(seed: int, points: Tensor, scale_mm: float | tuple[float, float, float]) -> Tensor:
    """Four independent fields (N, 4) of unit variance at points (N, 3): structures of about ``scale_mm``.

    Three scales make the structures longer along an axis.
    """
    fine = _FINE / torch.tensor(scale_mm, dtype=torch.float32, device=points.device).expand(3)
    start = torch.tensor([seed * 7 % 127, seed * 13 % 113, seed * 29 % 109], dtype=torch.float32, device=points.device)
    x, y, z = ((points[:, i] * fine[i] + start[i]).round().int() & (_CELLS - 1) for i in range(3))
    found = _tile(seed % _TILES, points.device).index_select(0, (x * _CELLS + y) * _CELLS + z)
    return found.view(torch.float16).view(-1, _FIELDS).float()


def grain(seed: int, points: F64, scale_mm: float) -> F64:
    """One field (...,) of `noise` at points (..., 3)."""
    flat = torch.from_numpy(points.reshape(-1, 3).astype(np.float32))
    found: F64 = noise(seed, flat, scale_mm)[:, 0].numpy().astype(np.float64).reshape(points.shape[:-1])
    return found
