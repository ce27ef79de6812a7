"""How long to wait after a failure, and after the next."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double, with jitter drawn from ``draw`` (0..1)."""

    first_s: float
    max_s: float

    def wait_s(self, failures: int, draw: float | None = None) -> float:
        """The wait after the n-th failure in a row (n from 1): between half and the whole of the doubled time."""
        whole = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return whole * (0.5 + 0.5 * (random.random() if draw is None else draw))  # noqa: S311  jitter, no secret
