"""What is scanned: the series of an exam in the order in which they are made, and their planes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cauda.models.phantom import planes
from cauda.models.phantom.faults import Fault, scanned
from cauda.models.phantom.imaging import Plane, Spoil
from cauda.models.phantom.imaging import Sequence as Contrast
from cauda.models.phantom.kinds import DIXONS, TRAITS, Kind
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.vendor import Vendor

QUICK = (Kind.SAGITTAL_T2, Kind.SAGITTAL_T1, Kind.AXIAL_T2)  # the least that is graded with a second opinion
ROUTINE = (Kind.SURVEY, Kind.SAGITTAL_T2, Kind.SAGITTAL_T1, Kind.SAGITTAL_STIR, Kind.AXIAL_T2, Kind.AXIAL_T1)
FULL = (*ROUTINE, *DIXONS, Kind.SPACE, Kind.SPACE_AXIAL, Kind.SAGITTAL_T1_CONTRAST)

_SPACE_GAP_MM = 1.1
_REFORMATTED_MM = 3.0
_SURVEY_NUMBER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is scanned, by whom, and what goes wrong."""

    kinds: tuple[Kind, ...] = QUICK
    sagittal_slices: int = 15
    sagittal_spacing_mm: float = 4.4
    axial: Literal["blocks", "stack"] = "blocks"  # angled to each disc, or one straight stack
    axial_slices: int = 6  # in each of five angled blocks
    axial_spacing_mm: float = 4.0
    space_slices: int = 48
    coarse: int = 1  # pixels this many times as wide: quick to make, for tests of all but the pictures
    vendor: str = "siemens"
    enhanced: bool = False  # multi-frame objects, one a series
    companions: bool = False  # reports, key objects and captures in between
    syntax: str | None = None  # transfer syntax UID; the vendor's own without
    balanced: bool = False
    spoil: Spoil = field(default_factory=lambda: Spoil(flow=0.3, ghost=0.01))
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """ValueError where a series is to be reformatted from one that is not scanned."""
        if Kind.SPACE_AXIAL in self.kinds and Kind.SPACE not in self.kinds:
            raise ValueError(f"{Kind.SPACE_AXIAL} is reformatted from {Kind.SPACE}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """One series: its slices and how they are weighted. Series without faults share their planes."""

    number: int  # in the order of the exam, from 1
    kind: Kind
    planes: tuple[Plane, ...]
    contrast: Contrast
    faults: tuple[Fault, ...] = ()


def scans(spine: Spine, protocol: Protocol, vendor: Vendor) -> list[Scan]:
    """The series of an exam around a spine."""
    shared: dict[str, tuple[Plane, ...]] = {}
    found = []
    for place, kind in enumerate(kind for kind in protocol.kinds if kind is not Kind.SURVEY):
        found.append(_scan(spine, protocol, vendor, kind, place + 1 + _SURVEY_NUMBER, shared))
    if Kind.SURVEY in protocol.kinds:
        found.insert(0, _scan(spine, protocol, vendor, Kind.SURVEY, _SURVEY_NUMBER, shared))
    return found


def _scan(
    spine: Spine, protocol: Protocol, vendor: Vendor, kind: Kind, number: int, shared: dict[str, tuple[Plane, ...]]
) -> Scan:
    where = kind if kind in {Kind.SPACE, Kind.SPACE_AXIAL} else TRAITS[kind].plane
    if where not in shared:
        shared[where] = _planes(spine, protocol, kind)
    faults = tuple(fault for fault in protocol.faults if fault.series is kind)
    made: tuple[Plane, ...] = shared[where]
    for fault in faults:
        made = tuple(scanned(fault, spine, made))
    return Scan(number=number, kind=kind, planes=made, contrast=vendor.timed(TRAITS[kind].contrast), faults=faults)


def _planes(spine: Spine, protocol: Protocol, kind: Kind) -> tuple[Plane, ...]:
    coarse = protocol.coarse
    if kind is Kind.SURVEY:
        return planes.survey(spine, coarse=coarse)
    if kind is Kind.SPACE:
        return planes.sagittal(spine, protocol.space_slices, _SPACE_GAP_MM, planes.ISOTROPIC, coarse)
    if kind is Kind.SPACE_AXIAL:
        return planes.stack(spine, _REFORMATTED_MM, planes.ISOTROPIC, coarse)
    if TRAITS[kind].plane == "sagittal":
        return planes.sagittal(spine, protocol.sagittal_slices, protocol.sagittal_spacing_mm, coarse=coarse)
    if protocol.axial == "stack":
        return planes.stack(spine, protocol.axial_spacing_mm, coarse=coarse)
    return planes.blocks(spine, protocol.axial_slices, protocol.axial_spacing_mm, coarse=coarse)
