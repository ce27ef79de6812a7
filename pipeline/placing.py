"""Axial acquisitions judged as wholes: whether they are T2 and share the sagittal images' position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cauda.core.domain import F64, Reason, Volume
from cauda.pipeline.axial import through_canal
from cauda.pipeline.canal import fluid_is_bright, fluid_map, same_place
from cauda.pipeline.frames import text
from cauda.pipeline.series import Acquisition


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """An axial acquisition with its volumes; ``reason`` says why it cannot be used, ``assumed`` that positions were."""

    series: Acquisition
    volumes: tuple[Volume, ...]
    assumed: bool
    reason: Reason | None = None


def place(one: Acquisition, volumes: Sequence[Volume], sagittal: Acquisition, canal_mm: F64) -> Placed:
    """Check one axial acquisition by picture, whatever its headers state.

    A Frame of Reference UID of its own forbids nothing (DESIGN.md 5.2).
    """
    frame_of_reference = text(one.header, "FrameOfReferenceUID")
    shared = bool(frame_of_reference) and frame_of_reference == text(sagittal.header, "FrameOfReferenceUID")
    crossing = through_canal(volumes, canal_mm)
    reason = None
    if crossing:
        answer = fluid_map(crossing)
        if not shared and not same_place(answer):
            reason = Reason.POSITION_NOT_SHARED
        elif not fluid_is_bright(answer):
            reason = Reason.NOT_T2
    elif not shared:
        reason = Reason.POSITION_NOT_SHARED
    return Placed(series=one, volumes=tuple(volumes), assumed=not shared, reason=reason)
