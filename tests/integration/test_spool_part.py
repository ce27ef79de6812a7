"""A file that is being received: right to the byte at every size, and nothing before it is whole."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drafts import drafted
from logged import logged
from peers import until

import cauda.core.slots
from cauda.core import seal, spool
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.part import Part
from cauda.core.slots import Slot, Slots, land

BLOCK = 4096  # of the page cache
SIZES = [1, 127, BLOCK - 129, BLOCK - 128, BLOCK - 127, BLOCK, 5 * BLOCK - 128, (1 << 20) - 128, (1 << 20) + 7]


def mounted(kind: str, options: str, folder: Path) -> None:
    """A file system in memory over a folder; without the right to mount one the test is skipped, in CI it fails."""
    mount = subprocess.run(["mount", "-t", kind, "-o", options, "none", folder], check=False, capture_output=True)
    if mount.returncode:
        reason = f"{kind} cannot be mounted here: {mount.stderr.decode().strip()}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.mark.parametrize("size", SIZES)
def test_the_file_is_what_was_written_at_every_size(tmp_path: Path, size: int) -> None:
    draw = random.Random(size)
    content = draw.randbytes(size)
    part = Part(tmp_path, "a")
    at = 0
    while at < size:
        more = draw.choice([0, 1, 13, 500, BLOCK, 2 * BLOCK + 1])
        part.write(content[at : at + more])
        at += more
    assert part.content() == content
    assert not list(tmp_path.glob("*.dcm")), "nothing has its name before it has landed"
    landed = part.land()
    assert landed.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [landed.name]


def test_a_part_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    for size in SIZES:
        part = Part(tmp_path, "a")
        part.write(b"x" * size)
        part.drop()
        assert list(tmp_path.iterdir()) == []
        assert not [fd for fd in Path("/proc/self/fd").iterdir() if str(tmp_path) in _target(fd)], "no descriptor"


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


@pytest.mark.parametrize("megabytes", [1, 3])
def test_a_disk_that_fills_says_no_room_and_keeps_nothing(tmp_path: Path, megabytes: int) -> None:
    mounted("tmpfs", "size=512k", tmp_path)
    try:
        part = Part(tmp_path, "a")
        with pytest.raises(Unavailable) as full:
            part.write(bytes(megabytes << 20))
        assert full.value.reason is Reason.NO_ROOM
        part.drop()
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.parametrize("sync", ["portable", "prepared", "one"])
def test_a_process_that_is_killed_leaves_whole_files_under_their_names_and_parts(tmp_path: Path, sync: str) -> None:
    """Wherever it was: what stands under a final name is whole, and every name that it was told is there."""
    box = spool.Spool(tmp_path / "data")
    box.prepare()
    program = (
        "import sys; from pathlib import Path\n"
        "from cauda.core.draft import Draft; from cauda.core.part import Part\n"
        "from cauda.core.slots import Slots, land\n"
        "folder, sync = Path(sys.argv[1]), sys.argv[2]\n"
        "slots, draft = Slots(folder, 64), Draft()\n"
        "if sync == 'prepared': slots.start()\n"
        "for n in range(100_000):\n"
        "    content, slot = [bytes([n % 251]) * 30_001] * (n % 7), slots.take()\n"
        "    if slot and content:\n"
        "        draft.begin()\n"
        "        for one in content: draft.add(one)\n"
        "        land(slot, f'{n:06}', draft)\n"
        "    else:\n"
        "        part = Part(folder, f'{n:06}', sync=sync)\n"
        "        for one in content: part.write(one)\n"
        "        part.land()\n"
        "    print(n, flush=True)\n"
    )
    draw = random.Random(5)
    for turn in range(5):
        arrivals = spool.open_arrivals(box, f"l{turn}")
        with subprocess.Popen(
            [sys.executable, "-c", program, arrivals.folder, sync], stdout=subprocess.PIPE, text=True
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for _ in range(draw.randint(1, 60)):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().splitlines()
        landed = spool.waiting(arrivals.folder)
        for path in landed:
            n = int(path.name.partition(".")[0])
            assert _behind_the_preamble(path.read_bytes()) == _behind_the_preamble(bytes([n % 251]) * 30_001 * (n % 7))
        if said and said[-1].isdigit():
            assert int(said[-1]) < len(landed)
        arrivals.close()


def _behind_the_preamble(content: bytes) -> tuple[int, bytes]:
    """And the length: a seal lies in the preamble (PS3.10 7.1)."""
    return len(content), content[128:]


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    """Of a landing folder."""
    made = Slots(tmp_path, 48)
    made.start()
    yield made
    made.close()


def slot_of(slots: Slots) -> Slot:
    """One that is ready."""
    slot = slots.take()
    assert slot is not None
    return slot


@pytest.mark.parametrize("size", SIZES)
def test_what_lands_in_a_slot_is_there_under_the_name_that_it_arrived_with(
    tmp_path: Path, slots: Slots, size: int
) -> None:
    draw = random.Random(size)
    content = draw.randbytes(size)
    for name in ("b", "a"):
        slot = slot_of(slots)
        assert land(slot, name, drafted(bytes(128) + content)) == slot.path
    found = spool.waiting(tmp_path)
    assert [path.name for path in found] == ["a.dcm", "b.dcm"]
    assert all(path.read_bytes()[128:] == content for path in found)


def test_nothing_is_there_where_a_slot_cannot_be_filled(
    tmp_path: Path, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, expected in (
        (OSError(errno.ENOSPC, "No space left"), Unavailable),
        (OSError(errno.EIO, "Input/output error"), Unavailable),
        (ZeroDivisionError("a bug"), ZeroDivisionError),
    ):
        slot = slot_of(slots)

        def failing(_fd: int, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(expected):
                land(slot, "a", drafted(b"x" * BLOCK))
        assert not slot.path.exists()
    assert spool.waiting(tmp_path) == []


def test_what_an_image_left_in_memory_is_not_in_the_file_of_the_next(tmp_path: Path, slots: Slots) -> None:
    draft = drafted(b"\xff" * (1 << 20))
    land(slot_of(slots), "a", draft)
    draft.begin(bytes(128) + b"short")
    path = land(slot_of(slots), "b", draft)
    assert path.read_bytes()[128:] == b"short" + bytes((1 << 20) - 133)


@pytest.mark.parametrize("refused_at", ["open", "write"])
def test_where_nothing_goes_past_the_page_cache_images_go_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused_at: str
) -> None:
    """Some file systems say so at once, some only when something is written."""
    real_open, real_write, direct = os.open, os.write, set[int]()

    def opening(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT and refused_at == "open":
            raise OSError(errno.EINVAL, "Invalid argument")
        fd = real_open(path, flags, mode)
        (direct.add if flags & os.O_DIRECT else direct.discard)(fd)
        return fd

    def writing(fd: int, content: memoryview) -> int:
        if fd in direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_write(fd, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opening)
        patch.setattr(os, "write", writing)
        slots = Slots(tmp_path, 16)
        slots.start()
        content = random.Random(1).randbytes(300_001)
        land(slot_of(slots), "a", drafted(bytes(128) + content))
        slots.close()
    (found,) = spool.waiting(tmp_path)
    assert found.read_bytes()[128:] == content
    assert list(tmp_path.iterdir()) == [found]


def test_slots_that_nobody_took_are_gone_at_the_end(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 32)
    slots.start()
    slot = slot_of(slots)
    slots.close()
    assert list(tmp_path.iterdir()) == [slot.path]


def test_without_a_slot_there_are_more_soon(tmp_path: Path, slots: Slots) -> None:
    taken = set()
    while len(taken) < 100:
        if (slot := slots.take()) is not None:
            taken.add(slot.path)
        else:
            until(lambda: slots.ready() > 0, what="more of them in a pause")
    assert all(path.stat().st_size == 1 << 20 and path.read_bytes() == bytes(1 << 20) for path in taken)


def test_none_is_made_while_they_are_taken_without_a_pause(tmp_path: Path) -> None:
    """It would cost the disk as much as the images."""
    now, asked, made = 0.0, 0, []

    def clock() -> float:
        nonlocal asked
        asked += 1
        return now

    slots = Slots(tmp_path, 48, made.append, clock)
    now = 1.0
    slots.start()
    until(lambda: slots.ready() == 48, what="all of them ready")
    assert len(list(iter(slots.take, None))) == 48
    batches, before = len(made), asked
    until(lambda: asked > before + 3, what="its thread looks whether there is a pause")
    assert len(made) == batches
    now = 2.0
    until(lambda: slots.ready() == 48, what="more of them in a pause")
    slots.close()


def test_a_disk_without_room_has_no_slots_and_nothing_is_left(tmp_path: Path) -> None:
    mounted("tmpfs", "size=3m", tmp_path)
    try:
        slots = Slots(tmp_path, 16)
        slots.start()
        assert slots.take() is None
        slots.close()
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_slots_are_given_back_where_room_becomes_scarce(tmp_path: Path) -> None:
    """Results and the ledger need what is left."""
    box = [spool.Spool(tmp_path), spool.Spool(tmp_path, min_free_bytes=1 << 60)]

    def check_room(incoming: int) -> None:
        box[0].check_room(incoming)

    slots = Slots(tmp_path, 16, check_room)
    slots.start()
    until(lambda: slots.ready() == 16, what="all of them ready")
    box.reverse()
    assert slots.take() is not None
    until(lambda: slots.ready() == 0, what="the others given back")
    assert len(list(tmp_path.iterdir())) == 1
    slots.close()


def test_a_lack_of_room_for_slots_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cauda.core.slots, "_RETRY_S", 0.01)
    asked = 0

    def check_room(_incoming: int) -> None:
        nonlocal asked
        asked += 1
        raise Unavailable(Reason.NO_ROOM, "no room: 3 MiB free, 5 MiB kept")

    with io.StringIO() as stream, logged(stream):
        slots = Slots(tmp_path, 16, check_room)
        slots.start()
        until(lambda: asked > 3, what="it tries again")
        slots.close()
        said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["event"] for one in said] == ["no_slots"]
    assert said[0]["message"].startswith("no room: 3 MiB free, 5 MiB kept; ")


def test_the_free_space_floor_holds_for_slots(tmp_path: Path) -> None:
    box = spool.Spool(tmp_path, min_free_bytes=1 << 60)
    slots = Slots(tmp_path, 16, box.check_room)
    slots.start()
    assert slots.take() is None
    slots.close()
    assert list(tmp_path.iterdir()) == []


def test_a_seal_holds_for_the_whole_file_alone(tmp_path: Path) -> None:
    """Whatever block, or end, a crash has not kept."""
    draw = random.Random(3)
    behind = draw.randbytes(5 * BLOCK + 17 - 128)
    content = seal.preamble(behind, "a") + behind
    file = tmp_path / "file"
    file.write_bytes(content + bytes(BLOCK))
    assert seal.name_in(file) == "a", "a slot is longer than what lies in it"
    seal.cut(file)
    assert file.read_bytes() == content
    assert seal.name_in(file) == "a"
    lost = [content[:end] for end in (0, 1, 127, 128, BLOCK, len(content) - 1)]
    lost += [content[:at] + bytes(512) + content[at + 512 :] for at in range(0, 5 * BLOCK, 512)]
    for left in [*lost, bytes(len(content))]:
        file.write_bytes(left)
        assert seal.name_in(file) is None
        file.write_bytes(left.ljust(1 << 20, b"\0"))
        assert seal.name_in(file) is None


def test_what_bears_no_seal_is_not_cut(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"", b"short", bytes(500), b"\1" * 500):
        file.write_bytes(content)
        seal.cut(file)
        assert file.read_bytes() == content
