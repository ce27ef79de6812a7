"""Where each frame lies in the patient, from headers alone: classic images and Enhanced functional groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset

from cauda.core.domain import F64, Reason, SliceRef
from cauda.pipeline.source import SourceImage

MAX_SIDE = 4096  # larger matrices are no MR slice; they would only cost memory
MAX_FRAMES = 4096
MIN_SIDE = 32
STEEPEST_AXIAL = 0.42  # cosine of 65 degrees, between slice normal and the table's long axis


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One slice as the header describes it. ``right`` points along a row, ``down`` along a column (LPS, unit)."""

    source: SourceImage
    ref: SliceRef
    position: F64  # (3,) centre of the first pixel, mm
    right: F64
    down: F64
    spacing: tuple[float, float]  # (row, column): between rows, between columns, mm
    shape: tuple[int, int]
    slope: float
    intercept: float
    gap_mm: float | None  # spacing between slices as the header says it
    header: Dataset  # what is stated of this frame: the image's attributes, and over them its functional groups'

    @property
    def normal(self) -> F64:
        """The slice normal."""
        return np.cross(self.right, self.down)

    @property
    def plane(self) -> str:
        """``sagittal``, ``coronal`` or ``axial``: by the slice normal, see ``plane_of``."""
        return plane_of(self.normal)


def plane_of(normal: F64) -> str:
    """The plane of a unit slice normal (LPS). A block angled to L5/S1 leans up to 65 degrees and is axial all the same.

    What leans so far is judged again by the spine's own direction when it is graded.
    """
    across, _, along = np.abs(normal)
    if across >= np.abs(normal).max():
        return "sagittal"
    return "axial" if along >= STEEPEST_AXIAL else "coronal"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Located:
    """The frames of one instance that have a usable geometry, and how many have none, by what they lack."""

    frames: tuple[Frame, ...]
    left_out: Mapping[Reason, int]


def frames(image: SourceImage) -> list[Frame]:
    """The frames of an instance that have a usable geometry; empty where none has, whatever the header holds."""
    return list(located(image).frames)


def located(image: SourceImage) -> Located:
    """Every frame of an instance, with its place or without, whatever the header holds."""
    try:
        found = list(_frames(image))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, IndexError, NotImplementedError):
        # pydicom converts elements on access and raises any of these on hostile values
        found = [Reason.NO_GEOMETRY] * stated_frames(image.header)
    return Located(
        frames=tuple(one for one in found if isinstance(one, Frame)),
        left_out=Counter(one for one in found if isinstance(one, Reason)),
    )


def stated_frames(header: Dataset) -> int:
    """How many frames a header states; 1 where it states none, or more than any MR image has."""
    count = int(number(header, "NumberOfFrames") or 1)
    return count if 1 <= count <= MAX_FRAMES else 1


def number(dataset: Dataset, keyword: str) -> float | None:
    """A finite number, or None for an attribute that is absent, empty or no number."""
    try:
        value = dataset.get(keyword)
        value = float(value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, OverflowError):
        return None
    return value if np.isfinite(value) else None


def text(dataset: Dataset, keyword: str) -> str:
    """An attribute as text, values joined by blanks; empty when absent or unreadable."""
    try:
        value = dataset.get(keyword)
    except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError):
        return ""
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    try:
        return " ".join(str(part) for part in value)
    except TypeError:
        return str(value)


def _frames(image: SourceImage) -> Iterator[Frame | Reason]:
    header = image.header
    count = stated_frames(header)
    if (number(header, "SamplesPerPixel") or 1) != 1 or count != int(number(header, "NumberOfFrames") or 1):
        yield from [Reason.NOT_A_SLICE] * count
        return
    enhanced = header.get("PerFrameFunctionalGroupsSequence")
    if not enhanced:
        if count == 1:
            yield _frame(image, 1, header, header, header, header, header)
        else:
            yield from [Reason.NO_POSITION] * count
        return
    shared = _first(header.get("SharedFunctionalGroupsSequence"))
    stated = _StatedAttributes(header)
    for index, item in enumerate(list(enhanced)[:count]):

        def group(keyword: str, item: Dataset = item) -> Dataset:
            return _first(item.get(keyword)) or _first(shared.get(keyword))

        yield _frame(
            image,
            index + 1,
            group("PlanePositionSequence"),
            group("PlaneOrientationSequence"),
            group("PixelMeasuresSequence"),
            group("PixelValueTransformationSequence"),
            stated.of_frame(group),
        )
    yield from [Reason.NO_POSITION] * (count - len(enhanced))


