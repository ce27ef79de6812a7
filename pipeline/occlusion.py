"""Where a level's answer hangs on the picture: each place of the graded crop is covered in turn and graded again.

The occlusion sensitivity of Zeiler and Fergus (2014). It explains the model, never the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cauda.core.domain import F32, Level, Report
from cauda.pipeline.crop import graded_crop
from cauda.pipeline.grade import crops_around
from cauda.pipeline.illustrate import named_slices
from cauda.pipeline.parts import Parts
from cauda.pipeline.source import SourceImage

COVER_MM = 8.0
STEP_MM = 4.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeatMap:
    """A graded crop (P, P) in 0..1, and at each pixel by how many grades it is worse for not being covered."""

    crop: F32
    effect: F32


def heat_maps(report: Report, images: Sequence[SourceImage], parts: Parts) -> dict[Level, HeatMap]:
    """A map for each graded level whose crop these parts grade as the report does; of another bundle's report none."""
    if report.bundle is None or report.bundle.digest != parts.info.digest:
        return {}
    made, found = parts.preprocessing, {}
    slices = named_slices(report, images)
    for finding in report.findings:
        axial = finding.axial
        if finding.grade is None or axial is None or (axial.sop_instance_uid, axial.frame) not in slices:
            continue
        _, volume = slices[axial.sop_instance_uid, axial.frame]
        center = volume.point_mm(*axial.center_px, 0)
        crop = graded_crop(volume, 0, (center[0], center[1], center[2]), made.crop_mm, made.crop_px)
        around = crops_around(volume, 0, (center[0], center[1], center[2]), made)
        if _said(around, finding.level, parts) == finding.grade:
            found[finding.level] = HeatMap(crop=crop, effect=effect(crop, finding.level, parts))
    return found


def effect(crop: F32, level: Level, parts: Parts) -> F32:
    """(P, P): the expected grade less what it is with this place covered, over all covers that hold the pixel.

    A cover leaves a blur of what it hides, so that its edges are no new structure.
    """
    size = len(crop)
    px_per_mm = parts.preprocessing.crop_px / parts.preprocessing.crop_mm
    cover, step = round(COVER_MM * px_per_mm), round(STEP_MM * px_per_mm)
    starts = sorted({*range(0, size - cover, step), size - cover})
    places = [(slice(row, row + cover), slice(column, column + cover)) for row in starts for column in starts]
    blurred = ndimage.gaussian_filter(crop, cover)
    crops = np.repeat(crop[None], 1 + len(places), axis=0)
    for covered, place in zip(crops[1:], places, strict=True):
        covered[place] = blurred[place]
    expected = _expected(crops, level, parts)
    total, times = np.zeros_like(crop), np.zeros_like(crop)
    for value, place in zip(expected[0] - expected[1:], places, strict=True):
        total[place] += value
        times[place] += 1
    return np.asarray(total / times, dtype=np.float32)


def _expected(crops: F32, level: Level, parts: Parts) -> F32:
    """The mean of the grades' ranks (N,), 0 the mildest, by their probabilities."""
    p = parts.grader.predict_proba(parts.embedder.embed(crops), [level] * len(crops))
    return np.asarray(p @ np.arange(p.shape[1]), dtype=np.float32)


def _said(crops: F32, level: Level, parts: Parts) -> str:
    p = parts.grader.predict_proba(parts.embedder.embed(crops), [level] * len(crops)).mean(axis=0)
    return parts.info.scale.grades[int(p.argmax())]
