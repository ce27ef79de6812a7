"""What a deliverer asks of an archive, whichever protocol it speaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from pydicom import Dataset

from cauda.core.settings import Destination
from cauda.worker.dimse import open_association
from cauda.worker.stow import open_web


class Archive(Protocol):
    """An archive that can be spoken to."""

    @property
    def can_find(self) -> bool:
        """Whether it answers questions about studies."""

    @property
    def takes(self) -> frozenset[str] | None:
        """The classes of objects that it negotiated; None where nothing is negotiated."""

    def find(self, question: Dataset) -> list[Dataset] | None:
        """The matches of a question (PS3.4 C.6.2); None where the archive cannot answer it."""

    def store(self, result: Dataset, content: bytes) -> str:
        """Send one object, its Part 10 file beside it; returns the archive's words beside a plain success.

        Rejected when it will never be taken, Unavailable when not now.
        """


@contextmanager
def open_archive(
    to: Destination, node_aet: str, sop_classes: Sequence[str], *, timeout_s: float
) -> Iterator[Archive]:  # fmt: skip
    """The archive behind a destination that is no folder, for questions and for objects of these classes."""
    if to.kind == "stow":
        with open_web(to, timeout_s=timeout_s) as web:
            yield web
    else:
        with open_association(to, to.calling_aet or node_aet, sop_classes, timeout_s=timeout_s) as peer:
            yield peer


def holds(archive: Archive, study_uid: str, series_uid: str, sop_uid: str) -> bool | None:
    """Whether the archive lists an object; None where it cannot say."""
    question = Dataset()
    question.QueryRetrieveLevel = "IMAGE"
    question.StudyInstanceUID, question.SeriesInstanceUID, question.SOPInstanceUID = study_uid, series_uid, sop_uid
    found = archive.find(question) if archive.can_find else None
    return None if found is None else any(str(match.get("SOPInstanceUID") or "") == sop_uid for match in found)
