"""The frames of a series by plane and contrast, from headers alone; the picture is asked later, and decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from pydicom import Dataset

from cauda.pipeline.exclusions import dixon_part, image_type, not_magnitude
from cauda.pipeline.frames import Frame, number, text
from cauda.pipeline.stacks import crowded, geometric_groups

APART = 1.15  # TE, TR or TI that differ by more than this factor are other contrasts; vendors round them
LEAST_FRAMES = 3  # of a part, on average: an attribute that differs from slice to slice tells no contrasts apart
REFORMATTED = {"MPR", "REFORMATTED", "MIP", "PROJECTION"}

# What tells frames of one place apart where no timing does, most telling first.
_TELLING = (
    "EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber", "ImageType", "TriggerTime",
    "SequenceName", "FlipAngle", "SeriesDescription", "AcquisitionTime",
)  # fmt: skip


def split(frames: Sequence[Frame]) -> list[list[Frame]]:
    """One list of frames for each plane and contrast of a series, in the order of their first frames.

    Matrix and pixel size and what makes a contrast (echo and repetition times, b-value, complex component, Dixon part)
    always divide; other attributes only where frames lie on top of each other. Frames that nothing divides stay
    together.
    """
    found = _divided(
        frames, lambda frame: (frame.plane, *_grid(frame), not_magnitude(frame.header), _kind(frame.header))
    )
    for keyword in ("EchoTime", "RepetitionTime", "InversionTime", "DiffusionBValue"):
        found = [part for group in found for part in _by_magnitude(group, keyword)]
    for keyword in _TELLING:
        found = [part for group in found for part in _told_apart(group, keyword)]
    place = {id(frame): index for index, frame in enumerate(frames)}
    return sorted(found, key=lambda group: min(place[id(frame)] for frame in group))


def _divided(frames: Iterable[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    parts: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[key(frame)].append(frame)
    return list(parts.values())


def _grid(frame: Frame) -> tuple[Hashable, ...]:
    row_mm, col_mm = frame.spacing
    return frame.shape, round(row_mm, 2), round(col_mm, 2)


def _kind(header: Dataset) -> tuple[Hashable, ...]:
    """What Image Type and sequence state of the kind of picture."""
    tokens = image_type(header)
    return (
        bool(tokens & REFORMATTED),
        dixon_part(header),
        bool(tokens & {"W", "WATER"}),
        bool(tokens & {"ADC", "TRACEW", "FA"}),
        text(header, "ScanningSequence"),
    )


def _by_magnitude(frames: list[Frame], keyword: str) -> list[list[Frame]]:
    """Groups of frames whose values are alike; what states none is a group of its own."""
    values = {id(frame): number(frame.header, keyword) or 0.0 for frame in frames}
    marks: dict[float, int] = {}
    previous = None
    for value in sorted(set(values.values())):
        alike = previous is not None and previous > 0 and value <= APART * previous
        marks[value] = marks[previous] if alike and previous is not None else len(marks)
        previous = value
    return _divided(frames, lambda frame: marks[values[id(frame)]])


def _told_apart(frames: list[Frame], keyword: str) -> list[list[Frame]]:
    """The parts by one attribute, if frames lie on top of each other and less so within its parts."""
    before = crowding(frames)
    if before == 0:
        return [frames]
    parts = _divided(frames, lambda frame: text(frame.header, keyword))
    if len(parts) == 1 or len(frames) < LEAST_FRAMES * len(parts) or sum(map(crowding, parts)) >= before:
        return [frames]
    return parts


def crowding(frames: Sequence[Frame]) -> int:
    """How many frames lie where another one does."""
    return sum(len(place) - 1 for group in geometric_groups(frames) for place in crowded(group))
