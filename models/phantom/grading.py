"""Grades from a label map alone, by what published definitions look at: CSF, rootlets, calibre and fat.

Canal, RSNA 3-grade after Lee 2011 (CSF space still open; partly lost, some rootlets aggregated; lost, all of them in
one bundle). Schizas 2010: A rootlets apart in visible CSF (A1 behind, less than half of the sac; A2 along its side
walls; A3 behind, more than half; A4 in the middle, most of it), B no free CSF but still grainy, C homogeneous grey with
fat behind, D without. The definitions are of what a reader sees: CSF in slivers that no slice resolves is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F64, GradeScale, Level
from cauda.models.phantom.anatomy import labels
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.tissue import SAC, Labels, Tissue

_FIELD_MM, _PIXEL_MM = 36.0, 0.4
_SEEN_MM = 0.6  # half of the narrowest CSF that a slice shows
_BUNDLE_MM = 1.2  # rootlets nearer than twice this belong together
_MIDDLE_MM = 2.0  # either side of the middle, where the calibre is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a level's cross-section shows."""

    sac_mm2: float
    ap_mm: float  # of the sac, in the middle
    csf_mm2: float
    csf_share: float  # of the sac
    seen_mm2: float  # CSF wide enough to be seen
    clear: float  # that CSF by itself and the nerves together
    occupied: float  # share of the sac that the rootlets and what lies between them take
    behind: float  # where the rootlets' middle is: -0.5 the sac's front, 0.5 its back
    aside: float  # share of the rootlets along the side walls
    back_fat_mm2: float
    cord: bool

    @property
    def rsna(self) -> int:
        """0 Normal/Mild, 1 Moderate, 2 Severe."""
        if self.clear < 0.25 or self.seen_mm2 < 14:
            return 2
        if self.clear < 0.50 or self.seen_mm2 < 38 or self.ap_mm < 6.5:
            return 1
        return 0

    @property
    def schizas(self) -> str:
        """A, B, C or D."""
        if self.clear >= 0.42 and self.seen_mm2 >= 20:
            return "A"
        if self.csf_share >= 0.35 and self.csf_mm2 >= 10:
            return "B"
        return "C" if self.back_fat_mm2 >= 6 else "D"

    @property
    def schizas_7(self) -> str:
        """A1 to A4, B, C or D."""
        if (letter := self.schizas) != "A":
            return letter
        if self.occupied > 0.5:
            return "A3" if self.behind > 0.08 else "A4"
        return "A2" if self.aside > 0.45 else "A1"

    def grade(self, scale: GradeScale) -> str:
        """The grade on a scale, in the scale's words."""
        match scale:
            case GradeScale.RSNA_3:
                return scale.grades[self.rsna]
            case GradeScale.SCHIZAS_4:
                return self.schizas
            case GradeScale.SCHIZAS_7:
                return self.schizas_7


def cross_section(spine: Spine, level: Level) -> Labels:
    """The label map (N, N) through a level's disc across the canal; rows to the back, columns to the left."""
    side = np.arange(-_FIELD_MM / 2, _FIELD_MM / 2, _PIXEL_MM)
    v, u = np.meshgrid(side, side, indexing="ij")
    s = spine.level_s(level)
    centre = np.asarray(spine.place(s))
    back = np.asarray(spine.place(s, v=1.0)) - centre
    points: F64 = centre + u[..., None] * np.array([1.0, 0, 0]) + v[..., None] * back
    return labels(spine, points)


def measure(section: Labels, pixel_mm: float = _PIXEL_MM) -> Measured:
    """Measure a cross-section (rows to the back); knows nothing but the labels."""
    area = pixel_mm**2
    sac = np.isin(section, SAC)
    csf, cord = section == Tissue.CSF, section == Tissue.CORD
    nerves = (section == Tissue.ROOT) | cord
    rows, columns = np.nonzero(sac)
    middle_row, middle_column = (rows.mean(), columns.mean()) if len(rows) else (s / 2 for s in section.shape)
    near = np.abs(np.arange(section.shape[1]) - middle_column) * pixel_mm <= _MIDDLE_MM
    fat = section == Tissue.EPIDURAL_FAT
    fat[: int(middle_row)] = False  # only behind the sac's middle
    seen = ndimage.binary_opening(csf, _disk(_SEEN_MM / pixel_mm))
    bundle = ndimage.binary_closing(np.pad(nerves, 8), _disk(_BUNDLE_MM / pixel_mm))[8:-8, 8:-8] & sac
    total, seen_px, nerve_px = int(sac.sum()), int(seen.sum()), int(nerves.sum())
    return Measured(
        sac_mm2=float(total * area),
        ap_mm=float(sac[:, near].sum(axis=0).mean() * pixel_mm),
        csf_mm2=float(csf.sum() * area),
        csf_share=float(csf.sum() / max(total, 1)),
        seen_mm2=float(seen_px * area),
        clear=float(seen_px / max(seen_px + nerve_px, 1)),
        occupied=float(bundle.sum() / max(total, 1)),
        behind=_behind(nerves, rows),
        aside=_aside(nerves, columns),
        back_fat_mm2=float(fat.sum() * area),
        cord=bool(cord.sum() * area > 8),
    )


def _disk(radius: float) -> NDArray[np.bool_]:
    reach = np.arange(-int(radius), int(radius) + 1)
    found: NDArray[np.bool_] = reach[:, None] ** 2 + reach**2 <= radius**2
    return found


def _behind(nerves: NDArray[np.bool_], rows: NDArray[np.intp]) -> float:
    if not nerves.any():
        return 0.0
    front, back = int(rows.min()), int(rows.max())
    return float((np.nonzero(nerves)[0].mean() - (front + back) / 2) / max(back - front, 1))


def _aside(nerves: NDArray[np.bool_], columns: NDArray[np.intp]) -> float:
    if not nerves.any():
        return 0.0
    half = max(float(columns.max() - columns.min()) / 2, 1.0)
    return float((np.abs(np.nonzero(nerves)[1] - columns.mean()) / half > 0.6).mean())


def truth(spine: Spine, level: Level) -> Measured:
    """What is true of a level."""
    return measure(cross_section(spine, level))
