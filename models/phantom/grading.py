"""Grades from a label map alone, by what published definitions look at: CSF, rootlets, calibre and fat.

RSNA 3-grade after Lee's description (CSF space still open; partly lost; lost with the rootlets bundled). Schizas by
CSF and fat: A rootlets apart in visible CSF, B no free CSF but grainy rootlets, C no CSF, D also no fat behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cauda.core.domain import F64, Level
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.tissue import Labels, Tissue, labels

_FIELD_MM, _PIXEL_MM = 36.0, 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a level's cross-section shows."""

    sac_mm2: float
    ap_mm: float
    csf_mm2: float
    csf_share: float  # of the sac
    back_fat_mm2: float
    cord: bool

    @property
    def rsna(self) -> int:
        """0 Normal/Mild, 1 Moderate, 2 Severe."""
        if self.csf_share < 0.36 or self.csf_mm2 < 16:
            return 2
        if self.csf_share < 0.56 or self.csf_mm2 < 38 or self.ap_mm < 6.5:
            return 1
        return 0

    @property
    def schizas(self) -> str:
        """A, B, C or D."""
        if self.csf_share >= 0.45 and self.csf_mm2 >= 24:
            return "A"
        if self.csf_share >= 0.25 and self.csf_mm2 >= 10:
            return "B"
        return "C" if self.back_fat_mm2 >= 6 else "D"


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
    sac = np.isin(section, (Tissue.CSF, Tissue.ROOT, Tissue.CORD))
    csf = section == Tissue.CSF
    rows = np.flatnonzero(sac.any(axis=1))
    columns = sac.sum(axis=0)
    fat = (section == Tissue.EPIDURAL_FAT).copy()
    fat[: int(rows.mean()) if len(rows) else section.shape[0] // 2] = False  # only behind the sac's middle
    total = float(sac.sum() * area)
    return Measured(
        sac_mm2=total,
        ap_mm=float(np.sort(columns)[-5:].mean() * pixel_mm),
        csf_mm2=float(csf.sum() * area),
        csf_share=float(csf.sum() / max(int(sac.sum()), 1)),
        back_fat_mm2=float(fat.sum() * area),
        cord=bool((section == Tissue.CORD).sum() * area > 8),
    )


def truth(spine: Spine, level: Level) -> Measured:
    """What is true of a level."""
    return measure(cross_section(spine, level))
