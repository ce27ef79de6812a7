"""Who may call, as the listener has it in memory: read from the ledger beside its work, asked by each association."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from cauda.core import peers
from cauda.core.ledger import Ledger
from cauda.core.peers import Caps, Entry, Standing, Verdict
from cauda.core.schema import PeerRule
from cauda.core.settings import Limits, Peer


class Guests:
    """The list. While the ledger is away the last one read holds; learning ends in time all the same."""

    def __init__(self, configured: Iterable[Peer], clock: Callable[[], float] = time.monotonic) -> None:
        """Before the first `refresh` the configuration alone."""
        self._configured = peers.configured(configured)
        self._clock = clock
        self._entries: tuple[Entry, ...] = ()

    def refresh(self, ledger: Ledger) -> None:
        """Read what operators said; Unavailable when the ledger is away."""
        began = self._clock()
        with ledger.read() as conn:
            found = peers.entries(ledger, conn)
        full = sum(one.learned for one in found) >= peers.MOST_LEARNED
        self._entries = tuple(
            one if one.left_s is None else replace(one, left_s=began + one.left_s)  # on our clock from here on
            for one in found
            if not (full and one.rule is PeerRule.LEARN)
        )

    def verdict(self, aet: str, address: str, *, anywhere: bool = False) -> Verdict:
        """As `peers.verdict`, of configuration and operators together."""
        return peers.verdict(self._held(), aet, address, anywhere=anywhere)

    def standing(self, address: str, *, anywhere: bool = False) -> Standing:
        """As `peers.standing`."""
        return peers.standing(self._held(), address, anywhere=anywhere)

    def caps(self, aet: str, address: str, limits: Limits, *, anywhere: bool = False) -> Caps:
        """As `peers.caps`; an operator's word goes before the configuration's about the same title and network."""
        return peers.caps(self._held(), aet, address, limits, anywhere=anywhere)

    def _held(self) -> list[Entry]:
        now = self._clock()
        return [*(one for one in self._entries if one.left_s is None or one.left_s > now), *self._configured]
