"""The series of a study and what their stacks may be used for, by geometry and headers: nothing is decoded here.

What is chosen is an acquisition: the frames of a series that have one plane and one contrast. A series in the report
is the sum of its acquisitions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydicom import Dataset

from cauda.core.domain import F64, Reason, SeriesRole, SeriesUse, StackUse
from cauda.core.errors import Rejected
from cauda.pipeline.acquisitions import APART, REFORMATTED, split
from cauda.pipeline.exclusions import exam_words, image_type, series_exclusion, series_text
from cauda.pipeline.frames import Frame, located, number, text
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import ReadVolumes
from cauda.pipeline.weighting import Weighting, timing, weighting

MIN_SLICES = 5  # fewer sagittal ones cannot show a canal from side to side, nor fewer axial ones five levels
LOCALIZER_SLICES = 10  # of each plane, where a series has all three

_MR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
}
_PLACED = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
_LEAST_WANTED = {Weighting.T2: 0, None: 1, Weighting.STIR: 2, Weighting.T1: 3, Weighting.PD: 4}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acquisition:
    """Frames of one plane and one contrast: chosen, and judged by picture, as one.

    They lie in one series, or in several that were planned as one: a series for each disc.
    """

    header: Dataset  # of the first frame
    frames: tuple[Frame, ...]
    plane: str
    weighting: Weighting | None
    reason: Reason | None  # why it cannot be used, by its headers
    members: tuple[Acquisition, ...] = ()  # what it was joined from

    @property
    def each(self) -> tuple[Acquisition, ...]:
        """Its members, each of one series; itself where it has none."""
        return self.members or (self,)

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

    @property
    def reformatted(self) -> bool:
        """Whether it was made from another acquisition: used only if there is nothing better."""
        return bool(image_type(self.header) & REFORMATTED)

    def use(self, reason: Reason | None = None, note: str = "") -> StackUse:
        """The line about it in the report."""
        reason = reason or self.reason
        role = SeriesRole.OTHER if self.reason else self.role
        return StackUse(role=role, plane=self.plane, slices=self.slices, reason=reason, note=note)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """One MR series: what it consists of, most wanted first."""

    uid: str
    header: Dataset  # of the most wanted acquisition
    acquisitions: tuple[Acquisition, ...]
    images: int
    left_out: Mapping[Reason, int] = field(default_factory=dict)  # frames without a usable geometry

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames that its headers do not forbid; all where they forbid every one."""
        wanted = [one for one in self.acquisitions if one.reason is None] or self.acquisitions
        return tuple(frame for one in wanted for frame in one.frames)

    @property
    def role(self) -> SeriesRole:
        """What its most wanted acquisition would be used for."""
        return self.acquisitions[0].role if self.acquisitions else SeriesRole.OTHER

    @property
    def reason(self) -> Reason | None:
        """Why it cannot be used, by its headers."""
        return self.acquisitions[0].reason if self.acquisitions else Reason.NO_GEOMETRY

    def use(self, uses: Mapping[Acquisition, StackUse] | None = None) -> SeriesUse:
        """The line about this series in the report; ``uses`` where its headers alone do not say."""
        lines = tuple((uses or {}).get(one) or one.use() for one in self.acquisitions)
        first = next((line for line in lines if line.reason is None), next(iter(lines), None))
        stated = number(self.header, "SeriesNumber")
        slices = sum(line.slices for line in lines)
        return SeriesUse(
            series_instance_uid=self.uid,
            role=first.role if first else SeriesRole.OTHER,
            slices=slices if first else self.images,
            reason=first.reason if first else Reason.NO_GEOMETRY,
            note=first.note if first else "",
            stacks=lines,
            series_number=None if stated is None else int(stated),
            images=slices + sum(self.left_out.values()),
            left_out=_summed([self.left_out, *(line.left_out for line in lines)]),
        )


