"""What can go wrong, drawn once, and the one table from error to protocol answer.

    CaudaError
    +-- Rejected       the input's fault; never retried
    +-- Unavailable    the world's fault; retried later
    +-- Misconfigured  the operator's to mend; the process does not start

Anything else that is raised is a bug: FAILED with a stack, never "rejected".
Messages name the thing and what to do, and never a patient.
"""

from __future__ import annotations

from dataclasses import dataclass

from cauda.core.domain import Reason


class CaudaError(Exception):
    """The root: a reason from the closed enum and a sentence for the person who reads the log."""

    def __init__(self, reason: Reason, message: str = "") -> None:
        """``message`` is ASCII and free of patient data; it may reach a peer."""
        super().__init__(message or reason.text)
        self.reason = reason
        self.message = message or reason.text

    def __reduce__(self) -> tuple[type[CaudaError], tuple[Reason, str]]:
        """Errors cross process borders."""
        return type(self), (self.reason, self.message)


class Rejected(CaudaError):
    """The input cannot be used as it is; trying again changes nothing."""


class Unavailable(CaudaError):
    """Something outside is not there now; trying again later may help."""


class Misconfigured(CaudaError):
    """A setting, a model or an installation is wrong; the message names the key and what is allowed."""

    def __init__(self, message: str, reason: Reason = Reason.MISCONFIGURED) -> None:
        """Most of these share one reason; the message carries the key."""
        super().__init__(reason, message)

    def __reduce__(self) -> tuple[type[CaudaError], tuple[str, Reason]]:  # type: ignore[override]  # other arguments
        """Errors cross process borders."""
        return type(self), (self.message, self.reason)


@dataclass(frozen=True, slots=True)
class Answer:
    """One fact in three protocols: C-STORE status (PS3.4 B.2.3), HTTP status, STOW failure reason (PS3.18)."""

    dimse: int
    http: int
    stow: int


SUCCESS = Answer(0x0000, 200, 0x0000)
CANNOT_UNDERSTAND = Answer(0xC000, 409, 0xC000)
OUT_OF_RESOURCES = Answer(0xA700, 507, 0xA700)
PROCESSING_FAILURE = Answer(0x0110, 500, 0x0110)

ANSWERS: dict[Reason, Answer] = {
    Reason.NO_ROOM: OUT_OF_RESOURCES,
    Reason.DISK_FAILED: OUT_OF_RESOURCES,
    Reason.LEDGER_DOWN: Answer(0xA700, 503, 0xA700),
    Reason.TOO_LARGE: Answer(0xA700, 413, 0xA700),
    Reason.SOP_CLASS_MISMATCH: Answer(0xA900, 409, 0xA900),
    Reason.UID_MISMATCH: Answer(0xA900, 409, 0xA900),
    Reason.SOP_CLASS_NOT_SUPPORTED: Answer(0x0122, 409, 0x0122),
    Reason.TRANSFER_SYNTAX_NOT_SUPPORTED: Answer(0x0122, 409, 0xC122),
    Reason.CALLING_AE_NOT_ALLOWED: Answer(0x0124, 403, 0x0124),
    Reason.NOT_DICOM: CANNOT_UNDERSTAND,
    Reason.TRUNCATED: CANNOT_UNDERSTAND,
    Reason.UID_INVALID: CANNOT_UNDERSTAND,
    Reason.ELEMENT_TWICE: CANNOT_UNDERSTAND,
}


def answer_for(error: BaseException) -> Answer:
    """The protocol answer for an error met at a door; a bug is 0110 / 500."""
    if not isinstance(error, CaudaError):
        return PROCESSING_FAILURE
    if isinstance(error, Unavailable):
        return ANSWERS.get(error.reason, OUT_OF_RESOURCES)
    return ANSWERS.get(error.reason, CANNOT_UNDERSTAND)


def error_comment(error: BaseException) -> str:
    """The Error Comment (0000,0902): printable ASCII, at most 64 characters (PS3.5 LO), naming the cause."""
    text = error.message if isinstance(error, CaudaError) else f"internal error: {type(error).__name__}"
    clean = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
    return clean[:64]
