"""The filer when something is wrong: a passing fault costs time, a strange object costs nobody else anything."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders
import pytest
from listener_house import listener, store
from peers import until
from pydicom import Dataset

from cauda.core import ledger, part, schema, slots, spool
from cauda.core.domain import Reason
from cauda.core.draft import Draft
from cauda.core.errors import Unavailable
from cauda.listener import adopting, beside, filer, filing, landed, part10, serve, told

pytestmark = pytest.mark.peers


def failing_first(real: Callable[..., Any], error: Exception, times: int = 1) -> Callable[..., Any]:
    """The function, which raises the first times it is called."""
    left = [error] * times

    def call(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return real(*args, **kwargs)

    return call


def left_behind(data: Path, *contents: bytes) -> None:
    """What a listener that was killed left in its arrivals folder."""
    house = spool.Spool(data)
    house.prepare()
    arrivals = spool.open_arrivals(house, "dead")
    for place, content in enumerate(contents):
        part.land(arrivals.folder, f"{place:04d}", [content])
    arrivals.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_a_passing_fault_of_the_disk_sets_no_good_image_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    images = builders.mr_study(20, axial=1, sagittal=1)
    monkeypatch.setattr(part10, "digests", failing_first(part10.digests, OSError(code, "passing"), times=2))
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images)
        house.until_filed()
        assert len(house.rows(schema.instance)) == 2
    assert not list((tmp_path / "data" / "unfiled").iterdir())


def test_an_object_that_meets_a_bug_is_set_aside_alone_and_the_door_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left by a listener that it may have killed: it must not take the next one down, too."""
    good, strange = builders.mr_study(21, axial=1, sagittal=1)
    left_behind(tmp_path / "data", builders.part10(strange), builders.part10(good))
    real = part10.digests

    def digests(path: Path) -> tuple[str, str, int]:
        if path.read_bytes() == builders.part10(strange):
            raise ZeroDivisionError("a bug")
        return real(path)

    monkeypatch.setattr(part10, "digests", digests)
    with listener(tmp_path / "data") as house:
        until(lambda: house.rows(schema.instance), what="the other object filed")
        assert house.row(schema.instance)["sop_uid"] == good.SOPInstanceUID
        assert [e["kind"] for e in house.rows(schema.event) if "unfiled" in e["kind"]] == ["object_unfiled"]
        assert house.thread.is_alive()
    (kept,) = (tmp_path / "data" / "unfiled").iterdir()
    assert kept.read_bytes() == builders.part10(strange)


def test_setting_aside_waits_for_a_ledger_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filer goes on afterwards, and the object's event is not lost."""
    away = Unavailable(Reason.LEDGER_DOWN, "ledger: away")
    monkeypatch.setattr(filing, "record", failing_first(filing.record, away, times=2))
    real = part10.digests

    def digests(path: Path) -> tuple[str, str, int]:
        if b"Strange^Patient" in path.read_bytes():
            raise ZeroDivisionError("a bug")
        return real(path)

    monkeypatch.setattr(part10, "digests", digests)
    images = builders.mr_study(22, axial=1, sagittal=0)
    strange = builders.mr_study(22, axial=1, sagittal=0, PatientName="Strange^Patient")
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images)
        house.until_filed()
        store(house.ports.dimse, strange)
        house.until_filed()
        store(house.ports.dimse, builders.mr_study(23, axial=1, sagittal=0))
        until(lambda: len(house.rows(schema.study)) == 2, what="a later study filed")
        unfiled = [e for e in house.rows(schema.event) if e["kind"] == "object_unfiled"]
    kept = list((tmp_path / "data" / "unfiled").iterdir())
    assert {e["detail"]["path"] for e in unfiled} == {f"unfiled/{path.name}" for path in kept}
    assert len(kept) == 1


def test_an_image_whose_first_version_is_gone_is_filed_and_its_study_held(tmp_path: Path) -> None:
    """What cannot be shown to be equal is not; and nothing waits behind it."""
    images = builders.mr_study(24, axial=1, sagittal=0)
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images)
        until(lambda: house.rows(schema.instance), what="the image filed")
        house.until_filed()
        next((house.data / "studies").glob("*/*.dcm")).unlink()
        renamed: list[Dataset] = builders.mr_study(24, axial=1, sagittal=0, PatientName="B")
        store(house.ports.dimse, renamed)
        until(lambda: house.row(schema.study)["hold"] == Reason.PIXELS_CHANGED, what="hold")
        house.until_filed()
        assert not list((house.data / "unfiled").iterdir())


def opened(data: Path) -> tuple[ledger.Ledger, spool.Spool]:
    """A ledger and a spool in use by nobody."""
    book = ledger.open_ledger(f"sqlite:///{data / 'ledger.sqlite'}")
    ledger.migrate(book)
    box = spool.Spool(data)
    box.prepare()
    return book, box