def _summed(counts: Iterable[Mapping[Reason, int]]) -> dict[Reason, int]:
    total: Counter[Reason] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def is_mr(header: Dataset) -> bool:
    """Whether this is an MR image; old and anonymised files may lack the SOP class."""
    sop_class, modality = text(header, "SOPClassUID"), text(header, "Modality")
    if sop_class:
        return sop_class in _MR_CLASSES
    return modality in {"MR", ""} and bool(number(header, "Rows")) and any(keyword in header for keyword in _PLACED)


def series(images: Sequence[SourceImage]) -> list[Series]:
    """The MR series of a study, most wanted first; equal input in any order gives the same list."""
    groups: dict[str, list[SourceImage]] = defaultdict(list)
    for image in images:
        if is_mr(image.header):
            groups[text(image.header, "SeriesInstanceUID")].append(image)
    read = {uid: [located(image) for image in sorted(group, key=_order)] for uid, group in groups.items()}
    frames = {uid: [frame for one in each for frame in one.frames] for uid, each in read.items()}
    shared = shared_words(frames)
    found = [
        replace(_series(uid, group, frames[uid], shared), left_out=_summed(one.left_out for one in read[uid]))
        for uid, group in groups.items()
    ]
    return sorted(_latest_first(found), key=_rank)


def _latest_first(found: Sequence[Series]) -> list[Series]:
    """Latest first: a repeat was made for a reason."""
    return sorted(
        found, key=lambda one: (_time(one.header), number(one.header, "SeriesNumber") or 0, one.uid), reverse=True
    )


def _rank(one: Series) -> tuple[bool, tuple[bool, int]]:
    return one.reason is not None, preference(one.acquisitions[0]) if one.acquisitions else (True, len(_LEAST_WANTED))


def shared_words(located: Mapping[str, Sequence[Frame]]) -> frozenset[str]:
    """The words of Protocol Names that are the exam's and say nothing of one series."""
    return exam_words(
        [
            (Counter(frame.plane for frame in found).most_common(1)[0][0], text(found[0].header, "ProtocolName"))
            for found in located.values()
            if found
        ]
    )


def preference(one: Acquisition) -> tuple[bool, int]:
    """Smaller is better: acquired before reformatted, then T2, unknown, STIR, T1."""
    return one.reformatted, _LEAST_WANTED[one.weighting]


def wanted(found: Sequence[Series], plane: str) -> list[Acquisition]:
    """The acquisitions of one plane that headers do not forbid, most wanted first."""
    usable = [
        one for each in _latest_first(found) for one in each.acquisitions if one.reason is None and one.plane == plane
    ]
    return sorted(usable, key=preference)


def _series(uid: str, group: Sequence[SourceImage], located: Sequence[Frame], shared: Collection[str]) -> Series:
    localizer = _is_localizer(located)
    found = [_acquisition(part, shared, localizer=localizer) for part in split(located)]
    found.sort(key=lambda one: (one.reason is not None, *preference(one), -one.slices))
    header = found[0].header if found else min(group, key=_order).header
    return Series(uid=uid, header=header, acquisitions=tuple(found), images=len(group))


def _is_localizer(located: Sequence[Frame]) -> bool:
    """Whether a series is a few slices of several planes, whatever its words say."""
    planes = Counter(frame.plane for frame in located)
    few = {2: MIN_SLICES, 3: LOCALIZER_SLICES}.get(len(planes), 0)
    return all(count < few for count in planes.values()) and bool(planes)


def _acquisition(part: Sequence[Frame], shared: Collection[str], *, localizer: bool) -> Acquisition:
    header = part[0].header
    stated = series_text(header, shared)
    weighted = weighting(header, stated)
    plane = part[0].plane
    excluded = series_exclusion(header, stated) or (Reason.LOCALIZER if localizer else None)
    return Acquisition(
        header=header,
        frames=tuple(part),
        plane=plane,
        weighting=weighted,
        reason=excluded or _reason(plane, weighted, len(part)),
    )


def _order(image: SourceImage) -> tuple[float, str]:
    return number(image.header, "InstanceNumber") or 0.0, text(image.header, "SOPInstanceUID")


