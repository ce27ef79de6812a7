"""What a load generator sent and what was answered: counts, rates, percentiles, in words and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from cauda.core.domain import Json

NO_ANSWER, NO_ASSOCIATION, NO_CONTEXT = "no answer", "no association", "SOP class or transfer syntax not accepted"
NOT_ENCODED = "cannot be encoded"
_QUANTILES = (50, 95, 99)
_STATUSES = {  # PS3.4 B.2.3, PS3.7 annex C
    "0110": "processing failure",
    "0111": "duplicate SOP instance",
    "0117": "invalid SOP instance",
    "0122": "SOP class not supported",
    "0124": "not authorised",
    "0210": "duplicate invocation",
    "0211": "unrecognised operation",
    "0212": "mistyped argument",
    "B000": "elements were coerced",
    "B006": "elements were discarded",
    "B007": "does not match its SOP class",
}
_STATUS_GROUPS = (("A7", "out of resources"), ("A9", "does not match its SOP class"), ("C", "cannot understand"))
_TELL_BEHIND_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one image that was sent."""

    seconds: float | None  # until there was an answer
    refusal: str | None = None  # why it is not stored: a status in hex, or words
    warning: str | None = None  # it is stored, but: a status in hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One study's way out; an image that was sent twice counts twice."""

    study_uid: str
    answers: tuple[Answer, ...]
    unsent: int = 0  # what its plan held besides, when it was broken off


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was sent and answered so far; scanners add to it from their threads."""

    studies: list[Sent] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    bytes: int = 0  # of every PDU sent
    associations: int = 0  # that were accepted
    began: float | None = None
    ended: float | None = None  # the last answer
    wanted: int | None = None  # studies that are to be sent, where that is known
    behind_s: float = 0.0  # how late the last study began, against the rate
    interrupted: bool = False
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, *answers: Answer, now: float | None = None, sent_bytes: int = 0, associations: int = 0) -> None:
        """Enter what happened; ``now`` is the clock that ``began`` was read from."""
        with self._lock:
            self.answers.extend(answers)
            self.bytes += sent_bytes
            self.associations += associations
            self.ended = self.ended if now is None else now

    @property
    def images(self) -> int:
        """How many were sent."""
        return len(self.answers)

    @property
    def failures(self) -> Counter[str]:
        """Why images are not stored, and how many."""
        return _refusals(self.answers)

    @property
    def warnings(self) -> Counter[str]:
        """What is said of images that are stored, and of how many."""
        return Counter(one.warning for one in tuple(self.answers) if one.warning is not None)

    @property
    def seconds(self) -> float:
        """From the first study to the last answer."""
        return self.ended - self.began if self.began is not None and self.ended is not None else 0.0

    @property
    def per_second(self) -> float:
        """Images a second, pauses included."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def mb_per_second(self) -> float:
        """10^6 bytes a second on the wire, pauses included."""
        return self.bytes / 1e6 / self.seconds if self.seconds > 0 else 0.0

    @property
    def whole(self) -> bool:
        """Whether something was sent, all that was to be, and all of it acknowledged as stored."""
        return bool(self.images) and not self.failures and not self.interrupted

    def percentile_ms(self, q: float) -> float:
        """A percentile of the time from asking to an answer, in milliseconds, interpolated linearly."""
        times = [one.seconds for one in tuple(self.answers) if one.seconds is not None]
        return float(np.percentile(times, q)) * 1000 if times else 0.0

    def json(self) -> Json:
        """For scripts."""
        return {
            "studies": [
                {"study_instance_uid": one.study_uid, **_counts(one.answers), "unsent": one.unsent}
                for one in self.studies
            ],
            **_counts(self.answers),
            "warnings": dict(self.warnings),
            "associations": self.associations,
            "seconds": round(self.seconds, 3),
            "instances_per_s": round(self.per_second, 2),
            "mb_per_s": round(self.mb_per_second, 2),
            "ack_ms": {f"p{q}": round(self.percentile_ms(q), 2) for q in _QUANTILES},
            "interrupted": self.interrupted,
        }

    def line(self, now: float) -> str:
        """How it stands, in one line; what went wrong first, lest a narrow terminal cuts it.

        ``now`` is read from the clock of ``began``.
        """
        failed = " · ".join(f"{count} NOT STORED: {explained(why)}" for why, count in sorted(self.failures.items()))
        times = " ".join(f"p{q} {self.percentile_ms(q):.1f}" for q in _QUANTILES)
        parts = [
            failed,
            f"{self.behind_s:.0f} s behind the rate" if self.behind_s > _TELL_BEHIND_S else "",
            f"{now - self.began:.0f} s" if self.began is not None else "",
            f"{len(self.studies)} studies" + (f" of {self.wanted}" if self.wanted else ""),
            f"{self.images} images",
            f"{self.per_second:.1f} images/s",
            f"{self.mb_per_second:.1f} MB/s",
            f"answered {times} ms",
        ]
        return " · ".join(part for part in parts if part)

    def summary(self) -> list[tuple[str, str]]:
        """What is said at the end: names and values."""
        part = sum(bool(one.unsent) for one in self.studies)
        stored = self.images - self.failures.total()
        rows = [
            ("studies", f"{len(self.studies)}" + (f", {part} in part" if part else "")),
            ("images", f"{self.images} sent, {stored} acknowledged"),
            ("associations", f"{self.associations}"),
            ("time", f"{self.seconds:.1f} s"),
            ("rate", f"{self.per_second:.1f} images/s, {self.mb_per_second:.1f} MB/s"),
            ("answered in", ", ".join(f"p{q} {self.percentile_ms(q):.1f} ms" for q in _QUANTILES)),
        ]
        if self.behind_s > _TELL_BEHIND_S:
            rows.append(("behind the rate", f"{self.behind_s:.0f} s: it cannot be had with so few at a time"))
        rows += [("stored, but", f"{count}: {explained(why)}") for why, count in sorted(self.warnings.items())]
        rows += [("NOT STORED", f"{count}: {explained(why)}") for why, count in sorted(self.failures.items())]
        return rows + ([("INTERRUPTED", "what had begun was let go of in order")] if self.interrupted else [])


def explained(status: str) -> str:
    """A status in words beside its number."""
    words = _STATUSES.get(status) or next((w for start, w in _STATUS_GROUPS if status.startswith(start)), None)
    return f"{status} ({words})" if words else status


def _refusals(answers: Sequence[Answer]) -> Counter[str]:
    return Counter(one.refusal for one in tuple(answers) if one.refusal is not None)


def _counts(answers: Sequence[Answer]) -> Json:
    failures = _refusals(answers)
    return {"images": len(answers), "acknowledged": len(answers) - failures.total(), "failures": dict(failures)}
