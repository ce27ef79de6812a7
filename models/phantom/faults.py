"""What spoils an acquisition, and what then must not be graded: faults with a known answer.

Each is made the way it comes about: motion and spikes in k-space, wrap by a field of view smaller than the body, metal
by the field of a dipole. The answer is about the canal on the axial images and the count on the sagittal ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cauda.core.domain import F32, F64, Level
from cauda.models.phantom.imaging import Plane
from cauda.models.phantom.kinds import TRAITS, Kind
from cauda.models.phantom.planes import cropped
from cauda.models.phantom.spine import Spine

NEAR_MM = 11.0  # a slice this near to a disc belongs to its level
_SCREWS_MM = ((17.0, -16.0), (-17.0, -16.0), (17.0, -28.0), (-17.0, -28.0))  # (left, back) of the canal's middle
_SCREW_RADIUS_MM = 3.5
_BEFORE_CANAL_MM = 16.0  # where a field of view ends that misses the canal


class What(StrEnum):
    """Kinds of faults."""

    MOTION = "motion"  # ghosts and blur along phase
    WRAP = "wrap"  # the body's sides lie over the canal
    METAL = "metal"  # pedicle screws: void, pile-up, distortion
    CROPPED = "cropped"  # axial: the canal is outside; sagittal: the sacrum is
    SPIKE = "spike"  # one bad point in k-space: stripes
    LOW_SNR = "low_snr"
    MISSING = "missing"  # the level's slices were not sent


class Answer(StrEnum):
    """What is right to do with a level."""

    GRADE = "grade"
    MAY_WITHHOLD = "may_withhold"
    MUST_WITHHOLD = "must_withhold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of one series, at some levels or all; a sagittal series is spoiled as a whole."""

    what: What
    series: Kind = Kind.AXIAL_T2
    levels: tuple[Level, ...] = tuple(Level)
    strength: float = 1.0  # below 1 the level may still be graded


def answers(faults: Iterable[Fault]) -> dict[Level, Answer]:
    """What is right for each level."""
    found = dict.fromkeys(Level, Answer.GRADE)
    order = list(Answer)
    for fault in faults:
        for level, answer in _answers(fault).items():
            found[level] = max(found[level], answer, key=order.index)
    return found


def _answers(fault: Fault) -> dict[Level, Answer]:
    if fault.series is not Kind.AXIAL_T2:  # then it is the count, or nothing, that suffers
        counts = TRAITS[fault.series].plane == "sagittal"
        return dict.fromkeys(Level, Answer.MAY_WITHHOLD) if counts else {}
    severe = fault.strength >= 1 and fault.what is not What.SPIKE
    found = dict.fromkeys(fault.levels, Answer.MUST_WITHHOLD if severe else Answer.MAY_WITHHOLD)
    if fault.what is What.METAL:
        levels = list(Level)
        for level in fault.levels:
            at = levels.index(level)
            for beside in levels[max(0, at - 1) : at + 2]:
                found.setdefault(beside, Answer.MAY_WITHHOLD)
    return found


def scanned(fault: Fault, spine: Spine, planes: Sequence[Plane]) -> list[Plane]:
    """The planes that are acquired, where a fault changes those."""
    if fault.what is What.MISSING:
        return [plane for plane in planes if not touches(fault, spine, plane)]
    if fault.what is What.CROPPED:
        return [_cropped(fault, spine, plane) if touches(fault, spine, plane) else plane for plane in planes]
    if fault.what is What.WRAP:
        return [_narrow(fault, plane) if touches(fault, spine, plane) else plane for plane in planes]
    return list(planes)


def touches(fault: Fault, spine: Spine, plane: Plane) -> bool:
    """Whether a slice is spoiled."""
    if TRAITS[fault.series].plane != "axial":
        return True
    return any(
        abs(float(plane.normal @ (np.asarray(spine.canal_centre(level)) - plane.corner))) < NEAR_MM
        and abs(float(plane.normal @ np.asarray(spine.normal(level)))) > 0.9
        for level in fault.levels
    )


def _cropped(fault: Fault, spine: Spine, plane: Plane) -> Plane:
    """Without the canal, or without the sacrum."""
    level = Level.L4_L5 if TRAITS[fault.series].plane == "sagittal" else _nearest(spine, plane, fault.levels)
    row = _pixel(plane, np.asarray(spine.canal_centre(level)))[0]
    above = 0.0 if TRAITS[fault.series].plane == "sagittal" else _BEFORE_CANAL_MM
    return cropped(plane, rows=max(int(row - above / plane.pixel_mm), 48))


def _nearest(spine: Spine, plane: Plane, levels: Sequence[Level]) -> Level:
    return min(levels, key=lambda one: abs(float(plane.normal @ (np.asarray(spine.canal_centre(one)) - plane.corner))))


def _pixel(plane: Plane, point: F64) -> tuple[float, float]:
    offset = point - plane.corner
    return float(offset @ plane.along_column) / plane.pixel_mm, float(offset @ plane.along_row) / plane.pixel_mm


