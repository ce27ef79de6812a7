"""Questions about a study's series and images, by C-FIND or QIDO-RS, and what an answer says.

Every attribute of an answer is optional (PS3.4 C.6.2.1 makes most of them so, and archives leave out more).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydicom import Dataset

from cauda.archive.protocol import Archive
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable

# What pydicom was seen to raise when a value is looked at that is not what its VR allows.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSeries:
    """A series as the archive lists it; what it does not say is empty or None."""

    series_uid: str
    modality: str = ""
    description: str = ""
    images: int | None = None


def question_of(level: str, **keys: str) -> Dataset:
    """The identifier of a question; an empty key asks for the value."""
    question = Dataset()
    question.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    return question


def series_of(archive: Archive, study_uid: str) -> list[ListedSeries]:
    """The series of a study; none when it is not known there. Unavailable when the archive does not say.

    Where it does not count the images of an MR series they are listed and counted.
    """
    question = question_of("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", Modality="",
                           SeriesDescription="", NumberOfSeriesRelatedInstances="")  # fmt: skip
    found = [series for match in _answered(archive, question) if (series := _series(match, study_uid)) is not None]
    return [_counted(archive, study_uid, series) if series.images is None else series for series in found]


def images_of(
    archive: Archive, *, study_uid: str = "", series_uid: str = "", sop_uid: str = ""
) -> dict[str, str]:  # fmt: skip
    """SOP Instance UID to SOP Class UID (empty where it is not said) of a series, or of one image by itself.

    Without study and series the question is a relational one (PS3.4 C.4.1.2.2.1), which not every archive answers.
    """
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    question = question_of(
        "IMAGE", SOPInstanceUID=sop_uid, SOPClassUID="", **{key: value for key, value in keys.items() if value}
    )
    listed = {text(match, "SOPInstanceUID"): text(match, "SOPClassUID") for match in _answered(archive, question)}
    return {uid: kind for uid, kind in listed.items() if uid and sop_uid in {"", uid}}


def holds(archive: Archive, study_uid: str, series_uid: str, sop_uid: str) -> bool | None:
    """Whether the archive lists an object; None where it cannot say."""
    question = question_of("IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID=sop_uid)
    found = archive.find(question) if archive.can_find else None
    return None if found is None else any(text(match, "SOPInstanceUID") == sop_uid for match in found)


def text(dataset: Dataset, keyword: str) -> str:
    """A value's text; empty when it is absent or cannot be read."""
    try:
        return str(dataset.get(keyword) or "").strip().strip("\0")
    except _MALFORMED:
        return ""


def _answered(archive: Archive, question: Dataset) -> list[Dataset]:
    found = archive.find(question) if archive.can_find else None
    if found is None:
        raise Unavailable(Reason.DESTINATION_BUSY, f"no answer to a question about {question.QueryRetrieveLevel}")
    return found


def _series(match: Dataset, study_uid: str) -> ListedSeries | None:
    """A match as a series; None when it names none, or one of another study."""
    if text(match, "StudyInstanceUID") not in {"", study_uid} or not text(match, "SeriesInstanceUID"):
        return None
    return ListedSeries(
        series_uid=text(match, "SeriesInstanceUID"),
        modality=text(match, "Modality").upper(),
        description=text(match, "SeriesDescription"),
        images=_number(match, "NumberOfSeriesRelatedInstances"),
    )


def _counted(archive: Archive, study_uid: str, series: ListedSeries) -> ListedSeries:
    if series.modality not in {"", "MR"}:
        return series
    found = archive.find(
        question_of("IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series.series_uid, SOPInstanceUID="")
    )
    names = {text(image, "SOPInstanceUID") for image in found or ()} - {""}
    return replace(series, images=len(names) or None)


def _number(dataset: Dataset, keyword: str) -> int | None:
    try:
        value = int(dataset.get(keyword))  # absent, empty and malformed end alike
    except _MALFORMED:
        return None
    return value if value > 0 else None
