"""How scanners and routers send a study over time: in how many associations, in what order, and what comes again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby

from pydicom import Dataset
from scipy import ndimage

from cauda.core import uids
from cauda.models.phantom.syntaxes import encoded, plain

_T2_ECHO_MS = 60.0
_RECONSTRUCTED = 500  # is added to the Series Number


class End(Enum):
    """How an association ends."""

    RELEASE = auto()
    ABORT = auto()
    NEVER = auto()  # it stays open as long as the sender runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """What is sent over one association."""

    images: tuple[Dataset, ...]
    pause: bool = False  # before it
    ends: End = End.RELEASE


Habit = Callable[[Sequence[Dataset]], list[Association]]


def study(images: Sequence[Dataset]) -> list[Association]:
    """All over one."""
    return [Association(images=tuple(images))]


def series(images: Sequence[Dataset]) -> list[Association]:
    """One a series, with a pause while the next one is scanned."""
    return [Association(images=tuple(one), pause=number > 0) for number, one in enumerate(_by_series(images))]


def image(images: Sequence[Dataset]) -> list[Association]:
    """One an image."""
    return [Association(images=(one,)) for one in images]


def unreleased(images: Sequence[Dataset]) -> list[Association]:
    """All over one that is never released, as routers do it."""
    return [Association(images=tuple(images), ends=End.NEVER)]


def shuffled(images: Sequence[Dataset]) -> list[Association]:
    """All over one, in no order."""
    mixed = list(images)
    random.Random(str(mixed[0].StudyInstanceUID)).shuffle(mixed)  # noqa: S311  no secret: the same study, the same order
    return study(mixed)


def resend(images: Sequence[Dataset]) -> list[Association]:
    """Everything, and everything again."""
    return [*study(images), Association(images=tuple(images), pause=True)]


def abort(images: Sequence[Dataset]) -> list[Association]:
    """A third, then an abort, then everything."""
    first = Association(images=tuple(images[: max(1, len(images) // 3)]), ends=End.ABORT)
    return [first, Association(images=tuple(images), pause=True)]


def late(images: Sequence[Dataset]) -> list[Association]:
    """The last T2 series, and what follows it, some time after the others."""
    parts = _by_series(images)
    at = max((place for place, one in enumerate(parts) if _is_t2(one[0])), default=0)
    before, after = parts[:at], parts[at:]
    return [
        Association(images=tuple(image for one in part for image in one), pause=part is after)
        for part in (before, after)
        if part
    ]


def correction(images: Sequence[Dataset]) -> list[Association]:
    """Everything, and again under the same UIDs with the patient's data corrected."""
    return [*study(images), Association(images=tuple(_corrected(one) for one in images), pause=True)]


def reconstruction(images: Sequence[Dataset]) -> list[Association]:
    """Everything, and later the last T2 series once more from the same raw data, smoother, as a series of its own."""
    again = [one for one in _by_series(images) if _is_t2(one[0])][-1:]
    return [*study(images), *(Association(images=tuple(map(_reconstructed, one)), pause=True) for one in again)]


HABITS: dict[str, Habit] = {
    "study": study,
    "series": series,
    "image": image,
    "unreleased": unreleased,
    "shuffled": shuffled,
    "resend": resend,
    "abort": abort,
    "late": late,
    "correction": correction,
    "reconstruction": reconstruction,
}
CHANGING = frozenset({"correction", "reconstruction"})  # send what is not in the study: for phantoms only


def _by_series(images: Sequence[Dataset]) -> list[list[Dataset]]:
    return [list(one) for _, one in groupby(images, key=lambda image: str(image.get("SeriesInstanceUID", "")))]


def _is_t2(image: Dataset) -> bool:
    """By its echo time, also in an Enhanced object's functional groups."""
    for groups in image.get("SharedFunctionalGroupsSequence") or ():
        return bool(groups.MREchoSequence[0].EffectiveEchoTime >= _T2_ECHO_MS)
    return float(image.get("EchoTime") or 0) >= _T2_ECHO_MS


def _corrected(image: Dataset) -> Dataset:
    copy = deepcopy(image)
    copy.PatientName = "PHANTOM^CAUDA^CORRECTED"
    copy.PatientID = f"{image.PatientID}-C"
    copy.AccessionNumber = f"{image.AccessionNumber}C"
    return copy


def _reconstructed(image: Dataset) -> Dataset:
    copy = plain(deepcopy(image))
    copy.SOPInstanceUID = uids.derived(str(image.SOPInstanceUID), "again")
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    copy.SeriesInstanceUID = uids.derived(str(image.SeriesInstanceUID), "again")
    copy.SeriesNumber = int(image.SeriesNumber) + _RECONSTRUCTED
    copy.SeriesDescription = f"{image.SeriesDescription} RETRO"
    copy.SeriesTime = copy.ContentTime = "235000"
    pixels = copy.pixel_array
    copy.PixelData = (
        ndimage.gaussian_filter(pixels, (0,) * (pixels.ndim - 2) + (0.8, 0.8)).astype(pixels.dtype).tobytes()
    )
    return encoded(copy, image.file_meta.TransferSyntaxUID)
