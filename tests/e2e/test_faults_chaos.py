"""Database and broker go away in turn while two listeners receive: no study is graded on a part of what they took.

What was acknowledged when is what the senders saw; what was frozen when is read with psql.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from builders import mr_study
from harness import Node, Sender, kept, node, nothing_in_between, prepared
from peers import Postgres, Redis, postgres, redis_server, until
from pydicom import Dataset

pytestmark = pytest.mark.peers

AFTER_RELEASE_S = 4.0
WAITS = {
    "CAUDA_COMPLETENESS__AFTER_RELEASE_S": str(AFTER_RELEASE_S),
    "CAUDA_COMPLETENESS__QUIET_S": "12",
    "CAUDA_COMPLETENESS__HARD_AGE_S": "90",
}
_CLOCK_S = 0.05  # of what psql and Python read of the same clock


class Times(dict[str, Dataset]):
    """Images by SOP Instance UID, and when each was acknowledged, seconds since 1970."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}

    def __setitem__(self, sop_uid: str, image: Dataset) -> None:
        self.at.setdefault(sop_uid, time.time())
        super().__setitem__(sop_uid, image)


@dataclass(kw_only=True)
class Cluster:
    """Two listeners and graders on one PostgreSQL and one Redis."""

    server: Postgres
    redis: Redis
    listeners: list[Node]
    workers: list[Node]
    acknowledged: Times = field(default_factory=Times)

    def sender(self, listener: Node) -> Sender:
        """A modality that sends to this listener; all of them remember in one place."""
        return Sender(listener.port, acknowledged=self.acknowledged)

    def unsound(self) -> list[str]:
        """Revisions that were frozen without an image that had been acknowledged before their study was complete."""
        house = self.listeners[0]
        frozen: dict[str, set[str]] = {}
        for revision, sop_uid in house.sql(
            "SELECT i.revision_id, s.sop_uid FROM revision_input i JOIN instance s ON s.id = i.instance_id"
        ):
            frozen.setdefault(revision, set()).add(sop_uid)
        wrong = []
        completed = house.sql("SELECT revision_id, study_uid, detail->>'known_at' FROM event WHERE kind='revision_due'")
        for revision, study_uid, known_at in completed:
            lacking = [
                sop_uid
                for sop_uid, image in self.acknowledged.items()
                if image.StudyInstanceUID == study_uid
                and self.acknowledged.at[sop_uid] < float(known_at) - _CLOCK_S
                and sop_uid not in frozen.get(revision, set())
            ]
            if lacking:
                wrong.append(f"revision {revision} of {study_uid}: {len(lacking)} acknowledged before, not in it")
        return wrong

    def late_s(self) -> float:
        """The longest time between what a revision says that it knows, and its freezing."""
        query = "SELECT max(at - (detail->>'known_at')::float) FROM event WHERE kind = 'revision_due'"
        return float(self.listeners[0].one(query) or 0.0)


@contextmanager
def cluster(tmp_path: Path, graders: int) -> Iterator[Cluster]:
    with postgres() as server, redis_server() as redis, ExitStack() as nodes:
        env = WAITS | {"CAUDA_LEDGER_URL": server.database(), "CAUDA_BROKER_URL": redis.url}
        data, out = tmp_path / "data", f"folder:{tmp_path / 'out'}"
        listeners = [
            nodes.enter_context(node(data, out, command=("listen",), env=env, postgres=server)) for _ in range(2)
        ]
        workers = [
            nodes.enter_context(node(data, out, command=("work",), env=env, postgres=server, port=n))
            for n in range(graders)
        ]
        yield Cluster(server=server, redis=redis, listeners=listeners, workers=workers)


def all_reported(made: Cluster, studies: Sequence[str]) -> bool:
    """Whether the last revision of each study has all of its acknowledged images, and is reported."""
    house = made.listeners[0]
    rows = house.sql(
        "SELECT r.study_uid, count(i.instance_id) FROM revision r JOIN revision_input i ON i.revision_id = r.id "
        "WHERE r.state = 'reported' "
        "AND r.number = (SELECT max(number) FROM revision o WHERE o.study_uid = r.study_uid) GROUP BY r.study_uid"
    )
    # more than one revision for late images is not made
    late = {row[0] for row in house.sql("SELECT study_uid FROM event WHERE kind = 'late_images_not_graded'")}
    counts = {study_uid: int(count) for study_uid, count in rows}
    wanted = dict.fromkeys(studies, 0)
    for image in list(made.acknowledged.values()):
        wanted[str(image.StudyInstanceUID)] += 1
    return all(counts.get(uid, 0) == count or uid in late for uid, count in wanted.items())