def _narrow(fault: Fault, plane: Plane) -> Plane:
    """Half the field of view along phase."""
    if TRAITS[fault.series].phase_axis == 0:
        return cropped(plane, first_row=plane.rows // 4, rows=plane.rows // 2)
    return cropped(plane, first_column=plane.columns // 4, columns=plane.columns // 2)


def drawn(fault: Fault, plane: Plane) -> Plane:
    """What lies in the receiving coil: with wrap more than is shown."""
    if fault.what is not What.WRAP:
        return plane
    if TRAITS[fault.series].phase_axis == 0:
        return cropped(plane, first_row=-plane.rows, rows=3 * plane.rows)
    return cropped(plane, first_column=-plane.columns, columns=3 * plane.columns)


def spoiled(fault: Fault, spine: Spine, plane: Plane, pixels: F32, draw: np.random.Generator) -> F32:
    """The picture with the fault; ``plane`` is that of the pixels (rows, columns)."""
    axis = TRAITS[fault.series].phase_axis
    match fault.what:
        case What.MOTION:
            return _moved(pixels, axis, fault.strength, draw)
        case What.WRAP:
            return _folded(pixels, axis)
        case What.METAL:
            return _metal(spine, fault, plane, pixels)
        case What.SPIKE:
            return _striped(pixels, fault.strength, draw)
        case What.LOW_SNR:
            deviation = 0.25 * fault.strength
            noisy = np.hypot(pixels + draw.normal(0, deviation, pixels.shape), draw.normal(0, deviation, pixels.shape))
            return noisy.astype(np.float32)
        case What.CROPPED | What.MISSING:
            return pixels


def _moved(pixels: F32, axis: int, strength: float, draw: np.random.Generator) -> F32:
    """Breathing and a few jerks while k-space was filled line by line."""
    lines = np.moveaxis(pixels, axis, 0)
    count = len(lines)
    time = np.arange(count)
    shift = 5.0 * np.sin(2 * np.pi * time / draw.uniform(5, 9) + draw.uniform(0, 6.3))
    for _ in range(3):
        shift[int(draw.integers(count)) :] += draw.normal(0, 4)
    strength_there = 1 + 0.45 * strength * np.sin(2 * np.pi * time / draw.uniform(3, 5) + draw.uniform(0, 6.3))
    moved = np.exp(-2j * np.pi * np.fft.fftfreq(count) * shift * strength) * np.fft.ifftshift(strength_there)
    spectrum = np.fft.fft(lines, axis=0) * moved[:, None]
    return np.moveaxis(np.abs(np.fft.ifft(spectrum, axis=0)), 0, axis).astype(np.float32)


def _folded(pixels: F32, axis: int) -> F32:
    parts = np.split(pixels, 3, axis=axis)
    folded: F32 = np.sum(parts, axis=0, dtype=np.float32)
    return folded


def _striped(pixels: F32, strength: float, draw: np.random.Generator) -> F32:
    rows, columns = np.indices(pixels.shape)
    along, across = draw.uniform(0.08, 0.2, 2) * draw.choice((-1, 1), 2)
    stripes = np.cos(2 * np.pi * (along * rows + across * columns) + draw.uniform(0, 6.3))
    striped: F32 = np.abs(pixels + 0.2 * strength * stripes).astype(np.float32)
    return striped


def _metal(spine: Spine, fault: Fault, plane: Plane, pixels: F32) -> F32:
    """Void and pile-up: every signal is moved along the frequency axis by the field where it comes from."""
    points = plane.points()
    field = np.zeros(pixels.shape)
    inside = np.zeros(pixels.shape, bool)
    for level in fault.levels:
        for left, back in _SCREWS_MM:
            away = points - np.asarray(spine.place(spine.level_s(level), left, back))
            distance = np.maximum(np.linalg.norm(away, axis=-1), _SCREW_RADIUS_MM)
            inside |= distance <= _SCREW_RADIUS_MM
            along_field = away[..., 2] / distance  # B0 points to the head
            field += (3 * along_field**2 - 1) * (_SCREW_RADIUS_MM / distance) ** 3
    axis = 1 - TRAITS[fault.series].phase_axis
    shift = 30.0 * fault.strength * np.clip(field, -1.5, 1.5) / plane.pixel_mm * 0.6
    steep = np.hypot(*np.gradient(field)) / plane.pixel_mm
    signal = np.where(inside, 0.0, pixels * np.exp(-((6.0 * steep) ** 2)))
    lines, moves = np.moveaxis(signal, axis, 1), np.moveaxis(shift, axis, 1)
    count, width = lines.shape
    target = np.clip(np.rint(np.arange(width) + moves), 0, width - 1).astype(np.intp)
    piled = np.zeros((count, width))
    np.add.at(piled, (np.arange(count)[:, None], target), lines)
    return np.moveaxis(np.minimum(piled, 4.0), 1, axis).astype(np.float32)