def _reason(plane: str, weighted: Weighting | None, slices: int) -> Reason | None:
    dark_fluid = {Weighting.PD} if plane == "sagittal" else {Weighting.PD, Weighting.T1}
    rules = (
        (Reason.OTHER_PLANE, plane == "coronal"),
        (Reason.NOT_T2, weighted in dark_fluid),
        (Reason.TOO_FEW_SLICES, plane == "sagittal" and slices < MIN_SLICES),
    )
    return next((reason for reason, applies in rules if applies), None)


def _time(header: Dataset) -> str:
    return text(header, "SeriesTime") or text(header, "AcquisitionTime")


def as_read(one: Acquisition, read: ReadVolumes) -> StackUse:
    """The line about an acquisition once it is decoded."""
    if read.problem is not None:
        note = f"{len(read.left_out)} of {one.slices} images: {read.problem.message}"
        return replace(one.use(read.problem.reason, note), left_out=read.counts)
    return replace(one.use(Reason.CONTRASTS_NOT_TOLD_APART if read.mixed else None), left_out=read.counts)


def unreadable(one: Acquisition, problem: Rejected) -> StackUse:
    """The line about an acquisition that is not decoded at all."""
    return replace(one.use(problem.reason, problem.message), left_out={problem.reason: one.slices})


def planned_as_one(found: Sequence[Acquisition]) -> list[Acquisition]:
    """Acquisitions of one contrast that show different parts of the spine, as one: a series for each disc.

    Each alone shows too little to be judged by picture. Those that show the same part stay apart: repeats.
    """
    joined: list[list[Acquisition]] = []
    for one in found:
        for group in joined:
            if all(alike(one, other) and not _overlap(one, other) for other in group):
                group.append(one)
                break
        else:
            joined.append([one])
    return [group[0] if len(group) == 1 else _joined(group) for group in joined]


def _joined(group: Sequence[Acquisition]) -> Acquisition:
    first = group[0]
    return Acquisition(
        members=tuple(group),
        header=first.header,
        frames=tuple(frame for one in group for frame in one.frames),
        plane=first.plane,
        weighting=first.weighting,
        reason=first.reason,
    )


def alike(one: Acquisition, other: Acquisition) -> bool:
    """Whether the headers of two acquisitions state one contrast."""
    stated = ("FrameOfReferenceUID", "ScanningSequence", "ScanOptions", "ContrastBolusAgent")
    return (
        preference(one) == preference(other)
        and all(text(one.header, keyword) == text(other.header, keyword) for keyword in stated)
        and all(_near(a, b) for a, b in zip(timing(one.header), timing(other.header), strict=True))
    )


def _near(a: float | None, b: float | None) -> bool:
    return a == b if not a or not b else max(a, b) <= APART * min(a, b)


def _overlap(one: Acquisition, other: Acquisition) -> bool:
    """Whether two axial acquisitions show the same part of the spine, by the heights of their images' centres."""
    (low, high), (other_low, other_high) = _heights(one), _heights(other)
    shared = min(high, other_high) - max(low, other_low)
    return shared >= max(0.0, 0.3 * min(high - low, other_high - other_low))


def _heights(one: Acquisition) -> tuple[float, float]:
    heights = [float(_centre(frame)[2]) for frame in one.frames]
    return min(heights), max(heights)


def _centre(frame: Frame) -> F64:
    rows, columns = frame.shape
    along_row = frame.right * frame.spacing[1] * (columns - 1) / 2
    return frame.position + along_row + frame.down * frame.spacing[0] * (rows - 1) / 2


def what_was_found(found: Sequence[Series]) -> str:
    """The acquisitions in words, for the person who asks why nothing was graded; no patient attribute."""
    if not found:
        return "no MR series"
    kinds = Counter(kind for one in found for kind in _kinds(one))
    return ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in sorted(kinds.items()))


def _kinds(one: Series) -> list[str]:
    if not one.acquisitions:
        return [f"MR without geometry ({one.images} images)"]
    return [_kind(each) for each in one.acquisitions]


def _kind(one: Acquisition) -> str:
    stated = " ".join(filter(None, (one.plane, one.weighting)))
    why = f", {one.reason.text}" if one.reason else ""
    return f"{stated} ({one.slices} slices{why})"
