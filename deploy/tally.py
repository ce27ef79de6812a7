"""What a load generator sent and what was answered: counts, rates, percentiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cauda.core.domain import Json

NO_ANSWER, NO_ASSOCIATION, NO_CONTEXT = "no answer", "no association", "not accepted"
_QUANTILES = (50, 95, 99)
_STATUSES = {  # PS3.4 B.2.3
    "0122": "SOP class not supported",
    "0117": "invalid SOP instance",
    "0124": "not authorised",
    "0110": "processing failure",
    "B000": "stored with changes",
    "B006": "stored, elements discarded",
    "B007": "stored, not what its SOP class says",
}
_STATUS_GROUPS = (("A7", "out of resources"), ("A9", "not what its SOP class says"), ("C", "not understood"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one image that was sent."""

    seconds: float | None  # until there was an answer
    refusal: str | None = None  # why it is not stored: a status in hex, or words


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One study's way out; an image that was sent twice counts twice."""

    study_uid: str
    answers: tuple[Answer, ...]
    bytes: int


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was sent and answered so far; scanners append to it from their threads."""

    studies: list[Sent] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    bytes: int = 0
    began: float | None = None
    ended: float | None = None

    @property
    def images(self) -> int:
        """How many were sent."""
        return len(self.answers)

    @property
    def failures(self) -> Counter[str]:
        """Why images are not stored, and how many."""
        return Counter(one.refusal for one in self.answers if one.refusal is not None)

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
        """Pixel data a second, in 10^6 bytes."""
        return self.bytes / 1e6 / self.seconds if self.seconds > 0 else 0.0

    @property
    def whole(self) -> bool:
        """Whether something was sent, and all of it acknowledged as stored."""
        return bool(self.images) and not self.failures

    def percentile_ms(self, q: float) -> float:
        """A percentile of the time to an answer, in milliseconds."""
        times = [one.seconds for one in self.answers if one.seconds is not None]
        return float(np.percentile(times, q)) * 1000 if times else 0.0

    def json(self) -> Json:
        """For scripts."""
        return {
            "studies": [{"study_instance_uid": one.study_uid, **_counts(one.answers)} for one in self.studies],
            **_counts(self.answers),
            "seconds": round(self.seconds, 3),
            "instances_per_s": round(self.per_second, 2),
            "mb_per_s": round(self.mb_per_second, 2),
            "ack_ms": {f"p{q}": round(self.percentile_ms(q), 2) for q in _QUANTILES},
        }

    def words(self) -> str:
        """One line."""
        times = ", ".join(f"p{q} {self.percentile_ms(q):.1f} ms" for q in _QUANTILES)
        line = (
            f"{self.images} images in {len(self.studies)} studies, {self.per_second:.1f} a second, "
            f"{self.mb_per_second:.1f} MB/s; answered: {times}"
        )
        failed = ", ".join(f"{count} {explained(why)}" for why, count in sorted(self.failures.items()))
        return f"{line}; NOT STORED: {failed}" if failed else line


def explained(refusal: str) -> str:
    """A status in words beside its number."""
    words = _STATUSES.get(refusal) or next((w for start, w in _STATUS_GROUPS if refusal.startswith(start)), None)
    return f"{refusal} ({words})" if words else refusal


def _counts(answers: Sequence[Answer]) -> Json:
    failures = Counter(one.refusal for one in answers if one.refusal is not None)
    return {"images": len(answers), "acknowledged": len(answers) - failures.total(), "failures": dict(failures)}
