"""The kernel's own record: each image is on disk, under its final name, before its C-STORE response leaves."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from builders import mr_study
from disks import disk
from harness import Sender, node, prepared
from listener_house import DATA_PATHS
from peers import program, until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(900)]

TRACED = "fdatasync,fsync,rename,renameat,renameat2,sendto,write,openat,close"
_CALL = re.compile(r"^(?P<pid>\d+) +(?P<call>\w+)\((?P<arguments>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$")


@dataclass
class Landing:
    """What has been done, in the order of completion, for the image that is being received."""

    opened: str = ""
    done: list[str] = field(default_factory=list)


PORTABLE, PREPARED, ONE = ("data", "name", "folder"), ("written", "data"), ("name", "file")


def responses_after_syncs(lines: Iterable[str], port: int, steps: Sequence[str] = PORTABLE) -> int:
    """How many C-STORE responses were sent over one association, one image after the other.

    AssertionError where a response was begun before its image's ``steps`` (data sync, rename and folder sync) had all
    returned successfully and in this order. Understands ``strace -f -y`` with calls that were interrupted.
    """
    pending: dict[str, tuple[str, str]] = {}
    landing = Landing()
    responses = 0
    for line in lines:
        if resumed := _RESUMED.match(line):
            call, arguments = pending.pop(resumed["pid"], ("", ""))
            if call:
                _completed(landing, call, arguments + resumed["rest"])
            continue
        entered = _CALL.match(line)
        if entered is None:
            continue
        call, arguments = entered["call"], entered["arguments"]
        # P-DATA-TF is PDU type 04 (PS3.8 9.3.5); what leaves counts when it begins, what syncs when it is done
        if call in {"sendto", "write"} and re.match(rf'\d+<TCP[^"]*:{port}->[^"]*>, "\\4\\0', arguments):
            done = [step for step in landing.done if step in steps]  # a folder is synced for new slots too
            assert done == list(steps), f"response {responses + 1} after only {done}"
            landing = Landing()
            responses += 1
        if arguments.endswith("<unfinished ...>"):
            pending[entered["pid"]] = (call, arguments.removesuffix("<unfinished ...>").rstrip())
        else:
            _completed(landing, call, arguments)
    return responses


def _completed(landing: Landing, call: str, arguments: str) -> None:
    if not re.search(r"\)\s*= \d+", arguments):
        return  # it failed
    if call == "openat" and (part := re.search(r'"([^"]+\.part)", [^"]*O_CREAT\|O_EXCL', arguments)):
        landing.opened, landing.done = part[1], []  # the filer's own note of what it files is not O_EXCL
    elif call == "openat" and (slot := re.search(r'"([^"]+\.slot)", O_WRONLY(\|O_DIRECT)?\|O_CLOEXEC\)', arguments)):
        landing.opened, landing.done = slot[1], []  # neither made nor cut
    elif not landing.opened:
        return
    elif call == "write" and landing.opened.endswith(".slot") and f"<{landing.opened}>" in arguments:
        landing.done = ["written"]  # what was synced before this does not count
    elif call == "fdatasync" and f"<{landing.opened}>" in arguments:
        landing.done.append("data")
    elif call.startswith("rename") and f'"{landing.opened}"' in arguments and '.dcm"' in arguments:
        landing.done.append("name")
    elif call == "fsync" and f"<{landing.opened.removesuffix('part')}" in arguments and ".dcm>" in arguments:
        landing.done.append("file")
    elif call == "fsync" and f"<{landing.opened.rpartition('/')[0]}>" in arguments:
        landing.done.append("folder")


def _record(
    tmp_path: Path, name: str, launch: tuple[str, ...], data_path: str, sync: str = "portable"
) -> tuple[list[str], int, int]:
    """The calls of a listener that receives one study; with the port and the number of its images."""
    record = tmp_path / f"{name}.strace"
    strace = (program("strace"), "-f", "-y", "-yy", "-s", "8", "-e", f"trace={TRACED}", "-o", str(record))
    study = prepared(mr_study(name))
    env = {"CAUDA_LISTENER__DATA_PATH": data_path, "CAUDA_LISTENER__SYNC": sync}
    with node(tmp_path / name, command=("listen",), under=strace, launch=launch, env=env) as listener:
        sender = Sender(listener.port)
        assert sender.attempt(study)
        ended = "association_ended"
        until(lambda: listener.said(ended), 20, "the listener saw the end")
        listener.stop()
        return record.read_text().splitlines(), listener.port, len(study)


LAUNCH = (sys.executable, "-P", "-m", "cauda.deploy")


@pytest.fixture(scope="module", params=DATA_PATHS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], int, int]:
    """One record of each data path."""
    return _record(tmp_path_factory.mktemp("strace"), "plain", LAUNCH, request.param)


def test_every_response_leaves_after_its_image_is_durable(recorded: tuple[list[str], int, int]) -> None:
    lines, port, images = recorded
    assert responses_after_syncs(lines, port) == images


@pytest.mark.parametrize("data_path", DATA_PATHS)
def test_with_one_sync_every_response_leaves_after_it(tmp_path: Path, data_path: str) -> None:
    with disk(tmp_path, "ext4") as (_, folder):
        lines, port, images = _record(folder, "one", LAUNCH, data_path, "one")
        assert responses_after_syncs(lines, port, ONE) == images
        with pytest.raises(AssertionError, match="after only"):
            responses_after_syncs(_without("fsync", r"\.dcm>")(lines), port, ONE)


def test_what_the_filer_writes_meanwhile_is_not_taken_for_an_image(recorded: tuple[list[str], int, int]) -> None:
    """The filer's note of the images that it files is written beside them, at any moment."""
    lines, port, images = recorded
    note = next(line for line in lines if " openat(" in line and ".filing.part" in line)
    note = f"{note.partition(' <unfinished')[0].partition(') = ')[0]}) = 99"
    meanwhile = [each for line in lines for each in ((note, line) if " rename(" in line else (line,))]
    assert len(meanwhile) > len(lines)
    assert responses_after_syncs(meanwhile, port) == images


