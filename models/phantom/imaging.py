"""Magnetic resonance pictures of a label map: thick oblique slices, spin-echo signal, and what spoils it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cauda.core.domain import F32, F64
from cauda.models.phantom import noise
from cauda.models.phantom.anatomy import labels
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.tissue import Labels, Tissue

# T1 ms, T2 ms (fat's lengthened as fast spin echo shows it), proton density; about 1.5 T
_PROPERTIES: dict[Tissue, tuple[float, float, float]] = {
    Tissue.AIR: (1000, 1, 0.0),
    Tissue.FAT: (260, 95, 0.8),
    Tissue.MUSCLE: (950, 40, 0.85),
    Tissue.MARROW: (430, 70, 0.7),
    Tissue.CORTEX: (800, 8, 0.12),
    Tissue.NUCLEUS: (1150, 96, 0.85),
    Tissue.ANNULUS: (950, 31, 0.45),
    Tissue.ARCH: (430, 68, 0.62),
    Tissue.FLAVUM: (850, 30, 0.45),
    Tissue.EPIDURAL_FAT: (260, 95, 0.8),
    Tissue.CSF: (3200, 1200, 1.0),
    Tissue.ROOT: (1150, 70, 0.75),
    Tissue.CORD: (900, 85, 0.8),
    Tissue.VESSEL: (1200, 10, 0.2),
    Tissue.LIGAMENT: (800, 14, 0.25),
    Tissue.BOWEL: (900, 75, 0.75),
    Tissue.SACRUM: (420, 72, 0.7),
    Tissue.FRAGMENT: (1050, 60, 0.7),
    Tissue.NERVE: (1000, 60, 0.75),
    Tissue.FLUID: (2600, 700, 0.95),
    Tissue.FATTY_MARROW: (330, 100, 0.75),
    Tissue.KIDNEY: (1000, 85, 0.85),
    Tissue.GAS: (1000, 1, 0.0),
    Tissue.SKIN: (900, 40, 0.6),
    Tissue.ILIUM: (410, 74, 0.7),
    Tissue.DRY_NUCLEUS: (950, 46, 0.6),
}


# Share of the signal that is fat's: what a Dixon sequence tells apart and fat suppression takes away.
_FAT_SHARE: dict[Tissue, float] = {
    Tissue.FAT: 0.95,
    Tissue.EPIDURAL_FAT: 0.92,
    Tissue.MARROW: 0.42,
    Tissue.SACRUM: 0.48,
    Tissue.ILIUM: 0.5,
    Tissue.ARCH: 0.45,
    Tissue.FATTY_MARROW: 0.7,
    Tissue.MUSCLE: 0.05,
}
# How grainy a tissue is beside the others: trabeculae, bundles of muscle, lobules of fat, CSF that moves.
_GRAIN: dict[Tissue, float] = {
    Tissue.MARROW: 1.0,
    Tissue.FATTY_MARROW: 1.0,
    Tissue.SACRUM: 1.1,
    Tissue.ILIUM: 1.2,
    Tissue.ARCH: 1.3,
    Tissue.MUSCLE: 1.4,
    Tissue.FAT: 0.4,
    Tissue.BOWEL: 2.5,
    Tissue.KIDNEY: 1.0,
    Tissue.ANNULUS: 1.3,
    Tissue.NUCLEUS: 0.8,
    Tissue.DRY_NUCLEUS: 1.2,
    Tissue.FLAVUM: 1.2,
    Tissue.LIGAMENT: 1.5,
    Tissue.CSF: 0.35,
    Tissue.EPIDURAL_FAT: 0.4,
    Tissue.VESSEL: 2.0,
}
_GRAINY = np.array([_GRAIN.get(tissue, 0.0) for tissue in Tissue])
_ENHANCED_T1 = {Tissue.VESSEL: 150.0, Tissue.MUSCLE: 650.0, Tissue.BOWEL: 450.0}  # ms, after gadolinium

_MOVES = np.array([tissue in {Tissue.CSF, Tissue.VESSEL} for tissue in Tissue], dtype=np.float64)
_JET_MM = 5.0  # width of a jet of CSF
_GHOST_STEP = 0.19  # of the field, between a thing that pulsates and its copy
_BAND_MM, _BAND_LEFT = 26.0, 0.15  # where the saturated band begins in front of the bodies, and what it leaves
_PERSONAL = 0.10  # how much tissues differ between people, as a deviation of the logarithm
_PERSONAL_MARROW = 0.18

Part = Literal["all", "water", "fat", "opposed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Contrast: repetition, echo and inversion time in milliseconds; which part of a Dixon; after contrast or not."""

    tr: float
    te: float
    ti: float | None = None
    part: Part = "all"
    enhanced: bool = False


