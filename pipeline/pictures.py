"""The pixels that a Secondary Capture shows, ready to draw: windowed, isotropic, oriented for a viewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cauda.core.domain import F32, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to find one slice in a viewer: its numbers, and where they do not name one image, what else does."""

    series_number: int | None
    instance_number: int | None
    frame: int | None = None  # 1-based, only for multi-frame
    location_mm: float | None = None  # Slice Location, where only that names it
    rank: tuple[int, int, str] | None = None  # the 3rd of 5 from the "head", where nothing else does
    series_images: int | None = None  # where the series number names no series
    echo_ms: float | None = None  # where the number of images names none either


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """The axial slice that gave a level's grade. Anterior up, patient's right on the left."""

    pixels: F32  # (P, P) in 0..1, one window for all tiles of a series
    mm_per_px: float
    center_px: tuple[float, float]  # the canal, column first
    box_mm: float  # side of the square that was graded, around the centre
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneLine:
    """Where a graded axial plane truly cuts the sagittal slice, column first."""

    start_px: tuple[float, float]  # anterior end
    end_px: tuple[float, float]  # posterior end
    dashed: bool  # the level's point lies more than one slice away


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SagittalPicture:
    """The sagittal slice nearest the canal. Anterior left, head up."""

    pixels: F32  # (H, W) in 0..1
    mm_per_px: float
    place: Place
    points_px: Mapping[Level, tuple[float, float]] = field(default_factory=dict)
    lines: Mapping[Level, PlaneLine] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """Everything there is to show; empty where nothing was found."""

    tiles: Mapping[Level, Tile] = field(default_factory=dict)
    sagittal: SagittalPicture | None = None
