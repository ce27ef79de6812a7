"""A whole synthetic study as a scanner would push it, with what is true of it (CLINICAL.md 33)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from cauda.core.domain import F32, Level, Point
from cauda.models.phantom import faults
from cauda.models.phantom.companions import companions
from cauda.models.phantom.dataset import Key, dataset, series_uid
from cauda.models.phantom.enhanced import enhanced
from cauda.models.phantom.grading import Measured, truth
from cauda.models.phantom.imaging import Plane, Spoil, personal, section, shown, tissue_signal
from cauda.models.phantom.kinds import Kind
from cauda.models.phantom.looks import Look, looked
from cauda.models.phantom.protocol import Protocol, Scan, scans
from cauda.models.phantom.reformat import reformatted
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.syntaxes import encoded
from cauda.models.phantom.threads import one_thread
from cauda.models.phantom.tissue import Labels
from cauda.models.phantom.vendors import VENDORS

__all__ = ["Protocol", "Study", "make_study"]

_THIN_MM = 2.0  # a thinner slice is drawn from one sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """The images in the order in which they are sent, and the truth."""

    images: list[Dataset]
    points_mm: dict[Level, Point]  # the middle of the canal at each disc
    truth: dict[Level, Measured]
    answers: dict[Level, faults.Answer]  # what is right to do with each level, given what went wrong
    kinds: dict[str, Kind]  # by Series Instance UID; where a series holds several, the first
    spine: Spine
    planes: dict[str, tuple[Plane, ...]]  # by SOP Instance UID, one a frame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """One plane and the series that show it."""

    spine: Spine
    plane: Plane  # as it is drawn: with wrap, wider than what is shown
    shown: Plane
    scans: tuple[Scan, ...]
    spoil: Spoil
    look: Look


def make_study(seed: int, number: int = 0, protocol: Protocol | None = None, *, threads: int = 2) -> Study:
    """A study whose pixels, UIDs and PatientID follow from seed, number, vendor and protocol alone."""
    protocol = protocol or Protocol()
    spine = sample_spine(seed * 1000 + number, balanced=protocol.balanced)
    vendor = VENDORS[protocol.vendor]
    planned = scans(spine, protocol, vendor)
    pixels = _pixels(spine, planned, protocol.spoil, vendor.look, threads)
    key = (protocol.vendor, str(seed), str(number))
    shot = [(image, planes) for scan in planned for image, planes in _images(scan, pixels[scan.kind], key, protocol)]
    made = [image for image, _ in shot]
    if protocol.companions:
        made = companions(made, key, vendor)
    return Study(
        images=made,
        points_mm={level: spine.canal_centre(level) for level in Level},
        truth={level: truth(spine, level) for level in Level},
        answers=faults.answers(protocol.faults),
        kinds={series_uid(scan.kind, key, vendor): scan.kind for scan in reversed(planned)},
        spine=spine,
        planes={str(image.SOPInstanceUID): planes for image, planes in shot},
    )


def _images(scan: Scan, pixels: Sequence[F32], key: Key, protocol: Protocol) -> list[tuple[Dataset, tuple[Plane, ...]]]:
    """A series' images in the order of sending, each with the planes of its frames."""
    vendor = VENDORS[protocol.vendor]
    if protocol.enhanced:
        made = [(enhanced(scan, pixels, key, vendor), scan.planes)]
    else:
        made = [
            (dataset(scan, place, plane, pixels[place], key, vendor), (plane,))
            for place, plane in enumerate(scan.planes)
        ]
        made.sort(key=lambda image: int(image[0].InstanceNumber))
    return [(encoded(image, protocol.syntax or vendor.syntax), planes) for image, planes in made]


def _pixels(spine: Spine, planned: Sequence[Scan], spoil: Spoil, look: Look, threads: int) -> dict[Kind, list[F32]]:
    """The pictures of every series, in the order of its planes."""
    jobs = list(_jobs(spine, [scan for scan in planned if scan.kind is not Kind.SPACE_AXIAL], spoil, look))
    with one_thread(), ThreadPoolExecutor(threads) as pool:  # what draws leaves the interpreter's lock alone
        drawn = list(pool.map(_draw, jobs))
    found: dict[Kind, list[F32]] = {scan.kind: [] for scan in planned}
    for job, pictures in zip(jobs, drawn, strict=True):
        for scan, picture in zip(job.scans, pictures, strict=True):
            found[scan.kind].append(picture)
    for scan in planned:
        if scan.kind is Kind.SPACE_AXIAL:
            source = next(one for one in planned if one.kind is Kind.SPACE)
            found[scan.kind] = [reformatted(source.planes, found[Kind.SPACE], plane) for plane in scan.planes]
    return found


def _jobs(spine: Spine, planned: Sequence[Scan], spoil: Spoil, look: Look) -> Iterator[_Job]:
    """One a plane, in the order of each series' planes; a plane that several series show is cut once."""
    seen: dict[int, list[tuple[Plane, Scan]]] = {}
    for scan in planned:
        for plane in scan.planes:
            seen.setdefault(id(plane), []).append((plane, scan))
    for found in seen.values():
        plane = found[0][0]
        wraps = [one for _, scan in found for one in scan.faults if one.what is faults.What.WRAP]
        wide = faults.drawn(wraps[0], plane) if wraps and faults.touches(wraps[0], spine, plane) else plane
        shots = tuple(scan for _, scan in found)
        yield _Job(spine=spine, plane=wide, shown=plane, scans=shots, spoil=spoil, look=look)


def _draw(job: _Job) -> list[F32]:
    sheets = section(job.spine, job.plane, parts=1 if job.plane.thickness_mm < _THIN_MM else 2)
    corner = [abs(int(v * 100)) for v in job.shown.corner]
    return [_picture(job, scan, sheets, corner) for scan in job.scans]


def _picture(job: _Job, scan: Scan, sheets: list[Labels], corner: list[int]) -> F32:
    draw = np.random.default_rng([job.spine.seed, *corner, zlib.crc32(scan.kind.encode())])
    spoil = looked(job.spoil, scan.kind, job.look)
    image = shown(job.spine, job.plane, sheets, tissue_signal(scan.contrast) * personal(job.spine), draw, spoil)
    plane = job.plane
    for fault in scan.faults:
        if faults.touches(fault, job.spine, plane):
            image = faults.spoiled(fault, job.spine, plane, image, draw)
            plane = job.shown if fault.what is faults.What.WRAP else plane
    return image