def test_in_a_prepared_file_every_response_leaves_after_one_sync_of_its_data(tmp_path: Path) -> None:
    """What the slot's own making synced before it was written into does not count."""
    lines, port, images = _record(tmp_path, "prepared", LAUNCH, "replaced", "prepared")
    assert responses_after_syncs(lines, port, PREPARED) == images
    with pytest.raises(AssertionError, match="after only"):
        responses_after_syncs(_without("fdatasync", r"\.slot>")(lines), port, PREPARED)


def test_one_sync_is_refused_at_the_start_where_it_is_not_enough(tmp_path: Path) -> None:
    with (
        disk(tmp_path, "ext4 without a journal") as (_, folder),
        node(folder / "data", command=("listen",), env={"CAUDA_LISTENER__SYNC": "one"}, start=False) as listener,
    ):
        listener.start(wait=False)
        assert listener.popen is not None
        assert listener.popen.wait(60) == 2
        assert "listener.sync" in listener.log.read_text()
        assert "no journal" in listener.log.read_text()


def _without(call: str, place: str) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        """The third such line taken out, and the end of an interrupted one with it."""
        found = [i for i, line in enumerate(lines) if f" {call}(" in line and re.search(place, line)]
        at = found[2]
        pid = lines[at].split(" ", 1)[0]
        drop = {at}
        if "<unfinished" in lines[at]:
            drop.add(next(i for i in range(at, len(lines)) if lines[i].startswith(f"{pid} ") and "resumed" in lines[i]))
        return [line for i, line in enumerate(lines) if i not in drop]

    return change


@pytest.mark.parametrize(
    ("call", "place"),
    [("fdatasync", r"\.part>"), ("rename", r'\.dcm"'), ("fsync", r"/arrivals/[0-9a-f]+>")],
    ids=["no data sync", "no rename", "no folder sync"],
)
def test_a_record_in_which_one_call_is_missing_does_not_pass(
    recorded: tuple[list[str], int, int], call: str, place: str
) -> None:
    """The control: the check sees what it is there to see."""
    lines, port, _ = recorded
    if call == "rename":
        call = next(c for c in ("rename", "renameat2", "renameat") if any(f" {c}(" in line for line in lines))
    with pytest.raises(AssertionError, match="after only"):
        responses_after_syncs(_without(call, place)(lines), port)


@pytest.mark.parametrize(("call", "data_path"), list(zip(["fdatasync", "fsync"], DATA_PATHS, strict=True)))
def test_a_listener_that_really_does_not_sync_does_not_pass(tmp_path: Path, call: str, data_path: str) -> None:
    """The control on a real process: the same listener with one call made to do nothing."""
    broken = f"import os, sys; os.{call} = lambda fd: None; from cauda.deploy.cli import main; sys.exit(main())"
    lines, port, _ = _record(tmp_path, call, (sys.executable, "-P", "-c", broken), data_path)
    with pytest.raises(AssertionError, match="after only"):
        responses_after_syncs(lines, port)
