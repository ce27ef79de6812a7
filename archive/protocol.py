"""An archive to ask and to send to, whichever protocol it speaks; its answers are checked here, for every caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from pydicom import Dataset
from pynetdicom.association import Association

from cauda.archive.dimse import open_dimse
from cauda.archive.matches import Answer, checked
from cauda.archive.web import open_web
from cauda.core import log
from cauda.core.settings import Destination


class Transport(Protocol):
    """What speaks a protocol with an archive."""

    @property
    def can_find(self) -> bool:
        """Whether it answers questions about studies."""

    @property
    def takes(self) -> frozenset[str] | None:
        """The classes of objects that it negotiated; None where nothing is negotiated."""

    def find(self, question: Dataset) -> list[Dataset] | None:
        """Whatever it answers to a question (PS3.4 C.6.2); None where it cannot answer it."""

    def store(self, result: Dataset, content: bytes) -> str:
        """Send one object, its Part 10 file beside it; returns the archive's words beside a plain success.

        Rejected when it will never be taken, Unavailable when not now.
        """


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that can be asked; only what answers the question leaves it."""

    transport: Transport
    name: str
    _logged: set[str] = field(default_factory=set, repr=False)  # levels; one line each while it is open

    @property
    def can_find(self) -> bool:
        """Whether it answers questions about studies."""
        return self.transport.can_find

    @property
    def takes(self) -> frozenset[str] | None:
        """The classes of objects that it negotiated; None where nothing is negotiated."""
        return self.transport.takes

    def ask(self, question: Dataset) -> Answer | None:
        """The answer to a question, each match compared with the UIDs asked; None where it cannot be asked that."""
        found = self.transport.find(question) if self.can_find else None
        if found is None:
            return None
        answer = checked(question, found)
        level = str(question.QueryRetrieveLevel)
        if answer.foreign and level not in self._logged:
            self._logged.add(level)
            log.get("archive").warning("archive_ignores_keys", archive=self.name, level=level,
                                       keys=answer.ignored_keys, matches=answer.foreign)  # fmt: skip
        return answer

    def find(self, question: Dataset) -> list[Dataset] | None:
        """The matches that answer a question; None where it cannot be asked that."""
        answer = self.ask(question)
        return None if answer is None else answer.matches

    def store(self, result: Dataset, content: bytes = b"") -> str:
        """As `Transport.store`."""
        return self.transport.store(result, content)


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
            yield Archive(web, to.name)
    else:
        calling_aet = to.calling_aet or node_aet
        with open_dimse(to, calling_aet, sop_classes, timeout_s=timeout_s, on_open=on_open) as dimse:
            yield Archive(dimse, to.name)
