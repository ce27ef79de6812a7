"""A T2-weighted crop of label maps, as one of many scanners would show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F32

from .drawing import HALF_MM, PITCH_MM, SIDE_PX, Labels
from .plan import Plan
from .tissues import Tissue

CROP_MM, CROP_PX = 64.0, 128
OFF_MM = 3.0

# T2-weighted turbo spin echo at 3 to 4 s / 100 ms, CSF = 1: read off textbook images, not calculated.
_SIGNAL: dict[Tissue, float] = {
    Tissue.FAT: 0.72, Tissue.SKIN_FAT: 0.82, Tissue.MUSCLE: 0.17, Tissue.PSOAS: 0.16, Tissue.CORTEX: 0.05,
    Tissue.MARROW: 0.42, Tissue.ANNULUS: 0.11, Tissue.NUCLEUS: 0.42, Tissue.EPIDURAL_FAT: 0.78, Tissue.FLAVUM: 0.15,
    Tissue.JOINT: 0.55, Tissue.LIGAMENT: 0.28, Tissue.NERVE: 0.36, Tissue.VESSEL: 0.70, Tissue.FLOW: 0.06,
    Tissue.DURA: 0.14, Tissue.CSF: 1.00, Tissue.ROOTLET: 0.40, Tissue.CORD: 0.42, Tissue.HERNIATION: 0.18,
    Tissue.STREAK: 0.66,
}  # fmt: skip
_FATS = (Tissue.FAT, Tissue.SKIN_FAT, Tissue.EPIDURAL_FAT, Tissue.STREAK)
# Texture: (size of the grain in mm, contrast)
_GRAIN: dict[Tissue, tuple[float, float]] = {
    Tissue.MUSCLE: (0.8, 0.20), Tissue.PSOAS: (0.8, 0.18), Tissue.MARROW: (0.6, 0.15), Tissue.FAT: (1.2, 0.15),
    Tissue.SKIN_FAT: (1.5, 0.10), Tissue.ANNULUS: (0.9, 0.25), Tissue.NUCLEUS: (1.5, 0.22), Tissue.LIGAMENT: (0.6, 0.4),
    Tissue.FLAVUM: (0.6, 0.2), Tissue.CSF: (2.2, 0.05), Tissue.EPIDURAL_FAT: (1.0, 0.10), Tissue.ROOTLET: (0.5, 0.12),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """One person's examination: what its five crops have in common."""

    signal: dict[Tissue, float]
    blur_mm: float
    pixel_mm: float
    noise: float  # of CSF's signal
    falloff: float  # log of signal per mm towards the coil at the back
    turn_deg: float


def scanner(draw: Generator) -> Scanner:
    """A scanner, a protocol and how the patient lay."""
    signal = {tissue: value * float(np.exp(draw.normal(0, 0.10))) for tissue, value in _SIGNAL.items()}
    fat = float(draw.uniform(0.6, 1.2))  # echo train and fat go together
    nerve = float(draw.uniform(0.85, 1.4))
    signal[Tissue.CSF] = _SIGNAL[Tissue.CSF]
    signal |= {tissue: signal[tissue] * fat for tissue in _FATS}
    signal |= {tissue: signal[tissue] * nerve for tissue in (Tissue.ROOTLET, Tissue.NERVE, Tissue.CORD)}
    return Scanner(
        signal=signal,
        blur_mm=float(draw.uniform(0.25, 0.5)),
        pixel_mm=float(draw.uniform(0.4, 0.8)),
        noise=float(np.exp(draw.uniform(np.log(0.01), np.log(0.05)))),
        falloff=float(draw.uniform(0.0, 0.025)),
        turn_deg=float(draw.normal(0, 3)),
    )


def crop(labels: Labels, plan: Plan, scan: Scanner) -> F32:
    """The crop (128, 128) in 0..1, from the 1st to the 99.5th percentile, of label maps (S, H, W)."""
    draw = plan.draw(9)
    fine = ndimage.gaussian_filter(_signal(labels, plan, scan, draw), scan.blur_mm / PITCH_MM)
    fine = fine * _coil(scan, draw)
    turn = np.radians(scan.turn_deg + draw.normal(0, 2))
    reach, direction = OFF_MM * np.sqrt(draw.random()), draw.uniform(0, 2 * np.pi)
    off = reach * np.array([np.cos(direction), np.sin(direction)])
    scanned = _sampled(fine, PITCH_MM, HALF_MM, CROP_MM / 2 + 2, scan.pixel_mm, turn, off)
    real, imaginary = draw.normal(0, scan.noise, (2, *scanned.shape))
    noisy = np.hypot(scanned + real, imaginary)
    half = scanned.shape[0] * scan.pixel_mm / 2
    shown = _sampled(noisy, scan.pixel_mm, half, CROP_MM / 2, CROP_MM / CROP_PX, 0.0, np.zeros(2))
    low, high = np.percentile(shown, (1.0, 99.5))
    return np.asarray(np.clip((shown - low) / max(high - low, 1e-6), 0, 1), dtype=np.float32)


def _signal(labels: Labels, plan: Plan, scan: Scanner, draw: Generator) -> NDArray[np.float64]:
    """The mean of the sheets' signals (H, W)."""
    table = np.array([scan.signal[tissue] for tissue in Tissue])
    table = table * np.exp(draw.normal(0, 0.05, len(table)))
    table[Tissue.NUCLEUS] *= 1.4 - 1.1 * plan.degenerate
    table[Tissue.CSF] *= draw.uniform(0.9, 1.05)  # flow
    out = table[labels].mean(axis=0)
    grains = {size: _grain(draw, size) for size in sorted({size for size, _ in _GRAIN.values()})}
    for tissue, (size, contrast) in _GRAIN.items():
        out += contrast * table[tissue] * (labels == tissue).mean(axis=0) * grains[size]
    return np.asarray(np.clip(out, 0.01, None))


def _grain(draw: Generator, size_mm: float) -> NDArray[np.float64]:
    """Noise of unit spread with a grain of some size."""
    field = ndimage.gaussian_filter(draw.normal(size=(SIDE_PX, SIDE_PX)), size_mm / 2 / PITCH_MM)
    return np.asarray(field / field.std())


def _coil(scan: Scanner, draw: Generator) -> NDArray[np.float64]:
    axis = (np.arange(SIDE_PX) + 0.5) * PITCH_MM - HALF_MM
    sideways = draw.normal(0, 0.004)
    return np.asarray(np.exp(scan.falloff * axis[:, None] + sideways * axis[None, :]))


def _sampled(picture: NDArray[np.float64], pitch: float, half: float, new_half: float, new_pitch: float, turn: float,
             off: NDArray[np.float64]) -> NDArray[np.float64]:  # fmt: skip
    """A picture resampled round ``off``, turned."""
    count = int(np.ceil(2 * new_half / new_pitch - 1e-9))
    axis = (np.arange(count) - (count - 1) / 2) * new_pitch
    c, s = np.cos(turn), np.sin(turn)
    x = c * axis[None, :] - s * axis[:, None] + off[0]
    y = s * axis[None, :] + c * axis[:, None] + off[1]
    at = [(y + half) / pitch - 0.5, (x + half) / pitch - 0.5]
    return np.asarray(ndimage.map_coordinates(picture, at, order=1, mode="nearest"))
