"""Whose study is it in the archive (CLINICAL.md 25): asked before anything is sent there. Values are never logged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pydicom import Dataset
from pydicom.charset import convert_encodings, encode_string

from cauda.archive.find import echoes_any_key, question_of, studies_with
from cauda.archive.matches import text
from cauda.archive.protocol import Archive

# What decides, and in whose absence from the result nothing is claimed. An absent PatientID is a claim: an archive
# files the object under a patient of its own.
_DECIDING = ("PatientID", "IssuerOfPatientID", "AccessionNumber")
_CLAIMED_IF_EMPTY = ("PatientID",)
# In what several answers for one study are different patients.
_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
# What results copy from the archive with ``demographics = archive``.
_COPIED = (
    *_DECIDING, "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip


class Verdict(StrEnum):
    """What the archive knows of the study."""

    SAME = "same"
    OTHER = "other"
    ABSENT = "absent"
    UNKNOWN = "unknown"  # it cannot be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The verdict; with OTHER, which attributes differ and what the archive has (`stated`), which is patient data.

    ``archive`` is empty where it has the study more than once: no one can say which is right; it is `ambiguous` where
    those are different patients or studies. ``foreign`` counts matches that answer something that was not asked.
    """

    verdict: Verdict
    differing: tuple[str, ...] = ()
    archive: Mapping[str, str] = field(default_factory=dict, repr=False)
    ambiguous: bool = False
    foreign: int = 0


def check(
    peer: Archive, result: Dataset, source_sop_uid: str | None, ours: Collection[str] = (),
    accession_numbers: Callable[[], Collection[str]] = tuple,
) -> Check:  # fmt: skip
    """Look the study of a result up: by its Study UID, then by an image it was made from.

    ``ours`` are the Series UIDs of all our results: a study that holds nothing else there has lost its images.
    ``accession_numbers`` reads those of the study's images, of which there may be several.
    """
    uid = str(result.StudyInstanceUID)
    answer = peer.ask(_study(uid))
    if answer is None:
        return Check(verdict=Verdict.UNKNOWN)
    found, foreign, key = answer.matches, answer.foreign, "StudyInstanceUID"
    if found and _holds_only(peer, uid, ours):
        found = []
    if not found and source_sop_uid is not None:
        images = studies_with(peer, source_sop_uid)
        studies = [text(image, "StudyInstanceUID") for image in images.matches] if images else []
        foreign += images.foreign if images else 0
        key = "SOPInstanceUID"
        if len(studies) > 1 and not echoes_any_key(peer, key):
            return Check(verdict=Verdict.OTHER, differing=("StudyInstanceUID",), ambiguous=True)
        found = (peer.find(_study(studies[0])) or []) if len(studies) == 1 else []
    if not found:
        return Check(verdict=Verdict.ABSENT, foreign=foreign)
    archive = stated(found[0]) if len(found) == 1 else {}  # first: reading a value decodes it
    ambiguous = _ambiguous(found)
    differing = ambiguous or next(filter(None, (differences(result, one, accession_numbers) for one in found)), ())
    if not differing:
        return Check(verdict=Verdict.SAME)
    if echoes_any_key(peer, key):
        return Check(verdict=Verdict.ABSENT, foreign=foreign + len(found))
    return Check(verdict=Verdict.OTHER, differing=differing, archive=archive, ambiguous=bool(ambiguous))


def _holds_only(peer: Archive, study_uid: str, series_uids: Collection[str]) -> bool:
    """Whether the archive lists series of the study, and only these; an archive that lists none says nothing."""
    question = question_of("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="")
    listed = peer.find(question) if series_uids else None
    known = {text(match, "SeriesInstanceUID") for match in listed or ()}
    return bool(known) and known <= set(series_uids)


def _ambiguous(found: Sequence[Dataset]) -> tuple[str, ...]:
    """In which attributes several matches for one study are different patients."""
    return tuple(
        keyword for keyword in _PATIENT if len({value for match in found if (value := text(match, keyword))}) > 1
    )


def _study(uid: str) -> Dataset:
    """The question about a study, and what is compared or copied of the answer."""
    return question_of("STUDY", **dict.fromkeys(_COPIED, ""), StudyInstanceUID=uid)


def differences(
    result: Dataset, match: Dataset, accession_numbers: Callable[[], Collection[str]] = tuple
) -> tuple[str, ...]:
    """The attributes in which the archive's study is another one; what it does not say is unknown, not other.

    An accession number is right if it is one of the study's.
    """
    differing = []
    for keyword in ("StudyInstanceUID", *_DECIDING):
        ours, theirs = text(result, keyword), text(match, keyword)
        claimed = bool(ours) or keyword in _CLAIMED_IF_EMPTY
        if theirs and claimed and ours != theirs:
            differing.append(keyword)
    if "AccessionNumber" in differing and text(match, "AccessionNumber") in accession_numbers():
        differing.remove("AccessionNumber")
    return tuple(differing)


def stated(match: Dataset) -> dict[str, str]:
    """What the archive says of patient and study, as the ledger keeps it.

    Text that is not ASCII stays the bytes it was, a character each (Latin-1), beside its character set.
    """
    values = {
        keyword: match.get_item(keyword).value or b""
        for keyword in ("StudyInstanceUID", *_COPIED)
        if keyword in match and match.get_item(keyword).value
    }
    plain = {keyword: _bytes(value, match) for keyword, value in values.items()}
    kept = {keyword: value.decode("latin-1").rstrip(" \0") for keyword, value in plain.items()}
    if not all(value.isascii() for value in plain.values()):
        kept["SpecificCharacterSet"] = _character_set(match)
    return kept


def _bytes(value: object, match: Dataset) -> bytes:
    """As received; a value that somebody decoded already is encoded again."""
    if isinstance(value, bytes):
        return value
    return encode_string(str(value), convert_encodings(_character_set(match).split("\\") or [""]))


def _character_set(match: Dataset) -> str:
    value = match.get("SpecificCharacterSet") or ""
    return value if isinstance(value, str) else "\\".join(value)


def sample(sop_uids: Sequence[str]) -> str | None:
    """The image to ask for: any will do, always the same."""
    return min(sop_uids, default=None)
