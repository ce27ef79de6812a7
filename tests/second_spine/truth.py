"""The grade of a level, read off its label maps alone by the published definitions.

Lee et al., Skeletal Radiol 2011;40:1033, in the three steps that RSNA 2024 uses: Normal/Mild, the CSF in front of the
roots is open or mildly obliterated and the roots are clearly apart; Moderate, marked loss of CSF and some roots
aggregate; Severe, no CSF, the roots are one bundle. Schizas et al., Spine 2010;35:1919: A, CSF is clearly seen; B, the
rootlets take up the whole sac and can still be told apart; C, no rootlet can be recognised, fat is left behind the sac;
D, nor is fat left.

"Seen" means at a reader's resolution: films of CSF between touching strands are not seen. Every measure that goes into
the RSNA grade moves one way when CSF is taken away, so no loss of CSF can make a level milder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .drawing import PITCH_MM, Labels, Mask
from .tissues import Tissue

SEEN_MM = 0.4  # sigma of the eye on a usual matrix
BESIDE_MM = 0.9  # a strand is free where CSF is seen this close, a strand's radius and a little
GONE, MARKED = 0.12, 0.38  # share of the sac, less the cord, that is seen as CSF
FRONT_MARKED = 0.30  # CSF in front of the first strand, per area of strands
SOME, BUNDLE = 0.35, 0.75  # share of the strands that have no CSF beside them
FAT_BEHIND_MM2 = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is so at a level."""

    rsna: int  # 0 Normal/Mild, 1 Moderate, 2 Severe
    schizas: str  # A to D
    csf_share: float  # of the sac less the cord, as seen
    front_share: float  # seen CSF in front of the first strand, per area of strands
    clumped: float  # share of the strands without CSF beside them
    sac_mm2: float
    ap_mm: float  # in the sac's middle
    fat_behind_mm2: float


def grade(labels: Labels) -> Truth:
    """The truth of label maps (S, H, W), the sheets of one slice."""
    csf, strand, cord, fat = (
        (labels == one).mean(axis=0) for one in (Tissue.CSF, Tissue.ROOTLET, Tissue.CORD, Tissue.EPIDURAL_FAT)
    )
    seen = ndimage.gaussian_filter(csf, SEEN_MM / PITCH_MM) > 0.5
    rooted = strand >= 0.5
    sac: Mask = csf + strand + cord >= 0.5
    csf_share = float(seen.sum() / max(seen.sum() + strand.sum(), 1e-6))
    front = seen & (np.cumsum(strand + cord >= 0.5, axis=0) == 0)
    front_share = float(front.sum() / max(strand.sum(), 1e-6))
    far = ndimage.distance_transform_edt(~seen) * PITCH_MM if seen.any() else np.full(seen.shape, np.inf)
    clumped = float((far[rooted] > BESIDE_MM).mean()) if rooted.any() else 0.0
    behind = _behind(sac, fat)
    return Truth(
        rsna=_rsna(csf_share, front_share, clumped),
        schizas=_schizas(csf_share, front_share, clumped, behind),
        csf_share=csf_share,
        front_share=front_share,
        clumped=clumped,
        sac_mm2=float(sac.sum() * PITCH_MM**2),
        ap_mm=_ap_mm(sac),
        fat_behind_mm2=behind,
    )


def _rsna(csf_share: float, front_share: float, clumped: float) -> int:
    if csf_share < GONE and clumped >= BUNDLE:
        return 2
    lost = csf_share < MARKED or front_share < FRONT_MARKED
    return 1 if lost and clumped >= SOME else 0


def _schizas(csf_share: float, front_share: float, clumped: float, behind_mm2: float) -> str:
    if csf_share < GONE and clumped >= BUNDLE:
        return "C" if behind_mm2 >= FAT_BEHIND_MM2 else "D"
    return "B" if csf_share < MARKED and front_share < FRONT_MARKED else "A"


def _columns(sac: Mask) -> NDArray[np.intp]:
    """The columns within 1 mm of the sac's middle."""
    cols = np.flatnonzero(sac.any(axis=0))
    if not len(cols):
        return cols
    middle, half = (cols[0] + cols[-1]) / 2, 1.0 / PITCH_MM
    return np.asarray(cols[np.abs(cols - middle) <= half])


def _ap_mm(sac: Mask) -> float:
    columns = _columns(sac)
    return float(np.median(sac[:, columns].sum(axis=0)) * PITCH_MM) if len(columns) else 0.0


def _behind(sac: Mask, fat: NDArray[np.float64]) -> float:
    """Epidural fat (mm2) within 6 mm behind the sac, across its middle half."""
    rows, cols = np.nonzero(sac)
    if not len(rows):
        return 0.0
    quarter = (cols.max() - cols.min()) / 4
    part = slice(int(cols.min() + quarter), int(cols.max() - quarter) + 1)
    last: NDArray[np.intp] = sac.shape[0] - 1 - np.argmax(sac[::-1, part], axis=0)
    at = np.arange(sac.shape[0])[:, None] - last[None, :]
    near: Mask = (at > 0) & (at <= round(6.0 / PITCH_MM)) & np.any(sac[:, part], axis=0, keepdims=True)
    return float(fat[:, part][near].sum() * PITCH_MM**2)
