"""The kernel's own record: images and results are durable under their names before the ledger names them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from builders import mr_study
from harness import Sender, node, settled
from peers import program

pytestmark = [pytest.mark.peers, pytest.mark.timeout(900)]

TRACED = "link,linkat,mkdir,mkdirat,unlink,unlinkat,ftruncate,fsync,fdatasync"
_ENTERED = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$")
_WAL = ".sqlite-wal"


@dataclass
class Thread:
    """What one thread has done and not made durable yet: folders and files."""

    pending: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)  # whose data is durable, without a name so far


@dataclass
class Seen:
    """How often each thing was looked at."""

    filed: int = 0
    results: int = 0
    cut: int = 0
    commits: int = 0


def durable_before_entered(lines: Iterable[str]) -> Seen:
    """Read ``strace -f -y``; AssertionError where a thread commits to the ledger, or drops an arrival, too soon.

    A name is durable once its folder is synced, a new folder once its parent is, a file that was cut once it is synced
    itself; a result's data is synced before it gets its name.
    """
    threads: dict[str, Thread] = defaultdict(Thread)
    begun: dict[str, str] = {}
    seen = Seen()
    for line in lines:
        entered, resumed = _ENTERED.match(line), _RESUMED.match(line)
        if entered and entered["rest"].endswith("<unfinished ...>"):
            begun[entered["thread"]] = entered["rest"].removesuffix("<unfinished ...>")
            continue
        found = entered or resumed
        if found is None:
            continue
        rest = found["rest"] if entered else begun.pop(found["thread"], "") + found["rest"]
        if re.search(r"\)\s*= 0", rest):
            _look(threads[found["thread"]], seen, found["call"], rest)
    return seen


def _look(thread: Thread, seen: Seen, call: str, rest: str) -> None:
    paths = re.findall(r'"([^"]+)"', rest)
    opened = re.search(r"<([^>]+)>", rest)
    place = opened[1] if opened else ""
    if call.startswith("link") and "/outbox/" in paths[-1]:
        assert paths[0] in thread.written, "a result got its name before its data was durable"
        thread.pending.add(paths[-1].rpartition("/")[0])
        seen.results += 1
    elif call.startswith("link") and "/studies/" in paths[-1]:
        thread.pending.add(paths[-1].rpartition("/")[0])
        seen.filed += 1
    elif call.startswith("mkdir") and re.search(r"/(studies|outbox)/[0-9.]+$", paths[-1]):
        thread.pending.add(paths[-1].rpartition("/")[0])
    elif call == "ftruncate" and place.endswith(".slot"):
        thread.pending.add(place)
        seen.cut += 1
    elif call in {"fsync", "fdatasync"} and place.endswith(_WAL):
        assert not thread.pending, f"the ledger was told before this was durable: {thread.pending}"
        seen.commits += 1
    elif call in {"fsync", "fdatasync"}:
        thread.pending.discard(place)
        if call == "fdatasync":
            thread.written.add(place)
    elif call.startswith("unlink") and "/arrivals/" in paths[-1]:
        assert not thread.pending, f"an arrival was dropped before this was durable: {thread.pending}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The calls of a whole node that receives, files and grades a study."""
    folder = tmp_path_factory.mktemp("strace")
    record = folder / "calls"
    strace = (program("strace"), "-f", "-y", "-s", "300", "-e", f"trace={TRACED}", "-o", str(record))
    study = mr_study("durable before entered")
    with node(folder / "data", f"folder:{folder / 'out'}", under=strace) as house:
        sender = Sender(house.port)
        sender.insist(study)
        settled(house, [str(study[0].StudyInstanceUID)], 2)
        house.stop()
    return record.read_text().splitlines()


def test_nothing_is_entered_before_it_is_durable_under_its_name(recorded: list[str]) -> None:
    seen = durable_before_entered(recorded)
    assert (seen.filed, seen.cut, seen.results) == (10, 10, 2)
    assert seen.commits > 3


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("fsync", r"/studies/[0-9.]+>"),
        ("fsync", r"/studies>"),
        ("fsync", r"\.slot>"),
        ("fsync", r"/outbox/[0-9.]+>"),
        ("fsync", r"/outbox>"),
        ("fdatasync", r"/outbox/[^>]*\.part>"),
    ],
)
def test_a_record_without_one_of_the_syncs_does_not_pass(recorded: list[str], call: str, place: str) -> None:
    """The control: the check sees what it is there to see."""
    kept, dropped = [], set()
    for line in recorded:
        thread = line.split(" ", 1)[0]
        if f" {call}(" in line and re.search(place, line):
            if "<unfinished" in line:
                dropped.add(thread)
        elif thread in dropped and f"{call} resumed" in line:
            dropped.discard(thread)
        else:
            kept.append(line)
    assert len(kept) < len(recorded)
    with pytest.raises(AssertionError, match="durable"):
        durable_before_entered(kept)
