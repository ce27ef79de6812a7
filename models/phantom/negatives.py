"""What is no lumbar spine: brain, thorax, neck and pelvis, made simply, sent under lumbar tags in lumbar series.

A node that grades one of these would grade anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pydicom import Dataset
from scipy import ndimage

from cauda.core.domain import F32, F64
from cauda.models.phantom.companions import companions
from cauda.models.phantom.dataset import dataset
from cauda.models.phantom.imaging import Plane
from cauda.models.phantom.noise import grain
from cauda.models.phantom.protocol import Protocol, scans
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.syntaxes import encoded
from cauda.models.phantom.vendors import VENDORS

_Painter = Callable[[F64, F64, int], F64]  # points (..., 3) around the centre, contrast T2 weight, seed -> signal


def _ball(points: F64, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> F64:
    """Below 1 inside an ellipsoid."""
    scaled: F64 = (((points - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1)
    return scaled


def _brain(points: F64, t2: F64, seed: int) -> F64:
    folds = grain(seed, points, 5.0)
    out = np.zeros(points.shape[:-1])
    out[_ball(points, (0, 0, 0), (85, 105, 92)) < 1] = 0.6  # scalp
    out[_ball(points, (0, 0, 0), (80, 100, 87)) < 1] = 0.05  # skull
    inside = _ball(points, (0, 0, 0), (73, 93, 80)) < 1
    out[inside] = np.where(folds > 0.9, 0.4 + 0.6 * t2, 0.55 - 0.15 * t2)[inside]
    for side in (-1, 1):
        out[_ball(points, (side * 14, -5, 12), (7, 34, 9)) < 1] = 0.2 + 0.8 * float(t2)
    return out


def _thorax(points: F64, t2: F64, seed: int) -> F64:
    out = np.zeros(points.shape[:-1])
    x, y, z = np.moveaxis(points, -1, 0)
    out[(x / 160) ** 2 + (y / 115) ** 2 < 1] = 0.7
    out[(x / 148) ** 2 + (y / 103) ** 2 < 1] = 0.3
    for side in (-1, 1):
        out[_ball(points, (side * 75, -15, 0), (62, 85, 150)) < 1] = 0.03  # lungs
    out[_ball(points, (-20, -45, -40), (50, 45, 60)) < 1] = 0.35 + 0.1 * grain(seed, points, 30.0)[0].mean()
    vertebra = (np.abs(x) < 16) & (np.abs(y - 55) < 15)
    out[vertebra] = np.where(np.abs((z % 24) - 12)[vertebra] < 9.5, 0.45, 0.15)  # thoracic bodies: 24 mm a step
    out[(x**2 + (y - 79) ** 2 < 8**2)] = 0.15 + 0.8 * float(t2)
    out[(x**2 + (y - 79) ** 2 < 4.5**2)] = 0.45
    return out


def _neck(points: F64, t2: F64, seed: int) -> F64:
    out = np.zeros(points.shape[:-1])
    x, y, z = np.moveaxis(points, -1, 0)
    bend = 8 * np.sin(z / 60)
    out[(x / 62) ** 2 + ((y - bend) / 62) ** 2 < 1] = 0.7
    out[(x / 55) ** 2 + ((y - bend) / 54) ** 2 < 1] = (
        0.3 + 0.05 * grain(seed, points, 12.0)[(x / 55) ** 2 + ((y - bend) / 54) ** 2 < 1]
    )
    body = (np.abs(x) < 9) & (np.abs(y - bend) < 8)
    out[body] = np.where(np.abs((z % 18) - 9)[body] < 6.8, 0.45, 0.15)  # cervical bodies: 18 mm a step
    out[(x**2 + (y - bend - 16) ** 2) < 7**2] = 0.15 + 0.8 * float(t2)
    out[(x / 6.5) ** 2 + ((y - bend - 16) / 4) ** 2 < 1] = 0.42
    out[_ball(points, (0, -32, 0), (9, 10, 120)) < 1] = 0.0  # airway
    return out


def _pelvis(points: F64, t2: F64, seed: int) -> F64:
    out = np.zeros(points.shape[:-1])
    x, y, _ = np.moveaxis(points, -1, 0)
    out[(x / 175) ** 2 + (y / 110) ** 2 < 1] = 0.75
    out[(x / 150) ** 2 + (y / 90) ** 2 < 1] = 0.3 + 0.06 * grain(seed, points, 18.0)[(x / 150) ** 2 + (y / 90) ** 2 < 1]
    out[_ball(points, (0, -40, -20), (45, 38, 40)) < 1] = 0.1 + 0.85 * float(t2)  # bladder
    for side in (-1, 1):
        out[_ball(points, (side * 95, 0, -50), (25, 25, 26)) < 1] = 0.5  # femoral heads
        out[_ball(points, (side * 80, 35, 55), (18, 45, 60)) < 1] = 0.48
    return out


KINDS: dict[str, _Painter] = {"brain": _brain, "thorax": _thorax, "neck": _neck, "pelvis": _pelvis}


def negative_study(kind: str, seed: int, number: int = 0, protocol: Protocol | None = None) -> list[Dataset]:
    """A study of ``kind`` (see `KINDS`) whose headers all say lumbar spine; KeyError for another kind.

    Its pixels, UIDs and Patient ID follow from kind, seed, number and vendor. Series, slices and transfer syntax are
    the protocol's; it has no faults, and one image an object.
    """
    protocol = protocol or Protocol(sagittal_slices=11, axial_slices=4)
    spine = sample_spine(seed * 1000 + number)  # only where the slices are planned
    vendor = VENDORS[protocol.vendor]
    paint = KINDS[kind]
    key = (kind, protocol.vendor, str(seed), str(number))
    made = [
        dataset(scan, place, plane, _picture(paint, plane, spine, scan.contrast.te), key, vendor)
        for scan in scans(spine, replace(protocol, faults=()), vendor)
        for place, plane in enumerate(scan.planes)
    ]
    images = [encoded(image, protocol.syntax or vendor.syntax) for image in made]
    return companions(images, key, vendor) if protocol.companions else images


def _picture(paint: _Painter, plane: Plane, spine: Spine, te: float) -> F32:
    draw = np.random.default_rng([spine.seed, *(abs(int(v * 100)) for v in plane.corner), int(te)])
    signal = paint(plane.points() - np.array(spine.centre), np.asarray(min(te / 100, 1.0)), spine.seed)
    blurred = ndimage.gaussian_filter(signal, 0.6)
    noisy: F32 = np.hypot(blurred + draw.normal(0, 0.015, blurred.shape), draw.normal(0, 0.015, blurred.shape)).astype(
        np.float32
    )
    return noisy
