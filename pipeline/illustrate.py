"""The pictures of a report, made again from nothing but the report and the slices that it names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from cauda.core.domain import F32, F64, AxialEvidence, Finding, Level, Point, Report, Volume
from cauda.pipeline.crop import patch, viewing_axes, window, windowed
from cauda.pipeline.frames import Frame, frames, number
from cauda.pipeline.pictures import Pictures, Place, PlaneLine, SagittalPicture, Tile
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import series_volumes
from cauda.pipeline.whereabouts import place_of

TILE_MM = 80.0
TILE_PX = 320
PARALLEL = 0.1  # sine of the angle between two planes that do not usefully cut
LINE_MM = 60.0  # to either side of the level's point; the drawing leaves out the canal

Slices = Mapping[tuple[str, int], tuple[Frame, Volume]]  # by SOP instance and frame
Places = Mapping[tuple[str, int], Place]


def pictures(report: Report, images: Sequence[SourceImage]) -> Pictures:
    """Tiles and the sagittal picture; only slices named in the report are read. Rejected when one cannot be."""
    slices = named_slices(report, images)
    places = {key: place_of(frame, images) for key, (frame, _) in slices.items()}
    return Pictures(tiles=_tiles(report.findings, slices, places), sagittal=_sagittal(report.findings, slices, places))


def named_slices(report: Report, images: Sequence[SourceImage]) -> Slices:
    """The slices that a report names, and no other; Rejected when one cannot be read."""
    wanted = {
        (evidence.sop_instance_uid, evidence.frame)
        for finding in report.findings
        for evidence in (finding.axial, finding.sagittal)
        if evidence is not None
    }
    instances = {uid for uid, _ in wanted}
    found: dict[tuple[str, int], tuple[Frame, Volume]] = {}
    for image in images:
        if str(image.header.get("SOPInstanceUID")) not in instances:
            continue
        named = [one for one in frames(image) if (one.ref.sop_instance_uid, one.ref.frame) in wanted]
        for one in named:
            found[one.ref.sop_instance_uid, one.ref.frame] = one, series_volumes([one])[0][0]
    return found


def _tiles(findings: Sequence[Finding], slices: Slices, places: Places) -> dict[Level, Tile]:
    shown = {
        finding.level: (finding.axial, *slices[finding.axial.sop_instance_uid, finding.axial.frame])
        for finding in findings
        if finding.axial and (finding.axial.sop_instance_uid, finding.axial.frame) in slices
    }
    by_series: dict[str, list[tuple[Frame, Volume]]] = defaultdict(list)
    for _, frame, volume in shown.values():
        by_series[volume.series_instance_uid].append((frame, volume))
    windows = {uid: _window(members) for uid, members in by_series.items()}
    return {
        level: _tile(evidence, volume, windows[volume.series_instance_uid], places[_key(evidence)])
        for level, (evidence, _, volume) in shown.items()
    }


def _key(evidence: AxialEvidence) -> tuple[str, int]:
    return evidence.sop_instance_uid, evidence.frame


def _tile(evidence: AxialEvidence, volume: Volume, limits: tuple[float, float], place: Place) -> Tile:
    cut = patch(volume, 0, volume.point_mm(*evidence.center_px, 0), TILE_MM, TILE_PX)
    left, _, right, _ = evidence.box_px
    middle = (TILE_PX - 1) / 2
    return Tile(
        pixels=windowed(cut.pixels, limits),
        mm_per_px=cut.mm_per_px,
        center_px=(middle, middle),
        box_mm=(right - left) * volume.spacing_mm[1],
        place=place,
    )


def _window(members: Sequence[tuple[Frame, Volume]]) -> tuple[float, float]:
    """The stored window where it is plausible, else percentiles; the same for all tiles of a series."""
    pixels = np.concatenate([volume.pixels.ravel() for _, volume in members])
    stored = [_stored(frame) for frame, _ in members]
    known = [pair for pair in stored if pair is not None]
    if known:
        center, width = np.median(known, axis=0)
        low, high = center - width / 2, center + width / 2
        if width > 1 and float((pixels >= high).mean()) < 0.05 and float((pixels <= low).mean()) < 0.6:
            return float(low), float(high)
    return window(pixels)


def _stored(frame: Frame) -> tuple[float, float] | None:
    center, width = number(frame.source.header, "WindowCenter"), number(frame.source.header, "WindowWidth")
    return None if center is None or width is None else (center, width)


def _sagittal(findings: Sequence[Finding], slices: Slices, places: Places) -> SagittalPicture | None:
    votes = Counter(
        (finding.sagittal.sop_instance_uid, finding.sagittal.frame)
        for finding in reversed(findings)  # equal votes: the lower levels are where stenosis is
        if finding.sagittal and (finding.sagittal.sop_instance_uid, finding.sagittal.frame) in slices
    )
    if not votes:
        return None
    chosen = votes.most_common(1)[0][0]
    frame, volume = slices[chosen]
    across, down = viewing_axes(volume)
    pixels, mm, corner = _isotropic(volume, across, down)
    normal = np.cross(across, down)
    points: dict[Level, tuple[float, float]] = {}
    lines: dict[Level, PlaneLine] = {}

    def shown(point: Point | F64) -> tuple[float, float]:
        offset = np.asarray(point) - corner
        return float(offset @ across) / mm, float(offset @ down) / mm

    for finding in findings:
        if finding.point_mm is None:
            continue
        points[finding.level] = shown(finding.point_mm)
        key = (finding.axial.sop_instance_uid, finding.axial.frame) if finding.axial else None
        if key is not None and key in slices:
            ends = _intersection(slices[key][1], finding.point_mm, across, normal, corner)
            if ends is None:
                continue
            apart = abs(float(normal @ (np.asarray(finding.point_mm) - corner)))
            lines[finding.level] = PlaneLine(
                start_px=shown(ends[0]), end_px=shown(ends[1]), dashed=apart > volume.spacing_mm[2]
            )
    return SagittalPicture(
        pixels=windowed(pixels, _window([(frame, volume)])),
        mm_per_px=mm,
        place=places[chosen],
        points_px=points,
        lines=lines,
    )


def _isotropic(volume: Volume, across: F64, down: F64) -> tuple[F32, float, F64]:
    """The slice with square pixels, anterior left and head up; its pixel size; where its first pixel lies."""
    _, height, width = volume.pixels.shape
    row_mm, col_mm, _ = volume.spacing_mm
    corners = np.array([volume.point_mm(c, r, 0) for c in (0, width - 1) for r in (0, height - 1)])
    corner = corners[int(np.argmin(corners @ (across + down)))]
    mm = min(row_mm, col_mm)
    columns = round(float(np.ptp(corners @ across)) / mm) + 1
    rows = round(float(np.ptp(corners @ down)) / mm) + 1
    grid = corner + np.arange(columns)[None, :, None] * mm * across + np.arange(rows)[:, None, None] * mm * down
    inverse = np.linalg.inv(volume.affine)
    col, row, _ = np.moveaxis(grid @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    pixels = ndimage.map_coordinates(volume.pixels[0], [row, col], order=1, mode="nearest")
    return np.asarray(pixels, dtype=np.float32), mm, corner


def _intersection(axial: Volume, point: Point, across: F64, normal: F64, corner: F64) -> tuple[F64, F64] | None:
    """The axial plane's cut with the sagittal slice, to either side of the level's point, anterior end first.

    None where the two are parallel and do not cut.
    """
    plane = np.cross(axial.affine[:3, 0], axial.affine[:3, 1])
    plane = plane / np.linalg.norm(plane)
    direction = np.cross(plane, normal)
    direction = direction / max(float(np.linalg.norm(direction)), 1e-6)
    direction = direction if direction @ across >= 0 else -direction
    on_slice = np.asarray(point) - normal * float(normal @ (np.asarray(point) - corner))
    # down the slice from the level's point to the axial plane
    within = np.cross(normal, direction)
    slope = float(plane @ within)
    if abs(slope) < PARALLEL:
        return None
    height = float(plane @ (axial.affine[:3, 3] - on_slice)) / slope
    foot = on_slice + height * within
    return foot - LINE_MM * direction, foot + LINE_MM * direction
