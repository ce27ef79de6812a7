"""What spoils an axial picture, measured from the picture alone: motion, a field that folds over itself.

Each measure compares the picture with itself, and withholds by what narrowing of the canal hardly changes: disease must
not be taken for bad quality (CLINICAL.md 12). `make quality` prints what they make of phantoms with known faults
(docs/quality.md, which also says why nothing here looks for metal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cauda.core.domain import F32, F64, Point, Reason, Volume
from cauda.pipeline.crop import viewing_axes

RESTLESS_MAX = 0.95  # above what lines of noise, unspoiled phantoms and SPIDER measure
SEAM_STEP_MIN = 1.25  # a field that folds is as smooth across its seam as anywhere: 1

_BESIDE = 1  # slices of a block are measured in turns while the same things happen: neighbours are taken together

_LINES = (4, 0.35)  # from the 4th line of k-space to this share of their number: what every scan measures
_APART = (12, 16, 20, 24)  # lines so far apart agree by chance only
_BAND = 16  # frequencies along the lines that are compared at a time: within so few a shift is but one phase
_STEADY = 7  # neighbouring lines over which a still body's agreement hardly changes

_TRUNK_MM = (300.0, 200.0)  # across and from front to back: few adults are smaller
_ALIKE = 0.7  # correlation of the two sides of a seam where the picture goes on
_LIT = 0.12  # of the brightest: tissue, no air
_LIT_SHARE = 0.5  # of the seam


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """What was measured round one slice; None where it could not be."""

    restless: float | None = None
    seam_step: float | None = None  # 1 where the field folds; None where no folding reaches the canal

    @property
    def reason(self) -> Reason | None:
        """Why a level is withheld."""
        if self.seam_step is not None and self.seam_step < SEAM_STEP_MIN:
            return Reason.WRAP
        return Reason.MOTION if (self.restless or 0.0) > RESTLESS_MAX else None


UNSPOILED = Artefacts()


def artefacts(volume: Volume, index: int, center_mm: Point) -> Artefacts:
    """What spoils slice ``index`` and its neighbours, where the canal crosses it at ``center_mm``."""
    first, last = max(0, index - _BESIDE), min(len(volume.pixels), index + _BESIDE + 1)
    indices = range(first, last)
    return Artefacts(
        restless=_mean([restless(volume.pixels[one]) for one in indices]),
        seam_step=_mean([_seam(volume, one, center_mm) for one in indices]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def restless(plane: F32) -> float | None:
    """How much neighbouring lines of k-space disagree, beside lines that agree by chance only.

    The lines were measured one after another. At rest the agreement of neighbours says how the signal is spread over
    the field, and so hardly changes from line to line; a body that moved in between changes it at once. Measured
    beside what lines far apart agree by chance, so that neither matrix nor field matters. The direction in which
    phase was encoded is not always told: the more restless of both counts. None for a picture without content.
    """
    lit = _content(plane)
    found = [one for axis in (0, 1) if (one := _restless(np.moveaxis(lit, axis, 0))) is not None]
    return max(found, default=None)


def _content(plane: F32) -> F32:
    """Without the empty margins that scanners fill rectangular fields up with."""
    lit = plane > 0.02 * np.percentile(plane, 99)
    rows, columns = (np.flatnonzero(lit.mean(axis=axis) > 0.05) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return plane
    return plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _restless(lines: F32) -> float | None:
    first, share = _LINES
    height, width = (int(share * count) for count in lines.shape)
    if height - first <= 1.5 * max(_APART) or width <= _BAND:
        return None
    spectrum = fft.fft2(lines - lines.mean())[first:height, 1:width]
    found = [_disagreement(spectrum[:, at : at + _BAND]) for at in range(0, width - _BAND, _BAND)]
    known = [one for one in found if one is not None]
    return float(np.mean([one[0] for one in known]) / np.mean([one[1] for one in known])) if known else None


def _disagreement(band: NDArray[np.complex64]) -> tuple[float, float] | None:
    """How far the agreement of neighbouring lines (rows) departs from what is usual around, and what chance makes."""
    power = np.linalg.norm(band, axis=1, keepdims=True)
    if not power.all():
        return None
    lines = band / power
    agreed = (lines[1:] * lines[:-1].conj()).sum(axis=1)
    usual = ndimage.uniform_filter1d(agreed.real, _STEADY) + 1j * ndimage.uniform_filter1d(agreed.imag, _STEADY)
    chance = [np.abs((lines[apart:] * lines[:-apart].conj()).sum(axis=1)).mean() for apart in _APART]
    return float(np.abs(agreed - usual).mean()), float(np.mean(chance))


def _seam(volume: Volume, index: int, center_mm: Point) -> float | None:
    """The least step across a seam whose folding reaches the canal; None where none does.

    How far what lies outside the field folds in follows from how wide bodies are.
    """
    column, row, _ = volume.voxel(center_mm)
    plane = volume.pixels[index]
    spacing = volume.spacing_mm[:2]
    turned = abs(float(viewing_axes(volume)[0] @ volume.affine[:3, 0])) < 0.5 * spacing[1]  # columns run to the back
    found = []
    for axis, place in enumerate((row, column)):
        field = plane.shape[axis] * spacing[axis]
        edge = min(place, plane.shape[axis] - 1 - place) * spacing[axis]
        trunk = _TRUNK_MM[(axis == 0) != turned]
        if (trunk - field) / 2 > edge and (step := seam_step(np.moveaxis(plane, axis, 0))) is not None:
            found.append(step)
    return min(found, default=None)


def seam_step(lines: F32) -> float | None:
    """The step from the last line to the first, by that between neighbours at the edge.

    None where one of them lies in air, or is unlike the other. What lies outside a field that is too small folds in at
    the other side: the picture goes on across its seam.
    """
    lines = lines[np.r_[0, 1, -2, -1]].astype(np.float64)
    lit = ndimage.gaussian_filter1d(np.minimum(lines[0], lines[-1]), 3.0) > _LIT * np.percentile(lines, 99)
    if lit.mean() < _LIT_SHARE:
        return None
    fine = ndimage.gaussian_filter1d(lines, 1.0, axis=1) - ndimage.gaussian_filter1d(lines, 5.0, axis=1)
    if np.corrcoef(fine[0][lit], fine[3][lit])[0, 1] < _ALIKE:
        return None

    def step(one: F64, other: F64) -> float:
        return float(np.abs(one - other)[lit].mean())

    usual = (step(fine[0], fine[1]) + step(fine[3], fine[2])) / 2
    return step(fine[0], fine[3]) / max(usual, 1e-9)
