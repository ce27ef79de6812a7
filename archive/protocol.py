"""An archive to ask and to send to, whichever protocol it speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from pydicom import Dataset
from pynetdicom.association import Association

from cauda.archive.dimse import open_dimse
from cauda.archive.web import open_web
from cauda.core.settings import Destination


class Archive(Protocol):
    """An archive that can be asked."""

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
    to: Destination, node_aet: str, sop_classes: Sequence[str], *, timeout_s: float,
    on_open: Callable[[Association], object] = lambda _: None,
) -> Iterator[Archive]:  # fmt: skip
    """The archive behind a destination that is no folder, for questions and for objects of these classes.

    ``on_open`` gets a DIMSE association once there is a connection, to abort it.
    """
    if to.kind == "stow":
        with open_web(to, timeout_s=timeout_s) as web:
            yield web
    else:
        calling_aet = to.calling_aet or node_aet
        with open_dimse(to, calling_aet, sop_classes, timeout_s=timeout_s, on_open=on_open) as peer:
            yield peer