@pytest.mark.timeout(900)
def test_what_was_acknowledged_while_the_ledger_was_away_is_waited_for(tmp_path: Path) -> None:
    """Two images are filed, the rest is acknowledged by two listeners without a ledger, for longer than any wait."""
    study = prepared(mr_study("chaos", axial=12, sagittal=8))
    name = str(study[0].StudyInstanceUID)
    with cluster(tmp_path, 1) as made:
        one, two = (made.sender(listener) for listener in made.listeners)
        assert one.attempt([study[0], study[-1]])
        filed = f"SELECT count(*) FROM instance WHERE study_uid = '{name}'"
        until(lambda: made.listeners[0].one(filed) == "2", 20, "the first are filed")
        made.server.stop()
        assert one.attempt(study[1:10])
        assert two.attempt(study[10:-1])
        began = time.monotonic()
        until(lambda: time.monotonic() - began > AFTER_RELEASE_S + 16, 30, "longer than the wait", every=0.5)
        made.server.start()
        until(lambda: all_reported(made, [name]), 90, "reported with all of it", every=0.5)
        assert made.listeners[0].sql("SELECT number, state FROM revision") == [("1", "reported")]
        assert made.unsound() == []


def keep_sending(made: Cluster, seed: str, stop: threading.Event, names: list[str]) -> None:
    """One study after the other, each in some associations to either listener with pauses."""
    draw = random.Random(seed)
    number = 0
    while not stop.is_set():
        study = list(prepared(mr_study(f"{seed} {number}", axial=12, sagittal=8)))
        names.append(str(study[0].StudyInstanceUID))
        draw.shuffle(study)
        while study:
            count = draw.randint(1, 12)
            made.sender(draw.choice(made.listeners)).insist(study[:count], timeout=120)
            study = study[count:]
            time.sleep(draw.uniform(0, 2.5))  # a scanner's pause, now and then longer than the wait below a load
        number += 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_database_and_broker_stopped_in_turn_under_load(tmp_path: Path) -> None:
    """Each for `CAUDA_CHAOS_S` seconds (60): stopped, crashed, frozen."""
    seed = os.environ.get("CAUDA_CHAOS_SEED") or "20261130"
    away_s = float(os.environ.get("CAUDA_CHAOS_S") or 60)
    print(f"\nCAUDA_CHAOS_SEED={seed} CAUDA_CHAOS_S={away_s:g}: two listeners, three graders, four senders")
    names: list[str] = []
    stop = threading.Event()
    with cluster(tmp_path, 3) as made:
        senders = [threading.Thread(target=keep_sending, args=(made, f"{seed} {n}", stop, names)) for n in range(4)]
        for sender in senders:
            sender.start()
        faults = [
            ("PostgreSQL stopped", made.server.stop, made.server.start),
            ("Redis stopped", made.redis.stop, made.redis.start),
            ("PostgreSQL crashed", lambda: made.server.stop(signal.SIGQUIT), made.server.start),
            ("Redis frozen", made.redis.pause, made.redis.resume),
            ("PostgreSQL frozen", made.server.pause, made.server.resume),
        ]
        for words, begin, end in faults:
            time.sleep(away_s / 2)
            before = len(made.acknowledged)
            begin()
            time.sleep(away_s)
            end()
            print(f"{words} for {away_s:g} s: {len(made.acknowledged) - before} images acknowledged meanwhile")
        time.sleep(away_s / 2)
        stop.set()
        for sender in senders:
            sender.join(300)
        until(lambda: all_reported(made, names), 400, "every study reported with all of its images", every=1)
        house = made.listeners[0]
        revisions = house.sql("SELECT number, count(*) FROM revision GROUP BY number ORDER BY number")
        print(f"{len(names)} studies, {len(made.acknowledged)} images acknowledged; revisions by number: {revisions}")
        print(f"complete up to {made.late_s():.2f} s before its freezing at most")
        reasons = house.sql(
            "SELECT split_part(complete_reason, ':', 1), count(*) FROM revision GROUP BY 1 ORDER BY 2 DESC LIMIT 10"
        )
        print(f"complete because: {reasons}")
        unsound = made.unsound()
        print(f"graded on a part of what was acknowledged before its completion: {len(unsound)}")
        assert unsound == []
        lost = [uid for uid, image in made.acknowledged.items() if not kept(made.listeners[0].data, image)]
        assert lost == []
        assert nothing_in_between(made.listeners[0].data) == []
        exits = [one.stop() for one in (*made.listeners, *made.workers)]
        print(f"exits of listeners and workers: {exits}")
        assert exits == [0] * 5
