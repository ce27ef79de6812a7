"""A file that is being received: right to the byte at every size and on every disk, and nothing before it is whole.

Blocks are what O_DIRECT writes; the stage is where content is gathered for it.
"""

from __future__ import annotations

import errno
import io
import json
import mmap
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from logged import logged
from peers import until

import cauda.core.slots
from cauda.core import seal, spool
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.part import Part
from cauda.core.slots import Slots

BLOCK = 4096
STAGE = 4 * BLOCK
SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, STAGE - 1, STAGE, STAGE + 1, 2 * STAGE, 3 * STAGE + BLOCK + 7]


def mounted(kind: str, options: str, folder: Path) -> None:
    """A file system in memory over a folder; without the right to mount one the test is skipped, in CI it fails."""
    mount = subprocess.run(["mount", "-t", kind, "-o", options, "none", folder], check=False, capture_output=True)
    if mount.returncode:
        reason = f"{kind} cannot be mounted here: {mount.stderr.decode().strip()}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(params=["stage", "no stage", "no such way", "no such disk"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, mmap.mmap | None]]:
    """A folder and a stage: O_DIRECT taken, not wanted, refused by a call that is made to, refused by a real disk."""
    if request.param == "no such disk":
        mounted("ramfs", "size=1m", tmp_path)
    if request.param == "no such way":
        real = os.open

        def refusing(path: Path, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_DIRECT:
                os.close(real(path, flags & ~os.O_DIRECT, mode))  # some make the file before they say so
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(path, flags, mode)

        monkeypatch.setattr(os, "open", refusing)
    try:
        yield tmp_path, None if request.param == "no stage" else mmap.mmap(-1, STAGE)
    finally:
        if request.param == "no such disk":
            subprocess.run(["umount", "--lazy", tmp_path], check=True)


def cut(content: bytes, draw: random.Random) -> list[bytes]:
    """The content in pieces of any size, some of them empty."""
    pieces, at = [], 0
    while at < len(content):
        size = draw.choice([0, 1, 13, 500, BLOCK, STAGE, 2 * STAGE + 1])
        pieces.append(content[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize("size", SIZES)
def test_the_file_is_what_was_written_at_every_size(place: tuple[Path, mmap.mmap | None], size: int) -> None:
    folder, stage = place
    draw = random.Random(size)
    for turn in range(4):  # the stage is used again by the next, with the leavings of the last in it
        content = draw.randbytes(size)
        part = Part(folder, f"a{turn}", stage)
        pieces = [content] if turn == 0 else cut(content, draw)
        for at in range(0, len(pieces), 3):
            part.write(pieces[at : at + 3])
        if size and turn % 2:
            assert part.content() == content
        assert not list(folder.glob("*.dcm")), "nothing has its name before it has landed"
        landed = part.land()
        assert landed.read_bytes() == content
        assert [p.name for p in folder.iterdir()] == [landed.name]
        landed.unlink()


def test_a_part_that_is_dropped_leaves_nothing(place: tuple[Path, mmap.mmap | None]) -> None:
    folder, stage = place
    for size in SIZES:
        part = Part(folder, "a", stage)
        part.write([b"x" * size])
        part.drop()
        assert list(folder.iterdir()) == []
        assert not [fd for fd in Path("/proc/self/fd").iterdir() if str(folder) in _target(fd)], "no descriptor is left"


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


def test_two_files_at_once_need_two_stages_and_do_not_mix(tmp_path: Path) -> None:
    parts = [Part(tmp_path, f"{n}", mmap.mmap(-1, STAGE)) for n in range(2)]
    for _ in range(9):
        for n, part in enumerate(parts):
            part.write([bytes([n]) * 3000])
    assert [part.land().read_bytes() for part in parts] == [bytes([n]) * 27_000 for n in range(2)]


@pytest.mark.parametrize("megabytes", [1, 3])
def test_a_disk_that_fills_says_no_room_and_keeps_nothing(tmp_path: Path, megabytes: int) -> None:
    """It fills while stages are written, or only when the rest of the last one is."""
    mounted("tmpfs", "size=512k", tmp_path)
    try:
        part = Part(tmp_path, "a", mmap.mmap(-1, 2 << 20))

        def fill() -> None:
            part.write([bytes(megabytes << 20)])
            part.land()

        with pytest.raises(Unavailable) as full:
            fill()
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
        "import mmap, sys; from pathlib import Path\n"
        "from cauda.core.part import Part; from cauda.core.slots import Slots\n"
        "folder, sync = Path(sys.argv[1]), sys.argv[2]\n"
        "stage, slots = mmap.mmap(-1, 1 << 16), Slots(folder, 64)\n"
        "if sync == 'prepared': slots.start()\n"
        "for n in range(100_000):\n"
        "    part = Part(folder, f'{n:06}', stage, sync=sync, slot=slots.take())\n"
        "    for _ in range(n % 7): part.write([bytes([n % 251]) * 30_001])\n"
        "    part.land(); print(n, flush=True)\n"
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


def test_what_lands_in_a_slot_is_there_under_the_name_that_it_arrived_with(tmp_path: Path, slots: Slots) -> None:
    content = random.Random(1).randbytes(STAGE - 5)
    for name in ("b", "a"):
        slot = slots.take()
        assert slot is not None
        one = Part(tmp_path, name, mmap.mmap(-1, STAGE), slot=slot)
        one.write([content])
        assert one.land() == slot
    assert [path.name for path in spool.waiting(tmp_path)] == ["a.dcm", "b.dcm"]
    assert all(_behind_the_preamble(path.read_bytes()) == _behind_the_preamble(content)
               for path in spool.waiting(tmp_path))  # fmt: skip


def test_the_disk_has_begun_with_what_is_looked_at_and_a_crash_then_leaves_nothing_that_counts(
    tmp_path: Path, slots: Slots
) -> None:
    """Who looks at it may refuse it: only what was landed has a seal."""
    content = random.Random(4).randbytes(STAGE - 5)
    slot = slots.take()
    assert slot is not None
    one = Part(tmp_path, "a", mmap.mmap(-1, STAGE), slot=slot)
    one.write([content[:9], content[9:]])
    assert one.content() == content
    assert slot.read_bytes()[BLOCK : len(content)] == content[BLOCK:]
    assert spool.waiting(tmp_path) == []


@pytest.mark.parametrize("size", [0, 127, STAGE + 1])
def test_what_cannot_be_sealed_lands_in_a_slot_in_the_portable_way(tmp_path: Path, slots: Slots, size: int) -> None:
    content = random.Random(2).randbytes(size)
    one = Part(tmp_path, "a", mmap.mmap(-1, STAGE), slot=slots.take())
    one.write([content])
    assert one.land() == tmp_path / "a.dcm"
    assert (tmp_path / "a.dcm").read_bytes() == content


def test_slots_that_nobody_took_are_gone_at_the_end_and_a_dropped_one_too(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 32)
    slots.start()
    one = Part(tmp_path, "a", mmap.mmap(-1, STAGE), slot=slots.take())
    one.write([b"x" * BLOCK])
    one.drop()
    slots.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_slot_there_are_more_soon(tmp_path: Path, slots: Slots) -> None:
    taken = set()
    while len(taken) < 100:
        if (slot := slots.take()) is not None:
            taken.add(slot)
        else:
            until(lambda: slots.ready() > 0, what="more of them in a pause")
    assert all(slot.stat().st_size == 1 << 20 and slot.read_bytes() == bytes(1 << 20) for slot in taken)


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
    content = bytearray(draw.randbytes(5 * BLOCK + 17))
    seal.put(memoryview(content), "a")
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
