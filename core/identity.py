"""What images state of their patient and their order, as digests that are compared inside one study.

What is absent or empty is unknown, never "another" (CLINICAL.md 4, 25): only two different stated values conflict.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from pydicom import Dataset

# Identity (CLINICAL.md 4), and every attribute that a result copies from its images.
IDENTITY = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
DEMOGRAPHICS = (
    *IDENTITY, "PatientName", "PatientSex", "AccessionNumber", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "ReferringPhysicianName", "SpecificCharacterSet",
)  # fmt: skip
_REMOVED = "PatientIdentityRemoved"
ATTRIBUTES = (*DEMOGRAPHICS, _REMOVED)
# What only a de-identified image states, also where its maker left the word itself out (PS3.3 C.7.1.1, C.12.1).
DEIDENTIFIED = (
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)
_WIDTH = 10  # characters of base64 for each attribute: 60 bits
_UNSTATED = "." * _WIDTH


def stated(dataset: Dataset, study_uid: str) -> str:
    """Digests of `ATTRIBUTES` in their order, ten characters each; dots where an attribute is not stated.

    The study's UID is part of each digest: nobody finds the same patient in two studies by them. Who states how an
    image was de-identified states that its patient's identity was removed, unless the image says the contrary.
    """
    values = {keyword: _text(dataset, keyword) for keyword in ATTRIBUTES}
    if not values[_REMOVED] and _is_deidentified(dataset):
        values[_REMOVED] = "YES"
    return "".join(_digest(study_uid, keyword, value) for keyword, value in values.items())


def is_anonymous(statement: str | None, study_uid: str) -> bool:
    """Whether an image states that its patient's identity was removed."""
    return statement is not None and states(statement, study_uid, _REMOVED, "YES")


def digest(dataset: Dataset, keywords: Iterable[str]) -> str:
    """One digest of several attributes; equal for absent and empty."""
    parts = [_text(dataset, keyword) for keyword in keywords]
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def conflict(statements: Iterable[str]) -> bool:
    """Whether images of one study state two different patient IDs, issuers or birth dates."""
    seen: list[set[str]] = [set() for _ in IDENTITY]
    for one in statements:
        for values, part in zip(seen, _parts(one), strict=False):
            values.add(part)
    return any(len(values - {_UNSTATED}) > 1 for values in seen)


def says_no_more(new: str, old: str) -> bool:
    """Whether whatever one image states is what another states, too; the other may state more."""
    return all(part in {_UNSTATED, before} for part, before in zip(_parts(new), _parts(old), strict=True))


def states(statement: str, study_uid: str, keyword: str, value: str) -> bool:
    """Whether an image states this value of one of `ATTRIBUTES`."""
    wanted = _digest(study_uid, keyword, _normal(keyword, value))
    return wanted != _UNSTATED and _parts(statement)[ATTRIBUTES.index(keyword)] == wanted


def _is_deidentified(dataset: Dataset) -> bool:
    method, codes, times = DEIDENTIFIED
    if codes in dataset and dataset.get_item(codes).value:  # not decoded: what is wrong in it refuses no image
        return True
    return bool(_text(dataset, method)) or _text(dataset, times) in {"REMOVED", "MODIFIED"}


def _parts(statement: str) -> list[str]:
    return [statement[at : at + _WIDTH] for at in range(0, len(statement), _WIDTH)]


def _digest(study_uid: str, keyword: str, value: str) -> str:
    if not value:
        return _UNSTATED
    content = f"{study_uid}\x1f{keyword}\x1f{value}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()[:_WIDTH]


def _text(dataset: Dataset, keyword: str) -> str:
    return _normal(keyword, str(dataset.get(keyword) or ""))


def _normal(keyword: str, value: str) -> str:
    """Without padding and repeated blanks; a date without the dots of old standards, and none where it is all zeros."""
    text = " ".join(value.replace("\0", " ").split())
    if keyword.endswith("Date"):
        text = text.replace(".", "")
        return "" if not text.strip("0") else text
    return text if text.strip("^=\\ ") else ""
