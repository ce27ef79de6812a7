"""An archive on an association: C-FIND and C-STORE (PS3.4 C, B).

Failures leave here as the two kinds of error there are: Rejected, the archive will never take it; Unavailable, another
time it may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag
from pynetdicom.association import Association

from cauda.archive.association import STUDY_ROOT_FIND, associated, contexts
from cauda.archive.store_status import Meaning, meaning
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable
from cauda.core.settings import Destination

_MOST_MATCHES = 10_000  # of a question about one study
_MOST_TAGS = 16  # of an answer, in its words
_PENDING = frozenset({0xFF00, 0xFF01})
_QUESTION_TIMEOUTS = 4  # an answer to C-FIND may take as many times the time that one message may take


@dataclass(frozen=True, slots=True)
class DimseArchive:
    """An archive with which an association is open."""

    association: Association
    timeout_s: float

    @property
    def can_find(self) -> bool:
        """Whether it answers questions about studies."""
        return any(context.abstract_syntax == STUDY_ROOT_FIND for context in self.association.accepted_contexts)

    @property
    def takes(self) -> frozenset[str]:
        """The classes of objects that it negotiated."""
        names = frozenset(str(context.abstract_syntax) for context in self.association.accepted_contexts)
        return names - {STUDY_ROOT_FIND}

    def find(self, question: Dataset) -> list[Dataset] | None:
        """The matches of a C-FIND; None where the archive cannot answer it."""
        until = time.monotonic() + _QUESTION_TIMEOUTS * self.timeout_s
        found = []
        for status, match in self.association.send_c_find(question, STUDY_ROOT_FIND):
            code = _code(status, "C-FIND")
            if code in _PENDING:
                if match is not None:
                    found.append(match)
                if len(found) > _MOST_MATCHES or time.monotonic() > until:
                    self.association.abort()  # the rest of the answer would be taken for the next one's
                    raise Unavailable(Reason.DESTINATION_BUSY, "the answer to C-FIND does not end")
            elif 0xA700 <= code <= 0xA7FF:
                raise Unavailable(Reason.DESTINATION_BUSY, f"C-FIND answered {_words(status)}")
            elif code != 0:
                return None
        return found

    def store(self, dataset: Dataset, _content: bytes = b"") -> str:
        """Send one object; returns the archive's words beside a plain success.

        Rejected when it will never be taken, Unavailable(destination_busy) when not now.
        """
        sop_class = dataset.SOPClassUID
        if not any(context.abstract_syntax == sop_class for context in self.association.accepted_contexts):
            raise Rejected(Reason.DESTINATION_REFUSED, f"SOP class not accepted: {sop_class.name}")
        status = self.association.send_c_store(dataset)
        code, words = _code(status, "C-STORE"), _words(status)
        match meaning(code):
            case Meaning.ACCEPTED:
                return "" if code == 0 else words
            case Meaning.PASSING:
                raise Unavailable(Reason.DESTINATION_BUSY, words)
            case Meaning.REFUSED:
                raise Rejected(Reason.DESTINATION_REFUSED, words)


@contextmanager
def open_dimse(
    to: Destination, calling_aet: str, sop_classes: Sequence[str], *, timeout_s: float,
    on_open: Callable[[Association], object] = lambda _: None,
) -> Iterator[DimseArchive]:  # fmt: skip
    """An association for questions and for objects of these classes, released at the end; raises as `associated`."""
    proposed = contexts((STUDY_ROOT_FIND, *sop_classes))
    with associated(to, calling_aet, proposed, timeout_s=timeout_s, on_open=on_open) as association:
        yield DimseArchive(association, timeout_s)


def _code(status: Dataset, what: str) -> int:
    if "Status" not in status:  # pynetdicom's sign of an abort, a time-out or nonsense
        raise Unavailable(Reason.DESTINATION_BUSY, f"no answer to {what}: the archive broke off or timed out")
    return int(status.Status)


def _words(status: Dataset) -> str:
    """What the archive says beside its status: its comment, and the attributes that it coerced or minded."""
    comment = str(status.get("ErrorComment") or "").strip()
    minded = status.get("OffendingElement") or ()
    tags = minded if isinstance(minded, Sequence) else (minded,)
    names = [keyword_for_tag(tag) or str(Tag(tag)) for tag in tags[:_MOST_TAGS]]
    text = "; ".join(part for part in (comment, ", ".join(names)) if part)
    return f"status {int(status.Status):04X}" + (f": {text}" if text else "")
