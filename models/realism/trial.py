"""The kind of picture that a first 2D trial drew: the probe must tell it from a real one, or it proves nothing.

A flat label map with hard outlines, one grey a tissue, white noise; no texture, no blur, no coil, no third dimension.
"""

from __future__ import annotations

import numpy as np

from cauda.core.domain import F32, F64
from cauda.models.realism.pictures import Window

_FAT, _MUSCLE, _BONE, _DISC, _CSF, _ABDOMEN, _PROCESS = 0.85, 0.25, 0.45, 0.2, 0.95, 0.3, 0.4
_NOISE = 0.04


def trial(seed: int, window: Window) -> F32:
    """A sagittal picture (rows, columns), float32, about 0..1."""
    draw = np.random.default_rng([seed, 2])
    y, x = np.meshgrid(
        (np.arange(window.rows) - window.rows / 2) * window.mm,
        (np.arange(window.columns) - window.columns / 2) * window.mm,
        indexing="ij",
    )
    bend = draw.uniform(5, 15)
    across = x - bend * np.cos(y / 60 + draw.uniform(-0.5, 0.5))  # 0 at the back of the bodies
    body, height, gap = draw.uniform(30, 36), draw.uniform(24, 29), draw.uniform(6, 11)
    place = np.mod(y + draw.uniform(0, 40), height + gap)
    flat = np.full(y.shape, _MUSCLE)
    flat[across < -body] = _ABDOMEN
    in_column = (across > -body) & (across < 0)
    flat[in_column] = np.where(place[in_column] < gap, _DISC * draw.uniform(0.7, 1.6), _BONE * draw.uniform(0.8, 1.2))
    canal = draw.uniform(12, 17)
    flat[(across >= 0) & (across < canal)] = _CSF
    _processes(flat, across - canal, place / (height + gap))
    back = draw.uniform(38, 55)
    flat[across > canal + back] = _FAT
    flat[across > canal + back + draw.uniform(10, 40)] = 0.0
    noisy: F32 = np.abs(flat + draw.normal(0, _NOISE, flat.shape)).astype(np.float32)
    return noisy


def _processes(flat: F64, behind: F64, along: F64) -> None:
    flat[(behind > 4) & (behind < 28) & (along > 0.35) & (along < 0.85)] = _PROCESS
