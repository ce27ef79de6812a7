"""What a task stands on: the ledger, the files, the settings, and for grading the trained parts."""

from __future__ import annotations

from dataclasses import dataclass

from cauda.core.backoff import Backoff
from cauda.core.doorbell import Doorbell
from cauda.core.ledger import Ledger
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.core.spool import Spool
from cauda.pipeline.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Post:
    """One process's place of work."""

    ledger: Ledger
    spool: Spool
    settings: Settings
    fingerprint: Fingerprint
    token: str  # liveness.token of this process
    bell: Doorbell
    parts: Parts | None = None

    @property
    def backoff(self) -> Backoff:
        """The waits after what may pass."""
        delivery = self.settings.delivery
        return Backoff(first_s=delivery.retry_s, max_s=delivery.retry_max_s)
