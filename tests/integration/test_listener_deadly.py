"""An image that ends the listener while it is filed: it is set aside and named, and everything else goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import builders
import pytest
from listener_house import listener
from peers import until
from pydicom import Dataset

from cauda.core import ledger, part, schema, seal, slots, spool
from cauda.core.draft import Draft
from cauda.core.errors import Unavailable
from cauda.listener import suspects

pytestmark = pytest.mark.peers

_LISTENER = """
import os, signal, sys, threading
from pathlib import Path
from cauda.core import settings
from cauda.core.revisions import Fingerprint
from cauda.listener import {where}, serve

deadly, real = {text!r}, {where}.{function}
def wrapped(path, *rest):
    if deadly in path.read_bytes():
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(path, *rest)
{where}.{function} = wrapped
given = settings.load(environ={{}}, overrides={{
    "data": Path(sys.argv[1]), "node": {{"host": "127.0.0.1", "port": 0}}, "http": {{"port": 0}},
    "listener": {{"slots": 8}}, "limits": {{"min_free_bytes": 0, "drain_s": 1}},
}})
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
serve.run(given, Fingerprint(bundle_digest=None, config_digest="c0" * 32, code_version="0"), stop)
"""


def deadly_listener(data: Path, where: str = "part10", function: str = "digests") -> subprocess.Popen[bytes]:
    """A listener that dies when this function is given an image of Deadly^Patient."""
    code = _LISTENER.format(where=where, function=function, text=b"Deadly^Patient")
    return subprocess.Popen([sys.executable, "-c", code, str(data)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL)  # fmt: skip


def left_behind(data: Path, images: list[Dataset], *, in_slots: bool) -> Path:
    """What a listener that was killed left in its arrivals folder."""
    box = spool.Spool(data)
    box.prepare()
    arrivals = spool.open_arrivals(box, "dead")
    prepared = slots.Slots(arrivals.folder, 8)
    for place, image in enumerate(images):
        content = builders.part10(image)
        if in_slots:
            prepared.start() if place == 0 else None
            slot = prepared.take()
            assert slot is not None
            draft = Draft()
            draft.begin(content)
            slots.land(slot, f"{place:04d}", draft)
        else:
            part.land(arrivals.folder, f"{place:04d}", [content])
    arrivals.close()
    return arrivals.folder


def arrivals(data: Path) -> list[Path]:
    """What is still to be filed; a folder may go while it is looked into."""
    found: list[Path] = []
    for folder in (data / "arrivals").iterdir():
        with suppress(FileNotFoundError):
            found += folder.glob("*.dcm")
    return found


def starts_until_filed(data: Path, count: int, where: str, function: str) -> tuple[int, ledger.Ledger]:
    """Start a listener again and again, as systemd does, until one has filed so many images and lives."""
    book = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")

    def filed() -> int:
        with suppress(Unavailable), book.read() as conn:  # it is just being made
            if book.engine.dialect.has_table(conn, "instance"):
                return len(conn.execute(schema.instance.select()).all())
        return 0

    for start in range(1, 12):
        process = deadly_listener(data, where, function)
        assert process.stdin is not None
        until(lambda process=process: process.poll() is not None or filed() == count, timeout=60, what="an end")
        alive = process.poll() is None
        if alive:
            until(lambda: not arrivals(data), what="nothing left to file")
            process.stdin.close()
            assert process.wait(30) == 0
            return start, book
        assert process.returncode == -signal.SIGSEGV
    raise AssertionError("it never came to live")


@pytest.mark.parametrize("in_slots", [True, False])
@pytest.mark.parametrize(("where", "function"), [("part10", "digests"), ("landed", "read")])
def test_an_image_that_ends_the_listener_is_set_aside_and_the_rest_is_filed(
    tmp_path: Path, where: str, function: str, in_slots: bool
) -> None:
    """Also where reading whose it is ends it: then it is named by its file alone."""
    data = tmp_path / "data"
    images = builders.mr_study("deadly", axial=3, sagittal=3)
    images[2].PatientName = "Deadly^Patient"
    left_behind(data, images, in_slots=in_slots)
    starts, book = starts_until_filed(data, 5, where, function)
    assert starts <= suspects.MAX_DEATHS + 2
    (kept,) = (data / "unfiled").iterdir()
    assert kept.read_bytes()[128:] == builders.part10(images[2])[128:]
    with book.read() as conn:
        events = [row for row in conn.execute(schema.event.select()) if row.kind == "object_quarantined"]
        filed = {row.sop_uid for row in conn.execute(schema.instance.select())}
    assert filed == {image.SOPInstanceUID for image in images} - {images[2].SOPInstanceUID}
    assert [event.detail["path"] for event in events] == [f"unfiled/{kept.name}"]
    assert not (data / "arrivals" / "dead").exists()


def cauda(command: str, data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "cauda.deploy", "unfiled", command, *words, "--data", str(data)]
    return subprocess.run(arguments, check=False, capture_output=True, text=True)


def test_what_was_set_aside_is_named_and_filed_again_when_an_operator_says_so(tmp_path: Path) -> None:
    """After an update that mends the fault; where it does not, it is set aside again."""
    (image,) = builders.mr_study("released", axial=1, sagittal=0)
    with listener(tmp_path / "data") as running:
        kept = running.data / "unfiled" / "0001.dcm"
        kept.write_bytes(builders.part10(image))
        listed = cauda("list", running.data)
        assert "0001.dcm" in listed.stdout
        for name in ("0002.dcm", "../ledger.sqlite", "/etc/passwd", "."):
            assert cauda("release", running.data, name).returncode == 3
        assert cauda("release", running.data, "0001.dcm").returncode == 0
        until(lambda: running.rows(schema.instance), what="it filed")
        assert running.row(schema.instance)["sop_uid"] == image.SOPInstanceUID
        until(lambda: not list((running.data / "arrivals").glob("released-*")), what="the folder gone")
        assert not list((running.data / "unfiled").iterdir())


def test_a_death_or_two_set_nothing_aside(tmp_path: Path) -> None:
    """A listener is killed for other reasons; some image is always being filed then."""
    for deaths in range(2):
        data = tmp_path / f"{deaths}"
        folder = left_behind(data, builders.mr_study("killed", axial=2, sagittal=2), in_slots=False)
        suspects.write(folder, {f"{place:04d}.dcm": deaths for place in range(4)})
        starts, _ = starts_until_filed(data, 4, "part10", "digests")
        assert starts == 1
        assert not list((data / "unfiled").iterdir())


def test_what_is_being_filed_is_written_down_under_the_name_that_it_is_found_by(tmp_path: Path) -> None:
    for in_slots in (True, False):
        folder = left_behind(
            tmp_path / str(in_slots), builders.mr_study("name", axial=2, sagittal=0), in_slots=in_slots
        )
        pattern = "*.slot" if in_slots else "*.dcm"
        landed = [path for path in folder.glob(pattern) if not in_slots or seal.name_in(path) is not None]
        with suspects.written_down(landed):
            assert suspects.after_death(folder) == {"0000.dcm": 1, "0001.dcm": 1}
            with suspects.written_down(landed[:1]):
                pass
        assert suspects.after_death(folder) == {}
        assert [path.name for path in spool.waiting(folder)] == ["0000.dcm", "0001.dcm"]


def test_a_marker_that_is_spoilt_suspects_nobody(tmp_path: Path) -> None:
    for content in (b"", b"\xff\xfe", b"[1]", b'{"a": "x"}', b'{"a": {}}'):
        (tmp_path / suspects.MARKER).write_bytes(content)
        assert suspects.after_death(tmp_path) == {}
