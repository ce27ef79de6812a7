"""Axial crops with their grades, as a grader is trained on them; contrast and faults vary freely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F32, F64, Level
from cauda.models.phantom.grading import Measured, measure
from cauda.models.phantom.imaging import Plane, Sequence, Spoil, section, shown, tissue_signal
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.threads import one_thread
from cauda.models.phantom.tissue import Labels, Tissue

_RIGHT_HANDED = np.array([1.0, 0.0, 0.0])  # crops show the patient's right on the left: columns run to the left side


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crops:
    """N crops in 0..1 with what is true of the slice they show."""

    pixels: F32  # (N, P, P)
    levels: tuple[Level, ...]
    rsna: NDArray[np.int64]  # (N,) 0 Normal/Mild, 1 Moderate, 2 Severe
    csf_share: F64  # (N,)
    spine: NDArray[np.int64]  # (N,) whose it is: splits keep a spine together


def crops(seed: int, spines: int, *, mm: float = 64.0, px: int = 128, balanced: bool = True, looks: int = 1) -> Crops:
    """Five crops (one a level) of each of ``spines`` spines, seeds ``seed`` .. ``seed + spines - 1``.

    Each slice is shown by ``looks`` scanners: what is the same in all of them is anatomy.
    """
    with one_thread():
        found = [(image, truth, level, n) for n in range(spines)
                 for one in (sample_spine(seed + n, balanced=balanced),) for level in Level
                 for images, truth in (_crops(one, level, mm, px, looks),) for image in images]  # fmt: skip
    return Crops(
        pixels=np.stack([image for image, *_ in found]),
        levels=tuple(level for _, _, level, _ in found),
        rsna=np.array([truth.rsna for _, truth, _, _ in found]),
        csf_share=np.array([truth.csf_share for _, truth, _, _ in found]),
        spine=np.array([seed + n for *_, n in found]),
    )


def contrast(draw: np.random.Generator) -> F64:
    """T2-weighted signal by label of some scanner that never was.

    How bright fat, flavum and rootlets are beside CSF must not tell the grade: a sac of rootlets alone lies anywhere
    between dark and nearly as bright as fat. Fat is as bright as fast spin echo makes it (its coupled spins are
    refocused), or suppressed.
    """
    sequence = Sequence(tr=float(draw.uniform(2500, 5500)), te=float(draw.uniform(75, 125)))
    signal = tissue_signal(sequence, float(draw.uniform(0, 0.9)))
    signal = signal * np.exp(draw.normal(0, draw.uniform(0.05, 0.25), len(Tissue)))
    csf = signal[Tissue.CSF]
    fat = csf * (draw.uniform(0.4, 1.05) if draw.random() < 0.85 else draw.uniform(0.05, 0.3))
    signal[[Tissue.FAT, Tissue.EPIDURAL_FAT]] = fat * draw.uniform(0.85, 1.15, 2)
    marrow = [Tissue.MARROW, Tissue.SACRUM, Tissue.ILIUM, Tissue.ARCH, Tissue.FATTY_MARROW]
    signal[marrow] *= draw.uniform(0.8, 1.8)
    signal[Tissue.FLAVUM] = csf * draw.uniform(0.04, 0.3)
    signal[Tissue.ANNULUS] = csf * draw.uniform(0.03, 0.2)
    signal[Tissue.ROOT] = csf * draw.uniform(0.2, 0.7)
    signal[Tissue.CORD] = csf * draw.uniform(0.3, 0.65)
    return signal


def _crops(spine: Spine, level: Level, mm: float, px: int, looks: int) -> tuple[list[F32], Measured]:
    draw = np.random.default_rng([spine.seed, list(Level).index(level)])
    plane = _plane(spine, level, mm, px, draw)
    sheets = section(spine, plane)
    truth = measure(sheets[len(sheets) // 2], plane.pixel_mm)
    return [_look(spine, plane, sheets, draw) for _ in range(looks)], truth


def _look(spine: Spine, plane: Plane, sheets: list[Labels], draw: np.random.Generator) -> F32:
    spoil = Spoil(
        noise=float(draw.uniform(0.005, 0.06)),
        blur_mm=float(draw.uniform(0.2, 0.9)),
        bias=float(draw.uniform(0, 0.7)),
        texture=float(draw.uniform(0.02, 0.35)),
        coil_mm=float(draw.uniform(90, 500)),
        acquired=float(draw.uniform(0.6, 1.0)),
        flow=float(draw.uniform(0.0, 0.8)) if draw.random() < 0.4 else 0.0,
        ghost=float(draw.uniform(0.0, 0.08)) if draw.random() < 0.3 else 0.0,
    )
    image = shown(spine, plane, sheets, contrast(draw), draw, spoil)
    image = image ** np.float32(np.exp(draw.normal(0, 0.2)))
    if draw.random() < 0.5:  # the canal is as good mirrored, and one-sided causes must not mean one side
        image = image[:, ::-1]
    low, high = np.percentile(image, (1.0, 99.5))
    return np.ascontiguousarray(np.clip((image - low) / max(float(high - low), 1e-6), 0, 1), np.float32)


def _plane(spine: Spine, level: Level, mm: float, px: int, draw: np.random.Generator) -> Plane:
    """An oblique slice near the disc, its centre within some millimetres of the canal's."""
    s = spine.level_s(level) + float(draw.normal(0, 1.8))
    centre = np.asarray(spine.place(s, *np.clip(draw.normal(0, 1.6, 2), -4, 4)))
    normal = np.asarray(spine.normal(level))
    tilt = np.radians(draw.normal(0, 5))
    back = np.asarray(spine.place(s, v=1.0)) - np.asarray(spine.place(s))
    down = np.cos(tilt) * back + np.sin(tilt) * normal
    turn = np.radians(draw.normal(0, 4))
    across = np.cos(turn) * _RIGHT_HANDED + np.sin(turn) * down
    down = down - across * (down @ across)
    down = down / np.linalg.norm(down)
    step = mm / px
    half = (px - 1) / 2 * step
    return Plane(
        corner=centre - half * across - half * down,
        along_row=across,
        along_column=down,
        pixel_mm=step,
        rows=px,
        columns=px,
        thickness_mm=float(draw.uniform(3.0, 4.5)),
    )


def bright_fraction(pixels: F32, *, mm: float = 64.0, radius_mm: float = 8.0) -> F64:
    """The baseline of PHANTOM.md: how much of the disc around the centre is bright; low means narrow. (N,)."""
    count, size, _ = pixels.shape
    at = (np.arange(size) - (size - 1) / 2) * mm / size
    near = at[:, None] ** 2 + at[None, :] ** 2 <= radius_mm**2
    smooth = np.stack([ndimage.gaussian_filter(one, 0.7) for one in pixels]) if count else pixels
    return np.asarray((smooth[:, near] > 0.6).mean(axis=1), dtype=np.float64)
