"""The series of a study and what each may be used for, by geometry and headers alone: nothing is decoded here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from cauda.core.domain import Reason, SeriesRole, SeriesUse
from cauda.pipeline.exclusions import dixon_part, series_exclusion
from cauda.pipeline.frames import Frame, frames, number, text
from cauda.pipeline.source import SourceImage
from cauda.pipeline.stacks import Stack, stacks
from cauda.pipeline.weighting import Weighting, weighting

MIN_SLICES = 5  # fewer cannot show five levels, nor a canal from side to side

_MR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
}
_LEAST_WANTED = {Weighting.T2: 0, None: 1, Weighting.STIR: 2, Weighting.T1: 3, Weighting.PD: 4}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """One MR series: its frames in space and what its headers say."""

    uid: str
    header: Dataset  # of the first image; series attributes are the same in all
    frames: tuple[Frame, ...]
    stacks: tuple[Stack, ...]
    plane: str | None
    weighting: Weighting | None
    reason: Reason | None  # why it cannot be used, by its headers

    @property
    def slices(self) -> int:
        """How many slices it has."""
        return len(self.frames)

    @property
    def role(self) -> SeriesRole:
        """What it would be used for."""
        if self.plane == "axial" and self.weighting in {Weighting.T2, Weighting.STIR, None}:
            return SeriesRole.AXIAL_T2
        if self.plane == "sagittal" and self.weighting is Weighting.T1:
            return SeriesRole.SAGITTAL_T1
        if self.plane == "sagittal" and self.weighting is not Weighting.PD:
            return SeriesRole.SAGITTAL_T2
        return SeriesRole.OTHER

    def use(self, reason: Reason | None = None, note: str = "") -> SeriesUse:
        """The line about this series in the report."""
        reason = reason or self.reason
        role = SeriesRole.OTHER if self.reason else self.role
        return SeriesUse(series_instance_uid=self.uid, role=role, slices=self.slices, reason=reason, note=note)


def is_mr(header: Dataset) -> bool:
    """Whether this is an MR image; old and anonymised files may lack the SOP class."""
    sop_class, modality = text(header, "SOPClassUID"), text(header, "Modality")
    if sop_class:
        return sop_class in _MR_CLASSES
    return modality in {"MR", ""} and bool(number(header, "Rows")) and "ImageOrientationPatient" in header


def series(images: Sequence[SourceImage]) -> list[Series]:
    """The MR series of a study, most wanted first; equal input in any order gives the same list."""
    groups: dict[str, list[SourceImage]] = defaultdict(list)
    for image in images:
        if is_mr(image.header):
            groups[text(image.header, "SeriesInstanceUID")].append(image)
    found = [_series(uid, group) for uid, group in groups.items()]
    # Latest first among equals: the repeat was made for a reason.
    found.sort(key=lambda one: (_time(one.header), number(one.header, "SeriesNumber") or 0), reverse=True)
    return sorted(found, key=lambda one: (one.reason is not None, *preference(one)))


def preference(one: Series) -> tuple[bool, int]:
    """Smaller is better: acquired before reformatted, then T2, unknown, STIR, T1."""
    return _mpr(one.header), _LEAST_WANTED[one.weighting]


def _series(uid: str, group: Sequence[SourceImage]) -> Series:
    group = sorted(group, key=_order)
    located = _useful(tuple(frame for image in group for frame in frames(image)))
    found = tuple(stacks(located)) if located else ()
    planes = Counter[str]()
    for stack in found:
        planes[stack.plane] += len(stack.frames)
    plane = planes.most_common(1)[0][0] if planes else None
    header = located[0].source.header if located else group[0].header
    weighted = weighting(header)
    return Series(
        uid=uid,
        header=header,
        frames=located,
        stacks=found,
        plane=plane,
        weighting=weighted,
        reason=_reason(header, planes, plane, weighted),
    )


def _order(image: SourceImage) -> tuple[float, str]:
    return number(image.header, "InstanceNumber") or 0.0, text(image.header, "SOPInstanceUID")


def _useful(located: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Without the fat and opposed-phase images of a Dixon sequence that sends all in one series."""
    return tuple(frame for frame in located if not dixon_part(frame.variant[0])) or located


def _reason(header: Dataset, planes: Counter[str], plane: str | None, weighted: Weighting | None) -> Reason | None:
    if plane is None:
        return Reason.NO_GEOMETRY
    slices = planes.total()
    dark_fluid = {Weighting.PD} if plane == "sagittal" else {Weighting.PD, Weighting.T1}
    rules = (
        (Reason.LOCALIZER, planes[plane] < 0.7 * slices),  # three planes in one series
        (Reason.OTHER_PLANE, plane == "coronal"),
        (Reason.NOT_T2, weighted in dark_fluid),
        (Reason.TOO_FEW_SLICES, slices < MIN_SLICES),
    )
    return series_exclusion(header) or next((reason for reason, applies in rules if applies), None)


def _mpr(header: Dataset) -> bool:
    """Reformatted from another acquisition: used only if there is nothing better."""
    return bool({"MPR", "REFORMATTED", "MIP", "PROJECTION"} & set(text(header, "ImageType").upper().split()))


def _time(header: Dataset) -> str:
    return text(header, "SeriesTime") or text(header, "AcquisitionTime")


def what_was_found(found: Sequence[Series]) -> str:
    """The series in words, for the person who asks why nothing was graded; no patient attribute."""
    if not found:
        return "no MR series"
    kinds = Counter(_kind(one) for one in found)
    return ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in sorted(kinds.items()))


def _kind(one: Series) -> str:
    said = " ".join(filter(None, (one.plane, one.weighting))) or "MR without geometry"
    why = f", {one.reason.text}" if one.reason else ""
    return f"{said} ({one.slices} slices{why})"
