"""The power goes: what was said to be stored is there on a real file system, and what is cut short is not taken.

A copy of a mounted file system's device is what a cut of power leaves: whatever the kernel had only in memory is
missing from it. Whether the device itself kept what it was told to flush is not seen here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from disks import disk, mounted, run
from drafts import drafted

from cauda.core import journal, spool
from cauda.core.folders import fsync_folder
from cauda.core.part import Part, Sync
from cauda.core.slots import Slot, Slots, land

CONTENT = bytes(range(256)) * 1201  # no whole number of blocks
LONG = bytes(range(256)) * 5003  # longer than a slot


@contextmanager
def after_the_cut(device: Path) -> Iterator[Path]:
    """What is found when the power comes back."""
    copy = device.with_name("copy")
    subprocess.run(["cp", "--sparse=always", device, copy], check=True)
    options = ["nouuid"] if copy.read_bytes()[:4] == b"XFSB" else []
    with mounted(copy, device.with_name("later"), *options) as folder:
        yield folder


def landed(folder: Path, sync: Sync, content: bytes = CONTENT) -> Path:
    """A file, as the door lands one."""
    if sync != "prepared":
        part = Part(folder, "a", sync=sync)
        part.write(content)
        return part.land()
    with slot_in(folder) as slot:
        return land(slot, "a", drafted(content))


@contextmanager
def slot_in(folder: Path) -> Iterator[Slot]:
    """One that is ready."""
    slots = Slots(folder, 16)
    slots.start()
    slot = slots.take()
    assert slot is not None
    yield slot
    slots.close()


@pytest.mark.parametrize(
    ("kind", "sync"),
    [
        ("ext4", "one"),
        ("xfs", "one"),
        ("ext4", "portable"),
        ("xfs", "portable"),
        ("ext4 without a journal", "portable"),
        ("ext4", "prepared"),
        ("xfs", "prepared"),
        ("ext4 without a journal", "prepared"),
    ],
)
@pytest.mark.parametrize("content", [CONTENT, LONG], ids=["short", "long"])
def test_what_has_landed_is_there_whole_after_the_power_was_cut(
    tmp_path: Path, kind: str, sync: Sync, content: bytes
) -> None:
    with disk(tmp_path, kind) as (device, folder):
        landed(folder, sync, content)
        with after_the_cut(device) as later:
            (found,) = spool.waiting(later)
            assert found.name.startswith("a.")
            assert found.read_bytes()[128:] == content[128:], "the preamble may bear a seal"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "ext4 without a journal"])
def test_these_file_systems_take_an_image_past_their_page_cache(tmp_path: Path, kind: str) -> None:
    """So that it is the usual way that the power is cut on."""
    with disk(tmp_path, kind) as (_, folder), slot_in(folder) as slot:
        assert slot.flags == os.O_DIRECT


@pytest.mark.parametrize("kind", ["ext4", "xfs", "ext4 without a journal"])
def test_a_result_in_the_outbox_is_there_whole_after_the_power_was_cut(tmp_path: Path, kind: str) -> None:
    """The first of a study, whose folder is new."""
    with disk(tmp_path, kind) as (device, folder):
        store = spool.Spool(folder)
        store.prepare()
        path, digest = spool.put_result(store, "1.2", "1.2.3", CONTENT)
        with after_the_cut(device) as later:
            assert spool.sha256(later / path.relative_to(folder)) == digest


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_filed_image_is_there_whole_after_the_power_was_cut(tmp_path: Path, kind: str) -> None:
    """The steps of the filer, before it tells the ledger."""
    with disk(tmp_path, kind) as (device, folder):
        store = spool.Spool(folder)
        store.prepare()
        arrivals = spool.open_arrivals(store, "l1")
        path, _ = spool.file_image(store, landed(arrivals.folder, "portable"), "1.2", "1.2.3")
        fsync_folder(path.parent)
        with after_the_cut(device) as later:
            assert (later / path.relative_to(folder)).read_bytes() == CONTENT
        arrivals.close()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_without_its_sync_it_is_not_there(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the cut cuts."""
    with disk(tmp_path, kind) as (device, folder):
        os.sync()
        monkeypatch.setattr(os, "fsync", lambda _fd: None)
        landed(folder, "one")
        with after_the_cut(device) as later:
            assert spool.waiting(later) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "ext4 without a journal"])
def test_a_slot_without_its_sync_is_not_taken_for_an_image(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is there, and its content is not, or not all of it.

    It is written through the page cache: what goes past that is on the device's copy before it was told to keep it.
    """
    with disk(tmp_path, kind) as (device, folder):
        with slot_in(folder) as slot:
            monkeypatch.setattr(os, "fdatasync", lambda _fd: None)
            path = land(Slot(slot.path, 0), "a", drafted(CONTENT))
        with after_the_cut(device) as later:
            assert path.name in {one.name for one in later.iterdir()}, "the case that this is about"
            assert spool.waiting(later) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_got_its_name_and_not_all_of_its_content_is_not_taken_for_an_image(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's sync commits the rename before ours has written the data."""
    box = spool.Spool(tmp_path / "disk" / "data")
    with disk(tmp_path, kind) as (device, folder):
        box.prepare()
        arrivals = spool.open_arrivals(box, "dead")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _fd: None)
            path = landed(arrivals.folder, "one")
        fsync_folder(folder / "data" / "arrivals" / "dead")
        with after_the_cut(device) as later:
            found = later / path.relative_to(folder)
            assert found.stat().st_size < len(CONTENT), "the case that this is about"
            assert spool.waiting(found.parent) == []
            (adopted,) = spool.abandoned(spool.Spool(later / "data"), later / "data" / "arrivals" / "me")
            spool.remove_if_empty(adopted)
            assert not found.parent.exists()
            adopted.close()
        arrivals.close()


@pytest.mark.parametrize(
    ("kind", "options", "refused"),
    [
        ("ext4", (), None),
        ("ext4", ("data=journal",), None),
        ("ext4", ("data=writeback",), "data=writeback"),
        ("ext4 without a journal", (), "no journal"),
        ("xfs", (), None),
    ],
)
def test_one_sync_is_allowed_where_the_journal_keeps_name_and_content_together(
    tmp_path: Path, kind: str, options: Sequence[str], refused: str | None
) -> None:
    with disk(tmp_path, kind):
        pass
    with mounted(tmp_path / "device", tmp_path / "again", *options) as folder:
        said = journal.one_sync(folder)
    assert said is None if refused is None else refused in str(said)


def test_one_sync_is_refused_where_nothing_is_known(tmp_path: Path) -> None:
    run("mount", "-t", "tmpfs", "none", tmp_path)
    try:
        assert "tmpfs" in str(journal.one_sync(tmp_path))
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text("")
    assert "unknown" in str(journal.one_sync(tmp_path, proc=tmp_path))
