"""Kill -9 of any process at any instant: acknowledged = kept = reported = delivered, each once, same UIDs.

The instants are drawn from a seed that is printed; ``CAUDA_KILL_SEED`` repeats a run, ``CAUDA_KILLS`` sets how many.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from builders import mr_study, write
from dicom_peers import Orthanc, orthanc
from harness import Node, Sender, alive, assert_each_once, node, prepared, settled
from peers import answers, until
from pydicom import Dataset

pytestmark = pytest.mark.peers

IMAGES = 10
IMMORTAL = {"CAUDA_GRADING__MAX_DEATHS": "1000"}  # so many deaths are ours, not the study's fault


def _victim(draw: random.Random, house: Node) -> tuple[str, int]:
    """A process of the tree, by what it does, so that none is spared because it is one of many."""
    tree = house.tree()
    name = draw.choice(sorted(tree))
    return name, tree[name]


_MOMENTS = {
    "while grading": "SELECT 1 FROM revision WHERE state = 'grading'",
    "while delivering": "SELECT 1 FROM delivery WHERE state = 'sent'",
}


def _moment(draw: random.Random, house: Node) -> str:
    """Let a drawn instant come: of receiving and filing, or while work of a kind is under way."""
    name = draw.choice(["while receiving", *_MOMENTS])
    if name in _MOMENTS:
        deadline = time.monotonic() + 5
        while not house.one(_MOMENTS[name]) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.15))
    else:
        time.sleep(draw.uniform(0.0, 1.0))
    return name


def _rounds(house: Node, pacs: Orthanc, folder: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    sender = Sender(house.port)
    uids: list[str] = []
    killed: Counter[str] = Counter()
    backlog = "SELECT count(*) < 3 FROM revision WHERE state IN ('due', 'grading')"
    while killed.total() < kills:
        # Every process is there and gets something done between the kills, so that each kind of work is hit.
        until(lambda: len(house.tree()) == 4 and house.one(backlog) == "1", 90, "the node catches up", every=0.05)
        study = mr_study(f"{seed} {len(uids)}")
        uid = str(study[0].StudyInstanceUID)
        uids.append(uid)
        # The archive has a study when it comes to us, as it does where a PACS forwards.
        pacs.store(write(study, folder / uid))
        shutil.rmtree(folder / uid)
        streaming = threading.Thread(target=sender.insist, args=(study, 90))
        streaming.start()
        moment = _moment(draw, house)
        name, pid = _victim(draw, house)
        phase = {row[0]: row[1] for row in house.sql("SELECT state, count(*) FROM revision GROUP BY state")}
        print(f"kill {killed.total() + 1}: {name} {moment}; {len(sender.acknowledged)} acknowledged; revisions {phase}")
        if name == "up":
            house.kill()
            house.start()
        else:
            os.kill(pid, signal.SIGKILL)
            until(lambda: not alive(pid), 10, "a killed process is gone")  # noqa: B023  asked for at once
        killed[name] += 1
        streaming.join(300)
        assert not streaming.is_alive(), "the sender never got rid of its images"
    print(f"killed: {dict(killed)}")
    settled(house, uids, 4, 150)
    assert len(sender.acknowledged) == IMAGES * len(uids)
    assert_each_once(house, sender, uids, folder)
    for uid in uids:
        made = {path.stem for path in (house.data / "outbox" / uid).iterdir()}
        there = [one["sop_uid"] for one in pacs.results(uid)]
        assert sorted(there) == sorted(made), "the archive has each result once, under the same UID, and no other"
    assert house.stop() == 0


def _kill(tmp_path: Path, kills: int) -> None:
    seed = int(os.environ.get("CAUDA_KILL_SEED") or random.SystemRandom().randrange(10**6))
    print(f"\nCAUDA_KILL_SEED={seed}, {kills} kills")
    folder = tmp_path / "out"
    with (
        orthanc() as pacs,
        node(tmp_path / "data", pacs.dimse, f"folder:{folder}", env=IMMORTAL) as house,
    ):
        _rounds(house, pacs, folder, kills, seed)


@pytest.mark.timeout(900)
def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    _kill(tmp_path, int(os.environ.get("CAUDA_KILLS") or 20))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    _kill(tmp_path, int(os.environ.get("CAUDA_KILLS") or 200))


# Where a process is killed: on entering the n-th call on such a path, before it has any effect.
LISTENER = [
    ("fdatasync", r"/arrivals/.*\.part$", 3),  # written, not durable
    ("rename", r"/arrivals/.*\.dcm$", 2),  # durable, without its final name
    ("fsync", r"/arrivals/[0-9a-f]+$", 5),  # with its final name, the folder not durable: not acknowledged
    ("link", r"/studies/", 3),  # filing: some images have their place
    ("fsync", r"/studies/[0-9.]+$", 1),  # filing: all have their place, nothing is durable or entered
    ("unlink", r"/arrivals/.*\.dcm$", 2),  # filing: entered in the ledger, the arrivals still there
]
LISTENER_PREPARED = [
    ("fdatasync", r"/arrivals/.*\.slot$", 3),  # written and sealed, not durable
    ("fsync", r"/arrivals/.*\.slot$", 20),  # filing: cut to its length, which is not durable; or a slot is being made
    ("link", r"/studies/", 3),
    ("fsync", r"/studies/[0-9.]+$", 1),
    ("unlink", r"/arrivals/.*\.slot$", 2),
]
WORKER = [
    ("grade", "fdatasync", r"/outbox/", 1),  # a result is written, not durable
    ("grade", "link", r"/outbox/", 2),  # the first result has its name, the second not
    ("grade", "fsync", r"/outbox/[0-9.]+$", 2),  # both have, and the ledger knows of none
    ("deliver", "fdatasync", r"/out/", 1),  # half way to a folder
    ("deliver", "fsync", r"/out/[0-9.]+$", 2),  # there, and the ledger does not know
]


def _killer(call: str, pattern: str, when: int) -> tuple[str, ...]:
    return (sys.executable, "-P", str(Path(__file__).with_name("killer.py")), call, pattern, str(when), "--")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("data_path", "sync", "points"),
    [("stock", "portable", LISTENER), ("replaced", "portable", LISTENER), ("replaced", "prepared", LISTENER_PREPARED)],
)
def test_a_listener_killed_between_any_two_steps_of_landing_and_filing_loses_nothing(
    tmp_path: Path, data_path: str, sync: str, points: list[tuple[str, str, int]]
) -> None:
    data, folder = tmp_path / "data", tmp_path / "out"
    studies = [mr_study(f"listener {n}") for n in range(len(points))]
    sender = Sender(0)
    env = {"CAUDA_LISTENER__DATA_PATH": data_path, "CAUDA_LISTENER__SYNC": sync, "CAUDA_LISTENER__SLOTS": "16"}
    for point, study in zip(points, studies, strict=True):
        if point is points[-1]:
            # Three deaths over one image would set it aside (test_listener_deadly): two are enough here.
            with node(data, command=("listen",), env=env):
                until(lambda: not any((data / "arrivals").rglob("*.dcm")), 60, "what the dead left behind is filed")
        with node(data, command=("listen",), launch=_killer(*point), env=env, start=False) as listener:
            listener.start(wait=False)
            # It may die before anybody calls: what the one before left behind is filed first of all.
            until(lambda: not alive(listener.pid) or answers(listener.port), 60, "it serves, or has died")
            sender.port = listener.port
            sender.attempt(prepared(study))
            until(lambda: not alive(listener.pid), 20, f"killed at {point}")
            assert f"killed on entering {point[0]}" in listener.log.read_text()
            print(f"{point}: {len(sender.acknowledged)} acknowledged")
    _finish(data, folder, sender, studies)


@pytest.mark.timeout(900)
def test_a_worker_killed_between_any_two_steps_makes_and_delivers_its_results_once(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "out"
    study = mr_study("worker")
    sender = Sender(0)
    with node(data, command=("listen",)) as listener:
        sender.port = listener.port
        sender.insist(study)
        made: set[str] = set()
        for queue, call, pattern, when in WORKER:
            if queue == "deliver" and not listener.one("SELECT state FROM revision WHERE state = 'reported'"):
                with node(data, f"folder:{folder}", command=("work", "--queue", "grade"), env=IMMORTAL):
                    until(lambda: listener.one("SELECT 1 FROM revision WHERE state = 'reported'"), 40, "graded")
            with node(
                data,
                f"folder:{folder}",
                command=("work", "--queue", queue),
                launch=_killer(call, pattern, when),
                env=IMMORTAL,
            ) as worker:
                until(lambda: "killed on entering" in worker.log.read_text(), 40, f"killed at {call} {when}")
            outbox = data / "outbox" / str(study[0].StudyInstanceUID)
            made |= {path.name for path in outbox.glob("*.dcm")} if outbox.exists() else set()
        assert len(made) == 2, "whatever was made and killed, the UIDs were the same"
        assert int(listener.one("SELECT attempt FROM revision")) == 4
    _finish(data, folder, sender, [study])


def _finish(data: Path, folder: Path, sender: Sender, studies: list[list[Dataset]]) -> None:
    uids = [str(study[0].StudyInstanceUID) for study in studies]
    with node(data, f"folder:{folder}") as house:
        sender.port = house.port
        for study in studies:
            sender.insist(study)
        settled(house, uids, 2)
        assert_each_once(house, sender, uids, folder)
