"""Discs on the midsagittal map: where they meet the canal, how large they are, what lies above and below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cauda.core.domain import F64, Point
from cauda.pipeline.sagittal import Midline

MIN_AREA_MM2 = 20.0  # a collapsed disc is small: 50 mm2 lost some
MAX_TO_CANAL_MM = 22.0  # the posterior edge lies at the canal; elsewhere it is something else
SAME_DISC_MM = 8.0  # two pieces whose feet on the canal lie closer belong to one disc
BAND_MM = (4.0, 20.0)  # where the neighbouring vertebra is looked for, from the disc's centre
BAND_HALF_MM = 12.0
_AP_REACH_MM, _AP_STEP_MM = 14.0, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Disc:
    """One disc. ``along_mm`` is the arc length of its foot on the canal's centreline, from the head."""

    along_mm: float
    point_mm: Point  # the canal's centre at the disc
    centre_mm: Point
    depth_mm: float  # front to back
    height_mm: float
    area_mm2: float
    canal_ap_mm: float | None  # front to back, across the canal; None where the map shows none
    tilt_deg: float  # how far its back end points down; L5/S1 slopes forward, so it is negative there
    above: Mapping[str, float]  # share of the band above that is vertebra, sacrum, or outside the image
    below: Mapping[str, float]


def discs(line: Midline) -> list[Disc]:
    """All discs from head to feet."""
    kind = line.maps.argmax(axis=0)
    row_mm, col_mm, _ = line.volume.spacing_mm
    scale = np.array([col_mm, row_mm])
    track = line.centreline()[:, :2] * scale  # (N, 2) mm on the map
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(track, axis=0), axis=1))])
    labels, count = ndimage.label(kind == line.classes.index("disc"), structure=np.ones((3, 3)))
    pieces: list[tuple[float, F64]] = []  # foot, pixels (n, 2) in mm
    for number in range(1, count + 1):
        rows, cols = np.nonzero(labels == number)
        pixels = np.stack([cols, rows], axis=1) * scale
        if len(pixels) * row_mm * col_mm < MIN_AREA_MM2:
            continue
        foot, distance = _foot(pixels, track)
        if distance <= MAX_TO_CANAL_MM:
            pieces.append((float(along[foot]), pixels))
    pieces.sort(key=lambda piece: piece[0])
    merged: list[F64] = []
    last = -np.inf
    for place, pixels in pieces:
        if place - last < SAME_DISC_MM:
            merged[-1] = np.concatenate([merged[-1], pixels])
        else:
            merged.append(pixels)
        last = place
    return [_disc(line, kind, pixels, track, along) for pixels in merged]


def _foot(pixels: F64, track: F64) -> tuple[int, float]:
    """The foot of the posterior edge on the centreline, and the edge's distance to it."""
    distances = np.linalg.norm(pixels[:, None, :] - track[None, ::4, :], axis=2).min(axis=1)
    edge = pixels[distances <= np.quantile(distances, 0.1)].mean(axis=0)
    to_track = np.linalg.norm(track - edge, axis=1)
    foot = int(to_track.argmin())
    return foot, float(to_track[foot])


def _disc(line: Midline, kind: NDArray[np.intp], pixels: F64, track: F64, along: F64) -> Disc:
    row_mm, col_mm, _ = line.volume.spacing_mm
    foot, _ = _foot(pixels, track)
    centre = pixels.mean(axis=0)
    to_canal = track[foot] - centre
    axis = to_canal / max(float(np.linalg.norm(to_canal)), 1e-6)
    if len(pixels) > 10:  # the disc's own long axis, unless it is too round to have one
        values, vectors = np.linalg.eigh(np.cov(pixels.T))
        own = vectors[:, 1] * np.sign(vectors[:, 1] @ axis)
        if values[1] > 2 * values[0] and own @ axis > 0.6:
            axis = own
    down = np.array([-axis[1], axis[0]])  # turned a quarter towards the feet: columns run backward, rows to the feet
    spread = (pixels - centre) @ axis
    depth = float(np.quantile(spread, 0.99) - np.quantile(spread, 0.01))
    area = len(pixels) * row_mm * col_mm
    foot_px = track[foot] / (col_mm, row_mm)
    centre_px = centre / (col_mm, row_mm)
    return Disc(
        along_mm=float(along[foot]),
        point_mm=line.point_mm(float(foot_px[0]), float(foot_px[1])),
        centre_mm=line.point_mm(float(centre_px[0]), float(centre_px[1])),
        depth_mm=depth,
        height_mm=area / max(depth, 1.0),
        area_mm2=area,
        canal_ap_mm=_canal_ap(line, track, foot),
        tilt_deg=float(np.degrees(np.arctan2(axis[1], axis[0]))),
        above=_band(line, kind, centre, axis, -down),
        below=_band(line, kind, centre, axis, down),
    )


def _canal_ap(line: Midline, track: F64, foot: int) -> float | None:
    """How far the canal reaches to both sides of its centreline, square to it."""
    row_mm, col_mm, _ = line.volume.spacing_mm
    along = track[min(foot + 8, len(track) - 1)] - track[max(foot - 8, 0)]
    across = np.array([along[1], -along[0]]) / max(float(np.linalg.norm(along)), 1e-6)
    steps = np.arange(-_AP_REACH_MM, _AP_REACH_MM + _AP_STEP_MM, _AP_STEP_MM)
    points = (track[foot] + steps[:, None] * across) / (col_mm, row_mm)
    inside = ndimage.map_coordinates(line.map("canal"), [points[:, 1], points[:, 0]], order=1) > 0.5
    labels, _ = ndimage.label(inside)
    middle = labels[len(steps) // 2]
    return float((labels == middle).sum() * _AP_STEP_MM) if middle else None


def _band(line: Midline, kind: NDArray[np.intp], centre: F64, axis: F64, away: F64) -> dict[str, float]:
    """What lies next to the disc on one side, as shares of a rectangle the size of a vertebral body's near half."""
    row_mm, col_mm, _ = line.volume.spacing_mm
    reach = np.arange(BAND_MM[0], BAND_MM[1], 1.0)
    across = np.arange(-BAND_HALF_MM, BAND_HALF_MM + 1, 1.0)
    points = centre + reach[:, None, None] * away + across[None, :, None] * axis
    cols = np.rint(points[..., 0] / col_mm).astype(int)
    rows = np.rint(points[..., 1] / row_mm).astype(int)
    height, width = kind.shape
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    found = kind[rows.clip(0, height - 1), cols.clip(0, width - 1)]
    shares = {"outside": float((~inside).mean())}
    for name in ("vertebra", "sacrum"):
        known = name in line.classes
        shares[name] = float((inside & (found == line.classes.index(name))).mean()) if known else 0.0
    return shares