def two_versions() -> tuple[bytes, bytes]:
    """Whether they show the same has to be decoded."""
    (image,) = builders.mr_study(28, axial=1, sagittal=0)
    first = builders.part10(image)
    image.PixelData = bytes(len(image.PixelData))
    return first, builders.part10(image)


def test_what_a_dead_listener_left_is_nobody_elses_while_it_is_compared(tmp_path: Path) -> None:
    """Another would take the comparison for what ended it."""
    data = tmp_path / "data"
    left_behind(data, *two_versions())
    book, box = opened(data)
    adopter = adopting.Adopter(book, box, data / "none", filer.Filer(book, box, "me"))
    for _ in range(2):
        adopter.adopt()
        assert [path.name for path in spool.waiting(data / "arrivals" / "dead")] == ["0001.dcm"]
        assert list(spool.abandoned(box, data / "none")) == []
    adopter.close()
    (free,) = spool.abandoned(box, data / "none")
    free.close()


def test_what_has_to_be_compared_goes_into_the_line_once_and_after_its_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the ledger was away at first: the end of the association comes behind it, once."""
    data = tmp_path / "data"
    left_behind(data, *two_versions())
    book, box = opened(data)
    line = beside.Line()
    first, second = (told.Arrived(path) for path in spool.waiting(data / "arrivals" / "dead"))
    filing.file_batch(book, box, "me", None, [first], line)
    header = landed.read(second.path).header
    origin = part10.Origin(association_id="a", calling_aet="S", called_aet="C", address="127.0.0.1")
    monkeypatch.setattr(landed, "read", lambda _: landed.Landed(header=header, origin=origin))
    monkeypatch.setattr(filing, "_note", failing_first(filing._note, Unavailable(Reason.LEDGER_DOWN, "away")))
    ended = told.Ended("a", "released")
    batch = [told.Opened(origin), second, ended]
    with pytest.raises(Unavailable):
        filing.file_batch(book, box, "me", None, batch, line)
    assert second.path not in line
    for _ in range(2):
        filing.file_batch(book, box, "me", None, batch[:2], line)
    filing.file_batch(book, box, "me", None, [ended], line)
    line.close()
    taken = iter(line.take, None)
    assert [one.what for one in taken if one is not None] == [second, ended]


def test_for_what_is_compared_only_its_study_waits(tmp_path: Path) -> None:
    made = filer.Filer(ledger.open_ledger(f"sqlite:///{tmp_path / 'unused'}"), spool.Spool(tmp_path), "me", "mine")
    compared, other = told.Arrived(tmp_path / "1"), told.Arrived(tmp_path / "2")
    made.tell(compared)
    assert (made.backlog().count, made.backlog().all_count) == (1, 1)
    made.line.put(beside.Item(what=compared, path=compared.path, key=("1.2", "1.2.3")))
    found = made.backlog()
    assert (found.count, found.age_s, found.all_count, list(found.compared)) == (0, 0.0, 1, ["1.2"])
    assert found.all_age_s == found.compared["1.2"] > 0
    made.tell(other)
    found = made.backlog()
    assert (found.count, found.all_count, list(found.compared)) == (1, 2, ["1.2"])
    assert found.compared["1.2"] > found.age_s > 0


def test_a_long_backlog_of_a_dead_listener_is_adopted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In between the listener says that it lives, and looks whether studies are complete."""
    images = builders.mr_study(27, axial=20, sagittal=20)
    left_behind(tmp_path / "data", *map(builders.part10, images))
    monkeypatch.setattr(adopting, "_ADOPT_S", 0.0)
    book, folders = opened(tmp_path / "data")
    adopter = adopting.Adopter(book, folders, tmp_path, filer.Filer(book, folders, "me"))
    adopted = [adopter.adopt() for _ in range(4)]
    assert adopted == [16, 16, 8, 0]
    with book.read() as conn:
        assert len(conn.execute(schema.instance.select()).all()) == 40
    assert not list(folders.arrivals.iterdir())


def prepared(data: Path, content: bytes) -> tuple[Path, list[Path]]:
    """What a listener that was killed left of its prepared files: a sealed image, and those that hold none."""
    house = spool.Spool(data)
    house.prepare()
    arrivals = spool.open_arrivals(house, "dead")
    made = slots.Slots(arrivals.folder, 8)
    made.start()
    until(lambda: made.ready() == 8, what="all of them prepared")
    taken = [slot for slot in (made.take() for _ in range(8)) if slot is not None]
    draft = Draft()
    draft.begin(content)
    slots.land(taken[0], "0000", draft)
    (arrivals.folder / "0001.part").write_bytes(content)
    taken[1].path.write_bytes(content[:400])  # begun, and never sealed
    arrivals.close()
    return taken[0].path, [slot.path for slot in taken[1:]] + [arrivals.folder / "0001.part"]


