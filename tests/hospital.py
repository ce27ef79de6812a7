"""A listener with a hospital round it whose clock a test moves: hours on the ledger's clock in seconds.

The policy is the server's own: 10 minutes after the last release, 10 minutes of quiet, 90 minutes at the latest.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import builders
import pytest
from ledgers import Time
from listener_house import FINGERPRINT, House, association, listener, store
from peers import until
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import RowMapping, update

from cauda.core import ledger, processes, schema
from cauda.core.schema import StudyState
from cauda.core.settings import Settings
from cauda.core.spool import Spool
from cauda.listener import completeness, serve
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next
from cauda.worker.post import Post

MINUTE = 60.0
_STEP_S = 45.0  # shorter than a listener may be silent before it and its associations are taken for dead
_IDLE_STEP_S = 300.0  # while nothing is open
CONTEXTS = [(builders.MR_IMAGE, ExplicitVRLittleEndian)]


@dataclass(kw_only=True)
class Hospital:
    """A listener whose ledger's clock stands still until the test lets it go on."""

    house: House
    time: Time
    ticks: list[int] = field(default_factory=list)

    def settle(self) -> None:
        """Everything landed is filed, and the completeness rule has looked at it since."""
        self.house.until_filed()
        seen = len(self.ticks)
        until(lambda: len(self.ticks) >= seen + 2, what="two ticks")

    def passes(self, seconds: float) -> None:
        """Let time go by; the listener ticks all the while."""
        self.settle()
        while seconds > 0:
            at_work = any(one["ended_at"] is None for one in self.house.rows(schema.association))
            step = min(seconds, _STEP_S if at_work else _IDLE_STEP_S)
            self.time.passes(step)
            seconds -= step
            self.settle()

    def ended(self, how: str, count: int = 1) -> None:
        """Wait until so many associations are known to have ended so."""
        until(
            lambda: len([a for a in self.house.rows(schema.association) if a["ended_how"] == how]) >= count,
            what=f"{count} associations {how}",
        )

    def sends(self, images: Sequence[Dataset]) -> None:
        """One association with these images, released."""
        before = len([a for a in self.house.rows(schema.association) if a["ended_how"] == "released"])
        assert {status.Status for status in store(self.house.ports.dimse, images)} == {0}
        self.ended("released", before + 1)

    def opens(self) -> Any:
        """An association that stays open until the block ends."""
        return association(self.house.ports.dimse, CONTEXTS)

    def revisions(self) -> Sequence[RowMapping]:
        """What was frozen so far."""
        return self.house.rows(schema.revision)

    def completes_after(self, seconds: float, reason: str, images: int) -> RowMapping:
        """Nothing was frozen yet; one revision is once this time is over and not before; and never another."""
        assert not self.revisions()
        self.passes(seconds - 2)
        assert not self.revisions()
        self.passes(4)
        (made,) = self.revisions()
        assert made["complete_reason"].startswith(reason)
        assert len(self.house.rows(schema.revision_input)) == images
        (study,) = self.house.rows(schema.study)
        assert (study["state"], study["complete_reason"]) == (StudyState.COMPLETE, made["complete_reason"])
        self.passes(100 * MINUTE)
        assert len(self.revisions()) == 1
        return made

    def works(self, *destinations: str | dict[str, Any]) -> None:
        """Workers grade, deliver and confirm whatever is due."""
        settings = Settings.model_validate({"data": self.house.data, "destinations": destinations})
        post = Post(ledger=self.house.book, spool=Spool(self.house.data), settings=settings, fingerprint=FINGERPRINT,
                    token="worker", bell=lambda _task: None)  # fmt: skip
        while grade_next(post) or deliver_next(post):
            pass

    def reported(self) -> None:
        """As a worker leaves it."""
        with self.house.book.write() as conn:
            conn.execute(update(schema.revision).values(state="reported"))


@contextmanager
def opened(data: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Hospital]:
    """One whose listener ticks as fast as it can."""
    time, ticks = Time(), [0]
    tick = completeness.tick

    def counted(*args: Any, **kwargs: Any) -> list[str]:
        done = tick(*args, **kwargs)
        ticks.append(len(ticks))
        return done

    on_our_clock = functools.partial(ledger.open_ledger, clock=ledger.fixed_clock(time.read))
    monkeypatch.setattr(ledger, "open_ledger", on_our_clock)
    monkeypatch.setattr(completeness, "tick", counted)
    # A step of the test's clock stands for many heartbeats: it is no absence of the listener.
    monkeypatch.setattr(processes, "GAP_S", 2 * _IDLE_STEP_S)
    monkeypatch.setattr(serve, "_TICK_S", 0.01)
    monkeypatch.setattr(serve, "_SEEN_EVERY_S", 0.0)
    server = {"after_release_s": 600, "quiet_s": 600, "hard_age_s": 5400}
    with listener(data, completeness=server, **settings) as house:
        yield Hospital(house=house, time=time, ticks=ticks)
