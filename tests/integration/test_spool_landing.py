"""Landing, filing and results on a real disk: nothing half, nothing replaced, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cauda.core import part, spool
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Rejected, Unavailable
from cauda.core.spool import Spool


@pytest.fixture
def box(tmp_path: Path) -> Spool:
    """A prepared data folder."""
    made = Spool(tmp_path / "data")
    made.prepare()
    return made


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Spool]:
    """A data folder on a disk of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], check=False, capture_output=True
    )
    if mount.returncode:
        reason = f"a small disk cannot be mounted here: {mount.stderr.decode().strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    made = Spool(folder)
    made.prepare()
    yield made
    subprocess.run(["umount", "--lazy", folder], check=True)


def files(folder: Path) -> list[str]:
    """All there is below a folder, locks aside."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_what_landed_is_whole_and_no_part_remains(box: Spool) -> None:
    with_lock = spool.open_arrivals(box, "l1")
    landed = part.land(with_lock.folder, "a", [b"one", memoryview(b"two"), b""])
    assert landed.read_bytes() == b"onetwo"
    assert files(box.arrivals) == ["l1/a.dcm"]
    assert spool.waiting(with_lock.folder) == [landed]
    with_lock.close()


def test_a_full_disk_leaves_nothing_behind_and_says_no_room(tiny: Spool) -> None:
    arrivals = spool.open_arrivals(tiny, "l1")
    kept = part.land(arrivals.folder, "a", [b"x" * 100_000])
    with pytest.raises(Unavailable) as full:
        part.land(arrivals.folder, "b", [b"x" * 50_000] * 10)
    assert full.value.reason is Reason.NO_ROOM
    assert "no room" in full.value.message
    assert files(tiny.arrivals) == ["l1/a.dcm"]
    kept.unlink()
    part.land(arrivals.folder, "c", [b"x" * 100_000])  # and with room again it goes on
    arrivals.close()


def test_a_result_that_finds_no_room_leaves_nothing_behind(tiny: Spool) -> None:
    with pytest.raises(Unavailable) as full:
        spool.put_result(tiny, "1.2", "1.2.3", b"x" * 400_000)
    assert full.value.reason is Reason.NO_ROOM
    assert files(tiny.outbox) == []
    path, _ = spool.put_result(tiny, "1.2", "1.2.3", b"x" * 100)
    assert path.read_bytes() == b"x" * 100


def test_the_floor_of_free_space_is_kept(box: Spool) -> None:
    spool.Spool(box.data, min_free_bytes=0).check_room(1)
    with pytest.raises(Unavailable) as low:
        spool.Spool(box.data, min_free_bytes=1 << 60).check_room()
    assert low.value.reason is Reason.NO_ROOM


def test_landing_does_not_replace(box: Spool) -> None:
    """A part of the same name belongs to somebody."""
    arrivals = spool.open_arrivals(box, "l1")
    (arrivals.folder / "a.part").write_bytes(b"theirs")
    with pytest.raises(Unavailable):
        part.land(arrivals.folder, "a", [b"ours"])
    arrivals.close()


def test_a_folder_that_vanished_is_the_worlds_fault(box: Spool) -> None:
    with pytest.raises(Unavailable) as gone:
        part.land(box.arrivals / "none", "a", [b"x"])
    assert gone.value.reason is Reason.DISK_FAILED
    with pytest.raises(Unavailable) as missing:
        spool.read(box, "studies/1.2/1.2.3.dcm")
    assert missing.value.reason is Reason.FILE_MISSING


def test_filing_repeats_harmlessly_and_never_replaces(box: Spool) -> None:
    arrivals = spool.open_arrivals(box, "l1")
    first = part.land(arrivals.folder, "a", [b"one"])
    place, version = spool.file_image(box, first, "1.2", "1.2.3")
    assert (place, version) == (box.studies / "1.2" / "1.2.3.dcm", 1)
    assert spool.file_image(box, first, "1.2", "1.2.3") == (place, 1)
    same = part.land(arrivals.folder, "b", [b"one"])
    assert spool.file_image(box, same, "1.2", "1.2.3") == (place, 1)
    other = part.land(arrivals.folder, "c", [b"two"])
    second, version = spool.file_image(box, other, "1.2", "1.2.3")
    assert (second.name, version) == ("1.2.3.v2.dcm", 2)
    assert place.read_bytes() == b"one"
    assert second.read_bytes() == b"two"
    arrivals.close()


@pytest.mark.parametrize("trick", ["../../evil", "..", "1.2/../../x", "", "/etc"])
def test_no_uid_leads_out_of_its_folder(box: Spool, trick: str) -> None:
    arrivals = spool.open_arrivals(box, "l1")
    landed = part.land(arrivals.folder, "a", [b"one"])
    for study, sop in ((trick, "1.2"), ("1.2", trick)):
        with pytest.raises(Rejected):
            spool.file_image(box, landed, study, sop)
        with pytest.raises(Rejected):
            spool.put_result(box, study, sop, b"x")
    assert files(box.data) == ["arrivals/l1/a.dcm"]
    arrivals.close()


def test_what_is_in_the_outbox_under_a_uid_is_never_rebuilt(box: Spool) -> None:
    place, digest = spool.put_result(box, "1.2", "1.2.3", b"first")
    again, same = spool.put_result(box, "1.2", "1.2.3", b"second")
    assert (again, same) == (place, digest)
    assert place.read_bytes() == b"first"
    assert files(box.outbox) == ["1.2/1.2.3.dcm"]


def test_of_many_that_put_the_same_result_at_once_one_wins_for_all(box: Spool) -> None:
    """Two workers on one revision: a lease was lost. Their processes have parts of their own names."""
    program = (
        "import sys; from pathlib import Path; from cauda.core import spool; input();"
        "print(spool.put_result(spool.Spool(Path(sys.argv[1])), '1.2', '1.2.3', sys.argv[2].encode() * 1000)[1])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, box.data, str(n)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(lambda process: process.communicate("\n")[0], processes))
    assert len(digests) == 1
    assert digests.pop().strip() == spool.sha256(box.outbox / "1.2" / "1.2.3.dcm")
    assert files(box.outbox) == ["1.2/1.2.3.dcm"]


def test_a_landing_folder_belongs_to_one_listener(box: Spool) -> None:
    mine = spool.open_arrivals(box, "l1")
    with pytest.raises(Misconfigured, match="in use"):
        spool.open_arrivals(box, "l1")
    assert list(spool.abandoned(box, box.arrivals / "other")) == []
    mine.close()
    spool.open_arrivals(box, "l1").close()


def test_a_dead_listeners_arrivals_are_adopted_by_one_and_its_parts_are_not(box: Spool) -> None:
    dead = spool.open_arrivals(box, "dead")
    landed = part.land(dead.folder, "a", [b"one"])
    (dead.folder / "b.part").write_bytes(b"half")
    dead.close()
    (adopted,) = spool.abandoned(box, box.arrivals / "me")
    assert list(spool.abandoned(box, box.arrivals / "me too")) == []
    assert spool.waiting(adopted.folder) == [landed]
    spool.remove_if_empty(adopted)
    assert landed.exists(), "an acknowledged file is never removed"
    landed.unlink()
    spool.remove_if_empty(adopted)
    assert not dead.folder.exists()
    adopted.close()


def test_a_folder_that_is_being_removed_is_never_held_by_a_lock_on_a_dead_name(box: Spool) -> None:
    """A listener that starts under an old name while another adopts the old folder must own a folder that exists."""
    wrong: list[str] = []
    stop = threading.Event()

    def adopt() -> None:
        while not stop.wait(0.002):
            for old in spool.abandoned(box, box.arrivals / "me"):
                spool.remove_if_empty(old)
                old.close()

    with ThreadPoolExecutor(2) as pool:
        adopters = [pool.submit(adopt), pool.submit(adopt)]
        try:
            for n in range(150):
                mine = spool.open_arrivals(box, "again")
                try:
                    part.land(mine.folder, f"f{n}", [b"x"]).unlink()
                except Unavailable as error:
                    wrong.append(str(error))
                mine.close()
        finally:
            stop.set()
    for adopter in adopters:
        adopter.result()
    assert wrong == []
