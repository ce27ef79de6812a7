"""How scanners and routers send a study over time: plans of associations, what each carries, when, how it ends."""

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

# As on the wards; whoever carries a plan out may let it pass faster.
_NEXT_SERIES_S = 4 * 60.0  # a sequence is scanned
_RETRY_S = 60.0  # a scanner's queue after an association that failed
_RESEND_S = 10 * 60.0  # the technologist presses the button again
_LATE_S = 15 * 60.0  # the series is reconstructed while the patient leaves
_CORRECTION_S = 30 * 60.0  # the wrong patient is noticed
_RECONSTRUCTION_S = 60 * 60.0  # the radiologist, who has the report, asks for it
_HELD_S = 2 * 3600.0  # a router's association after the last image

_T2_ECHO_MS = 60.0
_RECONSTRUCTED = 500  # is added to the Series Number
_SMOOTH_PX = 0.8


class End(Enum):
    """How an association ends."""

    RELEASE = auto()
    ABORT = auto()
    NEVER = auto()  # by its sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """What is sent over one association."""

    images: tuple[Dataset, ...]
    after_s: float = 0.0  # since the one before ended
    ends: End = End.RELEASE
    held_s: float = 0.0  # how long one that is never released stays open after its last image


Plan = tuple[Association, ...]
Habit = Callable[[Sequence[Dataset]], Plan]


def study(images: Sequence[Dataset]) -> Plan:
    """All over one association."""
    return (Association(images=tuple(images)),)


def series(images: Sequence[Dataset]) -> Plan:
    """One association a series, minutes apart: each is sent when it has been scanned."""
    return tuple(
        Association(images=tuple(one), after_s=_NEXT_SERIES_S if number else 0.0)
        for number, one in enumerate(_by_series(images))
    )


def image(images: Sequence[Dataset]) -> Plan:
    """One association an image."""
    return tuple(Association(images=(one,)) for one in images)


def unreleased(images: Sequence[Dataset]) -> Plan:
    """All over one association that stays open for hours, as routers do it."""
    return (Association(images=tuple(images), ends=End.NEVER, held_s=_HELD_S),)


def shuffled(images: Sequence[Dataset]) -> Plan:
    """All over one association, in no order; the same study always in the same."""
    mixed = list(images)
    random.Random(str(mixed[0].StudyInstanceUID)).shuffle(mixed)  # noqa: S311  an order, no secret
    return study(mixed)


def resend(images: Sequence[Dataset]) -> Plan:
    """Everything, and everything again."""
    return (*study(images), Association(images=tuple(images), after_s=_RESEND_S))


def abort(images: Sequence[Dataset]) -> Plan:
    """A third, then an abort, then everything from the start."""
    first = Association(images=tuple(images[: max(1, len(images) // 3)]), ends=End.ABORT)
    return (first, Association(images=tuple(images), after_s=_RETRY_S))


def late(images: Sequence[Dataset]) -> Plan:
    """The last T2 series, and what follows it, long after the others."""
    parts = _by_series(images)
    at = max((place for place, one in enumerate(parts) if _is_t2(one[0])), default=0)
    if at == 0:
        return study(images)
    before, after = (tuple(image for one in part for image in one) for part in (parts[:at], parts[at:]))
    return (Association(images=before), Association(images=after, after_s=_LATE_S))


def correction(images: Sequence[Dataset]) -> Plan:
    """Everything, and again under the same UIDs with the patient's name, ID and accession number corrected."""
    return (*study(images), Association(images=tuple(map(_corrected, images)), after_s=_CORRECTION_S))


def reconstruction(images: Sequence[Dataset]) -> Plan:
    """Everything, and later the last T2 series once more from the same raw data, smoother, as a series of its own."""
    again = [one for one in _by_series(images) if _is_t2(one[0])][-1:]
    return (
        *study(images),
        *(Association(images=tuple(map(_reconstructed, one)), after_s=_RECONSTRUCTION_S) for one in again),
    )


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
CHANGING = frozenset({"correction", "reconstruction"})  # send what is not in the study: for test patients only


def _by_series(images: Sequence[Dataset]) -> list[list[Dataset]]:
    return [list(one) for _, one in groupby(images, key=lambda image: str(image.get("SeriesInstanceUID", "")))]


def _is_t2(image: Dataset) -> bool:
    """By its echo time, also in an Enhanced object's functional groups."""
    for groups in image.get("SharedFunctionalGroupsSequence") or ():
        for echo in groups.get("MREchoSequence") or ():
            return float(echo.get("EffectiveEchoTime") or 0) >= _T2_ECHO_MS
    return float(image.get("EchoTime") or 0) >= _T2_ECHO_MS


def _corrected(image: Dataset) -> Dataset:
    copy = deepcopy(image)
    copy.PatientName = "PHANTOM^CAUDA^CORRECTED"
    copy.PatientID = f"{image.PatientID}-C"
    copy.AccessionNumber = f"{image.get('AccessionNumber', '')}C"
    return copy


def _reconstructed(image: Dataset) -> Dataset:
    copy = plain(deepcopy(image))
    copy.SOPInstanceUID = uids.derived(str(image.SOPInstanceUID), "again")
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    copy.SeriesInstanceUID = uids.derived(str(image.SeriesInstanceUID), "again")
    copy.SeriesNumber = int(image.get("SeriesNumber") or 0) + _RECONSTRUCTED
    copy.SeriesDescription = f"{image.get('SeriesDescription', '')} RETRO"
    copy.SeriesTime = copy.ContentTime = "235000"
    pixels = copy.pixel_array
    smooth = ndimage.gaussian_filter(pixels, (0,) * (pixels.ndim - 2) + (_SMOOTH_PX, _SMOOTH_PX))
    copy.PixelData = smooth.astype(pixels.dtype).tobytes()
    return encoded(copy, image.file_meta.TransferSyntaxUID)
