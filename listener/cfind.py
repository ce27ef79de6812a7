"""What an archive holds of a study, asked in DICOM: C-FIND at SERIES level, and IMAGE level where it does not count.

Every attribute of an answer is optional (PS3.4 C.6.2.1 makes most of them so, and archives leave out more).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association

from cauda.core.asking import asking
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
MOST_MATCHES = 5000  # an archive that never ends its answer is no archive
_PENDING = {0xFF00, 0xFF01}

# What pydicom was seen to raise when a value is looked at that is not what its VR allows.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A series as the archive lists it; what it does not say is empty or None."""

    series_uid: str
    modality: str = ""
    description: str = ""
    images: int | None = None


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive with which an association is open; its answers are awaited until ``deadline`` (monotonic)."""

    association: Association
    deadline: Callable[[], float]

    def series(self, study_uid: str) -> list[Listed]:
        """The series of a study; none when it is not known there. Unavailable when the archive does not say."""
        found = []
        for match in self._find("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", Modality="",
                                SeriesDescription="", NumberOfSeriesRelatedInstances=""):  # fmt: skip
            one = listed(match, study_uid)
            if one is not None:
                found.append(one)
        return [self._counted(study_uid, one) if one.images is None else one for one in found]

    def images(self, *, study_uid: str = "", series_uid: str = "", sop_uid: str = "") -> dict[str, str]:
        """SOP Instance UID to SOP Class UID (empty where it is not said) of a series, or of one image by itself.

        Without study and series the question is a relational one (PS3.4 C.4.1.2.2.1), which not every archive answers.
        """
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        found = self._find(
            "IMAGE", SOPInstanceUID=sop_uid, SOPClassUID="", **{key: value for key, value in keys.items() if value}
        )
        listed = {text(one, "SOPInstanceUID"): text(one, "SOPClassUID") for one in found}
        return {uid: kind for uid, kind in listed.items() if uid and sop_uid in {"", uid}}

    def _counted(self, study_uid: str, series: Listed) -> Listed:
        if series.modality not in {"", "MR"}:
            return series
        try:
            images = self._find(
                "IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series.series_uid, SOPInstanceUID=""
            )
            names = {text(image, "SOPInstanceUID") for image in images} - {""}
        except Unavailable:
            if not self.association.is_established:
                raise
            return series  # it lists series, but does not look into them
        return replace(series, images=len(names) or None)

    def _find(self, level: str, **keys: str) -> Iterator[Dataset]:
        question = Dataset()
        question.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(question, keyword, value)
        until = self.deadline()
        for number, (status, match) in enumerate(self.association.send_c_find(question, STUDY_ROOT_FIND)):
            code = status.get("Status")
            if code is None:
                raise Unavailable(Reason.DESTINATION_BUSY, "no answer to C-FIND: broken off or timed out")
            if code not in _PENDING and code != 0:
                raise Unavailable(Reason.DESTINATION_BUSY, f"C-FIND answered status {int(code):04X}")
            if number > MOST_MATCHES or time.monotonic() > until:
                self.association.abort()  # the rest of the answer would be taken for the next one's
                raise Unavailable(Reason.DESTINATION_BUSY, "the answer to C-FIND does not end")
            if code in _PENDING and match is not None:
                yield match


def listed(match: Dataset, study_uid: str) -> Listed | None:
    """A match as a series; None when it names none, or one of another study."""
    if text(match, "StudyInstanceUID") not in {"", study_uid} or not text(match, "SeriesInstanceUID"):
        return None
    return Listed(
        series_uid=text(match, "SeriesInstanceUID"),
        modality=text(match, "Modality").upper(),
        description=text(match, "SeriesDescription"),
        images=_number(match, "NumberOfSeriesRelatedInstances"),
    )


def text(dataset: Dataset, keyword: str) -> str:
    """A value's text; empty when it is absent or cannot be read."""
    try:
        return str(dataset.get(keyword) or "").strip().strip("\0")
    except _MALFORMED:
        return ""


def _number(dataset: Dataset, keyword: str) -> int | None:
    try:
        value = int(dataset.get(keyword))  # absent, empty and malformed end alike
    except _MALFORMED:
        return None
    return value if value > 0 else None


@contextmanager
def open_archive(
    host: str, port: int, *, called: str, calling: str, timeout_s: float,
    tell: Callable[[Association], object] = lambda _: None,
) -> Iterator[Archive]:  # fmt: skip
    """An association for questions, released at the end; ``tell`` gets it as soon as there is one, to abort it.

    Unavailable when nobody answers, we are turned away, or no questions are taken.
    """
    ae = AE(ae_title=calling)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout_s
    ae.add_requested_context(STUDY_ROOT_FIND)

    def connected(event: Any) -> None:
        # a question is two small writes; without this the second waits for the first one's acknowledgement
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tell(event.assoc)

    association = asking(ae.associate(host, port, ae_title=called, evt_handlers=[(evt.EVT_CONN_OPEN, connected)]))
    try:
        if association.is_rejected:
            raise Unavailable(Reason.DESTINATION_REFUSED, "the archive rejects the association")
        if not association.is_established:
            raise Unavailable(Reason.DESTINATION_DOWN, "the archive is not there, or takes no C-FIND")
        yield Archive(association, lambda: time.monotonic() + 4 * timeout_s)
    finally:
        if association.is_established:
            association.release()
