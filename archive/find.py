"""Questions about a study's series and images, by C-FIND or QIDO-RS, and what an answer says.

Every attribute of a match but the UIDs asked is optional (PS3.4 C.6.2.1 makes most of them so, and archives leave out
more).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from pydicom import Dataset

from cauda.archive.matches import UID_KEYS, Answer, text
from cauda.archive.protocol import Archive
from cauda.core import uids
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable


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

    Where it does not count the images of an MR series, or counts them twice in different ways, they are listed and
    counted.
    """
    question = question_of("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", Modality="",
                           SeriesDescription="", NumberOfSeriesRelatedInstances="")  # fmt: skip
    answer = _answered(archive, question)
    if answer.foreign and not answer.matches:
        keys = ", ".join(answer.ignored_keys)
        raise Unavailable(
            Reason.DESTINATION_BUSY, f"the archive answers about something else: it ignores or leaves out {keys}"
        )
    found: dict[str, ListedSeries] = {}
    for match in answer.matches:
        series = _series(match)
        known = found.setdefault(series.series_uid, series)
        if known.images != series.images:
            found[series.series_uid] = replace(known, images=None)
    return [_counted(archive, study_uid, one) if one.images is None else one for one in found.values()]


def images_of(archive: Archive, study_uid: str, series_uid: str) -> dict[str, str]:
    """SOP Instance UID to SOP Class UID (empty where it is not said) of a series; Unavailable as `series_of`."""
    question = question_of("IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID="",
                           SOPClassUID="")  # fmt: skip
    found = _answered(archive, question).matches
    return {text(match, "SOPInstanceUID"): text(match, "SOPClassUID") for match in found}


def class_of(archive: Archive, sop_uid: str) -> str | None:
    """The SOP Class UID (empty where it is not said) of one image by itself; None where it is not listed.

    The question is a relational one (PS3.4 C.4.1.2.2.1), which not every archive answers. An image that is listed in
    several studies is not known to be the one that is meant.
    """
    question = question_of("IMAGE", StudyInstanceUID="", SeriesInstanceUID="", SOPInstanceUID=sop_uid, SOPClassUID="")
    found = _answered(archive, question).matches
    studies = {study_uid for match in found if (study_uid := text(match, "StudyInstanceUID"))}
    if not found or len(studies) > 1:
        return None
    return next((kind for match in found if (kind := text(match, "SOPClassUID"))), "")


def studies_with(archive: Archive, sop_uid: str) -> Answer | None:
    """The studies that hold an image, one match each, whatever their UID; None where the archive cannot say."""
    answer = archive.ask(question_of("IMAGE", StudyInstanceUID="", SeriesInstanceUID="", SOPInstanceUID=sop_uid))
    if answer is None:
        return None
    studies = {study_uid: match for match in answer.matches if (study_uid := text(match, "StudyInstanceUID"))}
    return replace(answer, matches=[studies[study_uid] for study_uid in sorted(studies)])


def holds(archive: Archive, study_uid: str, series_uid: str, sop_uid: str) -> bool | None:
    """Whether the archive lists an object; None where it cannot say, and where it answers with other objects alone."""
    question = question_of("IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID=sop_uid)
    answer = archive.ask(question)
    if answer is None or (answer.foreign and not answer.matches):
        return None
    return bool(answer.matches)


def echoes_any_key(archive: Archive, keyword: str) -> bool:
    """Whether it answers as found what nobody can have: it ignores that key, and puts it into whatever it finds."""
    level = {"StudyInstanceUID": "STUDY", "SOPInstanceUID": "IMAGE"}[keyword]
    keys = dict.fromkeys(UID_KEYS if level == "IMAGE" else (), "")
    nobodys = uids.derived("nobody's", secrets.token_hex(16))
    return bool(archive.find(question_of(level, **keys | {keyword: nobodys})))


def _answered(archive: Archive, question: Dataset) -> Answer:
    answer = archive.ask(question)
    if answer is None:
        raise Unavailable(Reason.DESTINATION_BUSY, f"no answer to a question about {question.QueryRetrieveLevel}")
    return answer


def _series(match: Dataset) -> ListedSeries:
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
    names = {text(image, "SOPInstanceUID") for image in found or ()}
    return replace(series, images=len(names) or None)


def _number(dataset: Dataset, keyword: str) -> int | None:
    value = text(dataset, keyword)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 and int(value) > 0 else None
