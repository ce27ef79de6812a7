"""What names one image of a study to a reader: numbers where they are unique, else a location, else a rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import Dataset

from cauda.core.domain import F64
from cauda.pipeline.frames import Frame, frames, number, stated_frames, text
from cauda.pipeline.pictures import Place
from cauda.pipeline.source import SourceImage

SAME_MM = 0.1  # viewers show locations to a tenth of a millimetre
_FROM = {"sagittal": (np.array([1.0, 0.0, 0.0]), "right"), "coronal": (np.array([0.0, 1.0, 0.0]), "front")}
_FROM_HEAD = np.array([0.0, 0.0, -1.0]), "head"


def place_of(frame: Frame, images: Sequence[SourceImage]) -> Place:
    """Where a viewer shows a slice of the study."""
    headers = [image.header for image in images]
    own = frame.source.header
    series = text(own, "SeriesInstanceUID")
    by_series = _by_series(headers)
    stated = _whole(own, "SeriesNumber")
    named = [uid for uid, members in by_series.items() if stated == _whole(members[0], "SeriesNumber")]
    images_of = None if stated is not None and len(named) == 1 else len(by_series[series])
    other_counts = [len(by_series[uid]) for uid in named if uid != series]
    instance, shown = _whole(own, "InstanceNumber"), frame.ref.frame if stated_frames(own) > 1 else None
    twins = [
        image
        for image in images
        if text(image.header, "SeriesInstanceUID") == series
        and _whole(image.header, "InstanceNumber") == instance
        and (shown is None) == (stated_frames(image.header) == 1)
    ]
    alone = instance is not None and len(twins) == 1
    location = None if alone or shown is not None else _location(own, [image.header for image in twins])
    return Place(
        series_number=stated,
        instance_number=instance,
        frame=shown,
        location_mm=location,
        rank=None if alone or location is not None else _rank(frame, twins, shown),
        series_images=images_of,
        echo_ms=number(frame.header, "EchoTime") if images_of in other_counts else None,
    )


def _by_series(headers: Sequence[Dataset]) -> Mapping[str, list[Dataset]]:
    found: dict[str, list[Dataset]] = defaultdict(list)
    for header in headers:
        found[text(header, "SeriesInstanceUID")].append(header)
    return found


def _whole(header: Dataset, keyword: str) -> int | None:
    value = number(header, keyword)
    return None if value is None else int(value)


def _location(own: Dataset, twins: Sequence[Dataset]) -> float | None:
    """The Slice Location, if it tells an image from all others of its number."""
    mine = number(own, "SliceLocation")
    if mine is None:
        return None
    others = [number(one, "SliceLocation") for one in twins if one is not own]
    return mine if all(one is not None and abs(one - mine) >= SAME_MM for one in others) else None


def _rank(frame: Frame, twins: Sequence[SourceImage], shown: int | None) -> tuple[int, int, str] | None:
    """How many images of its number lie before this one, counted from the head, the right or the front."""
    axis, side = _FROM.get(frame.plane, _FROM_HEAD)
    alike = [one for image in twins for one in frames(image) if shown is None or one.ref.frame == shown]
    places = [float(axis @ _middle(one)) for one in alike]
    own = float(axis @ _middle(frame))
    return (1 + sum(place < own for place in places), len(places), side) if len(places) > 1 else None


def _middle(frame: Frame) -> F64:
    rows, columns = frame.shape
    across = frame.right * frame.spacing[1] * (columns - 1) / 2
    return np.asarray(frame.position + across + frame.down * frame.spacing[0] * (rows - 1) / 2, dtype=np.float64)