def test_prepared_files_of_a_dead_listener_go_before_its_images_are_filed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each crash leaves half a gigabyte; where filing crashes again, they would never go."""
    (image,) = builders.mr_study(25, axial=1, sagittal=0)
    sealed, empty = prepared(tmp_path / "data", builders.part10(image))
    monkeypatch.setattr(
        adopting, "file_or_set_aside", failing_first(adopting.file_or_set_aside, KeyboardInterrupt(), 9)
    )
    folders = spool.Spool(tmp_path / "data")
    book = ledger.open_ledger(f"sqlite:///{tmp_path / 'unused'}")
    with pytest.raises(KeyboardInterrupt):
        adopting.Adopter(book, folders, tmp_path, filer.Filer(book, folders, "me")).adopt()
    assert not [path for path in empty if path.exists()]
    assert (sealed.parent / "0000.dcm").read_bytes()[128:] == builders.part10(image)[128:]


def test_prepared_files_of_a_dead_listener_go_before_new_ones_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be full of them. What is acknowledged in one of them stays and is filed."""
    (image,) = builders.mr_study(26, axial=1, sagittal=0)
    sealed, empty = prepared(tmp_path / "data", builders.part10(image))
    left: list[bool] = []
    monkeypatch.setattr(serve, "_slots", lambda *_: left.append(sealed.exists() and not any(p.exists() for p in empty)))
    with listener(tmp_path / "data") as house:
        until(lambda: house.rows(schema.instance), what="the image filed")
        assert house.row(schema.instance)["sop_uid"] == image.SOPInstanceUID
    assert left == [True]


def a_filer(data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[filer.Filer, list[told.Told], list[int]]:
    """A filer, what it has filed, and how much was waiting each time it gave way to a burst that never pauses."""
    done: list[told.Told] = []
    gave_way: list[int] = []
    monkeypatch.setattr(filer, "file_or_set_aside", lambda *given: done.extend(given[4]))
    monkeypatch.setattr(filer, "_QUIET_S", 3600.0)
    made = filer.Filer(ledger.open_ledger(f"sqlite:///{data / 'unused'}"), spool.Spool(data), "me")
    real = made._give_way

    def give_way() -> None:
        gave_way.append(made._queue.qsize())
        real()

    monkeypatch.setattr(made, "_give_way", give_way)
    return made, done, gave_way


def test_a_stream_without_pauses_is_given_way_once_and_then_filed_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every batch would wait for its pause, and the last image for hundreds of batches."""
    monkeypatch.setattr(filer, "_PATIENCE_S", 0.2)
    made, done, gave_way = a_filer(tmp_path, monkeypatch)
    for n in range(10 * filer.BATCH):
        made.tell(told.Arrived(tmp_path / str(n)))
    ended = told.Ended("a", "released")
    made.tell(ended)
    made.start()
    try:
        until(lambda: ended in done, what="everything filed although nothing ever paused")
        assert gave_way == [10 * filer.BATCH]
        made.tell(told.Arrived(tmp_path / "later"))
        until(lambda: len(done) == 10 * filer.BATCH + 2, what="the next one filed")
        assert len(gave_way) == 2, "the queue was empty: the next burst is given way again"
        made.tell(ended)
        until(lambda: len(done) == 10 * filer.BATCH + 3, what="an end waits for no pause")
        assert len(gave_way) == 2
    finally:
        made.finish()


def test_an_association_that_was_opened_is_entered_with_what_comes_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entered at once it would take disk and processor from the first images."""
    monkeypatch.setattr(filer, "_PATIENCE_S", 3600.0)
    made, done, gave_way = a_filer(tmp_path, monkeypatch)
    opened = told.Opened(part10.Origin(association_id="a", calling_aet="S", called_aet="C", address="127.0.0.1"))
    made.start()
    try:
        made.tell(opened)
        until(lambda: gave_way, what="it waits")
        made.tell(told.Arrived(tmp_path / "image"))
        assert done == []
    finally:
        made.finish()
    assert done == [opened, told.Arrived(tmp_path / "image")]


def test_giving_way_holds_up_no_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filer, "_PATIENCE_S", 3600.0)
    made, done, gave_way = a_filer(tmp_path, monkeypatch)
    made.start()
    for n in range(3 * filer.BATCH):
        made.tell(told.Arrived(tmp_path / str(n)))
    until(lambda: gave_way, what="it waits")
    made.finish()
    assert len(done) == 3 * filer.BATCH