def _first(sequence: Any) -> Dataset:
    return sequence[0] if sequence else Dataset()


# Where a functional group (PS3.3 C.7.6.16, C.8.13.5) holds what a classic image states at its top: group, its
# attribute, the classic one's name.
_GROUPED = (
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRTimingAndRelatedParametersSequence", "RepetitionTime", "RepetitionTime"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRImageFrameTypeSequence", "FrameType", "ImageType"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent", "ComplexImageComponent"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
)
_FUNCTIONAL_GROUPS = 0x52000000  # from here on: the functional groups, overlays and pixels
_CONVERTED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")


class _StatedAttributes:
    """The attributes of each frame of a multi-frame image as one flat data set; equal ones are made once."""

    def __init__(self, header: Dataset) -> None:
        self._image = header
        self._known: dict[str, Dataset] = {}

    def of_frame(self, group: Callable[[str], Dataset]) -> Dataset:
        """What the image states, with what the frame's functional groups state over it."""
        stated = Dataset()
        for sequence in _CONVERTED:
            stated.update(group(sequence))
        for sequence, keyword, classic in _GROUPED:
            value = group(sequence).get(keyword)
            if value not in (None, ""):
                setattr(stated, classic, value)
        key = "\n".join(f"{element.tag} {element.value}" for element in stated)
        if key not in self._known:
            flat: Dataset = self._image[:_FUNCTIONAL_GROUPS]
            flat.update(stated)
            self._known[key] = flat
        return self._known[key]


def _frame(
    image: SourceImage,
    number_: int,
    place: Dataset,
    orientation: Dataset,
    measures: Dataset,
    values: Dataset,
    stated: Dataset,
) -> Frame | Reason:
    header = image.header
    for dataset, keyword, lacking in (
        (place, "ImagePositionPatient", Reason.NO_POSITION),
        (orientation, "ImageOrientationPatient", Reason.NO_ORIENTATION),
        (measures, "PixelSpacing", Reason.NO_PIXEL_SIZE),
    ):
        if dataset.get(keyword) in (None, ""):
            return lacking
    position = _vector(place.get("ImagePositionPatient"), 3)
    cosines = _vector(orientation.get("ImageOrientationPatient"), 6)
    spacing = _vector(measures.get("PixelSpacing"), 2)
    rows, columns = number(header, "Rows"), number(header, "Columns")
    if rows is None or columns is None or not (min(rows, columns) >= MIN_SIDE and max(rows, columns) <= MAX_SIDE):
        return Reason.NOT_A_SLICE
    if position is None or cosines is None or spacing is None:
        return Reason.NO_GEOMETRY
    right, down = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(right), np.linalg.norm(down)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(float(right @ down)) > 0.02:
        return Reason.NO_GEOMETRY
    if not (spacing.min() >= 0.05 and spacing.max() <= 10 and np.abs(position).max() < 1e5):
        return Reason.NO_GEOMETRY
    slope = number(values, "RescaleSlope")
    gap = number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness")
    instance = number(header, "InstanceNumber")
    return Frame(
        source=image,
        ref=SliceRef(
            sop_instance_uid=text(header, "SOPInstanceUID"),
            sop_class_uid=text(header, "SOPClassUID"),
            frame=number_,
            instance_number=None if instance is None else int(instance),
        ),
        position=position,
        right=right / lengths[0],
        down=down / lengths[1],
        spacing=(float(spacing[0]), float(spacing[1])),
        shape=(int(rows), int(columns)),
        slope=1.0 if slope in {None, 0.0} else float(slope or 1.0),
        intercept=number(values, "RescaleIntercept") or 0.0,
        gap_mm=abs(gap) if gap else None,
        header=stated,
    )


def _vector(value: Any, length: int) -> F64 | None:
    if value is None or isinstance(value, (str, float, int)) or len(value) != length:
        return None
    vector = np.asarray([float(part) for part in value], dtype=np.float64)
    return vector if np.isfinite(vector).all() else None