T1 = Sequence(tr=560, te=11)
T2 = Sequence(tr=3600, te=102)
STIR = Sequence(tr=4200, te=55, ti=150)
T1_CONTRAST = Sequence(tr=620, te=11, part="water", enhanced=True)  # fat-suppressed
SPACE = Sequence(tr=1500, te=120)
SURVEY = Sequence(tr=180, te=5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """One slice in the patient: corner (centre of the first pixel), directions of columns and rows, millimetres."""

    corner: F64  # (3,)
    along_row: F64  # (3,) unit: direction of increasing column
    along_column: F64  # (3,) unit: direction of increasing row
    pixel_mm: float
    rows: int
    columns: int
    thickness_mm: float

    @property
    def normal(self) -> F64:
        """Unit normal."""
        return np.cross(self.along_row, self.along_column)

    def points(self, offset_mm: float = 0.0) -> F64:
        """Patient points (rows, columns, 3), moved along the normal."""
        r, c = np.arange(self.rows) * self.pixel_mm, np.arange(self.columns) * self.pixel_mm
        points: F64 = (
            self.corner
            + offset_mm * self.normal
            + r[:, None, None] * self.along_column
            + c[None, :, None] * self.along_row
        )
        return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoil:
    """How the picture departs from the ideal; zero is perfect."""

    noise: float = 0.03  # deviation, of the brightest tissue
    blur_mm: float = 0.5
    bias: float = 0.25  # strength of the receive field's unevenness
    texture: float = 0.16  # deviation of tissue's own signal
    coil_mm: float = 160.0  # depth in which the coil at the back loses most of its signal
    band: bool = False  # saturated in front of the spine, as sagittal images are against breathing
    acquired: float = 0.75  # share of k-space along each axis that was measured; the rest is filled with zeros
    flow: float = 0.0  # share of its signal that CSF loses where it moves fastest
    ghost: float = 0.0  # strength of the pulse's ghosts of CSF and vessels along the columns


def tissue_signal(sequence: Sequence, degeneration: float = 0.4) -> F64:
    """Spin-echo signal of every tissue, indexed by label."""
    out = np.zeros(len(Tissue))
    for tissue, (t1_before, t2, density) in _PROPERTIES.items():
        t1 = _ENHANCED_T1.get(tissue, t1_before) if sequence.enhanced else t1_before
        t2_here = t2 * (1 - 0.6 * degeneration) if tissue is Tissue.NUCLEUS else t2
        if sequence.ti is None:
            recovered = 1 - np.exp(-sequence.tr / t1)
        else:
            recovered = abs(1 - 2 * np.exp(-sequence.ti / t1) + np.exp(-sequence.tr / t1))
        signal = density * recovered * np.exp(-sequence.te / t2_here)
        fat = _FAT_SHARE.get(tissue, 0.0)
        seen = {"all": 1.0, "water": 1.0 - fat, "fat": fat, "opposed": abs(1.0 - 2.0 * fat)}
        out[tissue] = signal * seen[sequence.part]
    return out


def personal(spine: Spine) -> F64:
    """How bright this person's tissues are beside the usual, indexed by label: marrow varies most."""
    draw = np.random.default_rng([spine.seed, 77])
    found = np.exp(draw.normal(0, _PERSONAL, len(Tissue)))
    found[[Tissue.MARROW, Tissue.SACRUM, Tissue.ILIUM, Tissue.ARCH]] *= np.exp(draw.normal(0, _PERSONAL_MARROW))
    found[Tissue.CSF] = 1.0
    found[Tissue.EPIDURAL_FAT] = found[Tissue.FAT]
    return found


def section(spine: Spine, plane: Plane, parts: int = 3) -> list[Labels]:
    """The label maps of ``parts`` sheets through a slice's thickness."""
    offsets = (np.arange(parts) - (parts - 1) / 2) * plane.thickness_mm / parts
    return list(labels(spine, np.stack([plane.points(offset) for offset in offsets])))


def picture(spine: Spine, plane: Plane, signal: F64, draw: np.random.Generator, spoil: Spoil, parts: int = 3) -> F32:
    """A slice (rows, columns), float32, about 0..1."""
    return shown(spine, plane, section(spine, plane, parts), signal, draw, spoil)


def shown(
    spine: Spine, plane: Plane, sheets: list[Labels], signal: F64, draw: np.random.Generator, spoil: Spoil
) -> F32:
    """The picture of label maps that are there already."""
    points = plane.points()
    grain = 0.7 * noise.grain(spine.seed + 1, points, 5.0) + 0.7 * noise.grain(spine.seed + 2, points, 1.8)
    ideal = np.mean([signal[sheet] * (1 + spoil.texture * _GRAINY[sheet] * grain) for sheet in sheets], axis=0)
    ideal = _pulsating(spine, points, sheets, ideal, signal, spoil)
    blurred = ndimage.gaussian_filter(np.maximum(ideal, 0), spoil.blur_mm / plane.pixel_mm)
    field = ndimage.zoom(draw.normal(0, 1, (4, 4)), (plane.rows / 4, plane.columns / 4), order=3, mode="nearest")
    field = np.exp(spoil.bias * 0.5 * field[: plane.rows, : plane.columns]) * _received(spine, points, spoil)
    top = max(float(np.percentile(blurred * field, 99.5)), 1e-6)
    level = spoil.noise * top / spoil.acquired  # zero filling averages it away again
    shape = (plane.rows, plane.columns)
    measured = blurred * field + draw.normal(0, level, shape) + 1j * draw.normal(0, level, shape)
    magnitude: F32 = np.abs(_reconstructed(measured, spoil.acquired)).astype(np.float32)  # Rician
    return magnitude / np.float32(top)


def _pulsating(spine: Spine, points: F64, sheets: list[Labels], ideal: F64, signal: F64, spoil: Spoil) -> F64:
    """The picture with what the pulse does: CSF that flows loses signal, and what moves has faint copies of itself."""
    if spoil.flow:
        csf = np.mean([sheet == Tissue.CSF for sheet in sheets], axis=0)
        fast = 1 / (1 + np.exp(4 * (0.8 - noise.grain(spine.seed + 9, points, _JET_MM))))
        ideal = ideal - spoil.flow * signal[Tissue.CSF] * csf * fast
    if spoil.ghost:
        moves = np.mean([signal[sheet] * _MOVES[sheet] for sheet in sheets], axis=0)
        step = max(round(len(moves) * _GHOST_STEP), 1)
        for order in (-2, -1, 1, 2):
            ideal = ideal + spoil.ghost / abs(order) * np.roll(moves, order * step, axis=0)
    return ideal


def _received(spine: Spine, points: F64, spoil: Spoil) -> F64:
    """How much of the signal at ``points`` arrives: 1 at the canal; less in front, hardly any in the saturated band."""
    canal = np.interp(-points[..., 2], -spine.curve[:, 2], spine.curve[:, 1])
    depth = canal - points[..., 1]  # in front of the canal
    found: F64 = np.exp(-np.clip(depth, -15, 150) / spoil.coil_mm)
    if spoil.band:
        edge = spine.body[1] + _BAND_MM
        lumbar = spine.curve[(spine.curve[:, 0] > spine.disc_s[0]) & (spine.curve[:, 0] < spine.disc_s[-1])]
        slope, start = np.polyfit(lumbar[:, 2], lumbar[:, 1], 1)
        beyond = slope * points[..., 2] + start - points[..., 1] - edge
        found = found * (_BAND_LEFT + (1 - _BAND_LEFT) / (1 + np.exp(np.clip(beyond / 4, -30, 30))))
    return found


def _reconstructed(measured: NDArray[np.complex128], acquired: float) -> NDArray[np.complex64]:
    """The picture from the middle of k-space: softly cut, so sharp edges ring (Gibbs) and noise has a grain."""
    spectrum = fft.fft2(measured.astype(np.complex64))
    for axis, count in enumerate(measured.shape):
        frequency = np.abs(fft.fftfreq(count)) / (0.5 * acquired)
        window = np.clip((1.04 - frequency) / 0.08, 0, 1).astype(np.float32)
        spectrum *= window[:, None] if axis == 0 else window[None, :]
    found: NDArray[np.complex64] = fft.ifft2(spectrum)
    return found
