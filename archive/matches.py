"""Which matches of an archive answer the question that was asked.

Archives ignore keys that they do not support, and then answer with somebody else's study or image. A match counts only
if every study, series and SOP instance UID that was asked stands in it, and if it names what the level is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

UID_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_OWN_KEY = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}

# What pydicom was seen to raise when a value is looked at that is not what its VR allows.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The matches that count, and how many do not; which keys those others lack or answer otherwise."""

    matches: list[Dataset]
    foreign: int = 0
    ignored_keys: tuple[str, ...] = ()


def checked(question: Dataset, found: Sequence[Dataset]) -> Answer:
    """The matches of a question, each compared with what was asked."""
    asked = {keyword: value for keyword in UID_KEYS if (value := text(question, keyword))}
    own_key = _OWN_KEY[question.QueryRetrieveLevel]
    matches, ignored = [], set()
    for match in found:
        wrong = {keyword for keyword, value in asked.items() if text(match, keyword) != value}
        if not text(match, own_key):
            wrong.add(own_key)
        if wrong:
            ignored |= wrong
        else:
            matches.append(match)
    return Answer(
        matches=matches,
        foreign=len(found) - len(matches),
        ignored_keys=tuple(keyword for keyword in UID_KEYS if keyword in ignored),
    )


def text(dataset: Dataset, keyword: str) -> str:
    """A value's text without padding; empty when it is absent or cannot be read."""
    try:
        return str(dataset.get(keyword) or "").strip(" \t\r\n\0")
    except _MALFORMED:
        return ""
