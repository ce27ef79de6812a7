"""An archive at its DICOMweb base URL: QIDO-RS and STOW-RS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from pydicom import Dataset

from cauda.archive import qido, stow
from cauda.archive.http_client import open_client
from cauda.core.settings import Destination


@dataclass(frozen=True, slots=True)
class WebArchive:
    """Every method raises as those of `dimse.DimseArchive` do."""

    client: httpx.Client
    base: str

    @property
    def can_find(self) -> bool:
        """Only asking shows it."""
        return True

    @property
    def takes(self) -> None:
        """STOW-RS negotiates nothing."""

    def find(self, question: Dataset) -> list[Dataset] | None:
        """The matches of a question as for C-FIND; None where the archive cannot answer it."""
        return qido.find(self.client, self.base, question)

    def store(self, result: Dataset, content: bytes) -> str:
        """Send one Part 10 file; returns the archive's words beside a plain success."""
        return stow.store(self.client, self.base, str(result.SOPInstanceUID), content)


@contextmanager
def open_web(to: Destination, *, timeout_s: float) -> Iterator[WebArchive]:
    """A client for the archive; nothing is asked yet."""
    with open_client(to, timeout_s=timeout_s) as client:
        yield WebArchive(client, str(to.base).rstrip("/"))
