"""Counts from the archive: asked beside the work, kept in the ledger, and never a reason to stall (CLINICAL.md 1)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import orthanc
from key_ignoring_archive import key_ignoring
from ledgers import FINGERPRINT, House
from listener_house import listener, store
from peers import HOST, free_port, until
from pydicom import Dataset
from scripted_archive import archive
from web_server import serving

from cauda.core import headers, intake, listings, schema
from cauda.core.settings import Completeness, Settings, Source
from cauda.listener import completeness
from cauda.listener.archive import Asker

pytestmark = pytest.mark.peers

POLICY = Completeness(after_release_s=600, quiet_s=600, hard_age_s=5400, agree_s=180, stale_s=300)
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])  # what a peer does is the same for every database
LOCALIZER = {"SeriesDescription": "localizer", "ImageOrientationPatient": builders.CORONAL}


def asker(house: House, url: str, **source: Any) -> Asker:
    return Asker(house.ledger, Settings(source=Source(url=url, timeout_s=2, ask_every_s=30, **source)))


def receive(house: House, images: Sequence[Dataset]) -> None:
    """File images as the filer does, by their headers alone."""
    for image in images:
        header = headers.of(image)
        with house.ledger.write() as conn:
            intake.file_instance(
                house.ledger, conn,
                intake.Filed(header=header, path=header.sop_uid, version=1, sha256=header.sop_uid,
                             dataset_sha256=header.sop_uid, bytes=1, association_id=None, source="MR1"),
            )  # fmt: skip


def outcome(house: House) -> str:
    """Let the tick decide; the reason of the revision, if it made one."""
    completeness.tick(house.ledger, POLICY, FINGERPRINT)
    made = house.rows(schema.revision)
    return made[0].complete_reason if made else ""


def known(house: House, study_uid: str) -> Mapping[str, int | None] | None:
    found: list[Mapping[str, int | None] | None] = [
        row.series for row in house.rows(schema.listing, study_uid=study_uid)
    ]
    return found[0] if found else None


@pytest.mark.parametrize(
    "without",
    [(), ("NumberOfSeriesRelatedInstances",), ("Modality",), ("QueryRetrieveLevel",),
     ("SeriesDescription", "NumberOfSeriesRelatedInstances", "Modality")],
)  # fmt: skip
def test_whatever_an_archive_leaves_out_its_series_are_counted(house: House, without: tuple[str, ...]) -> None:
    """Twice the same, three minutes apart: complete long before the quiet time; localizers and results do not count."""
    images = builders.mr_study(1)
    other = [
        builders.foreign_result(images[0], "1.2.77"),
        builders.foreign_result(images[0], "1.2.78", builders.COMPREHENSIVE_SR),
    ]
    receive(house, images)
    with archive() as pacs:
        pacs.lists([*images, *other], *without)
        ask = asker(house, pacs.dimse)
        assert ask.ask_due() == 1
        assert ask.ask_due() == 0  # asked a moment ago
        assert sorted((known(house, images[0].StudyInstanceUID) or {}).values(), key=str) == [5, 5]
        assert outcome(house) == ""
        house.time.passes(180)
        ask.ask_due()
        assert outcome(house).startswith("archive lists 2 MR series, all here: 5 axial")
        house.time.passes(60)
        assert ask.ask_due() == 0  # nobody asks about a complete study


def test_series_that_are_never_used_are_not_waited_for(house: House) -> None:
    images = builders.mr_study(1)
    scout = [builders.mr_image(images[0].StudyInstanceUID, "1.2.5", f"1.2.5.{i}", **LOCALIZER) for i in range(3)]
    receive(house, images)
    with archive() as pacs:
        pacs.lists([*images, *scout])
        asker(house, pacs.dimse).ask_due()
        assert "1.2.5" not in (known(house, images[0].StudyInstanceUID) or {"1.2.5": 0})


def test_an_archive_that_is_still_receiving_completes_nothing(house: House) -> None:
    """Its list grows from one question to the next: each time the clock of agreement starts again."""
    images = builders.mr_study(1)
    receive(house, images)
    with archive() as pacs:
        ask = asker(house, pacs.dimse)
        for there in (6, 8, 10):
            pacs.lists(images[:there])
            ask.ask_due()
            assert outcome(house) == ""
            house.time.passes(100)
        ask.ask_due()
        assert outcome(house) == ""  # complete there for 100 s
        house.time.passes(80)
        ask.ask_due()
        assert outcome(house).startswith("archive lists 2 MR series, all here")


def test_what_the_archive_has_and_we_do_not_is_waited_for_to_the_hard_age(house: House) -> None:
    images = builders.mr_study(1)
    receive(house, images[:9])
    with archive() as pacs:
        pacs.lists(images)
        ask = asker(house, pacs.dimse)
        for _ in range(26):
            ask.ask_due()
            assert outcome(house) == ""
            house.time.passes(200)
        house.time.passes(200)
        ask.ask_due()
        assert outcome(house).startswith("hard age of 5400 s reached")
        assert outcome(house).endswith("archive lists 2 MR series, 1 not all here: 1 images missing")


@contextmanager
def dead() -> Iterator[str]:
    yield f"dimse://NOBODY@{HOST}:{free_port()}"


@contextmanager
def scripted(**how: Any) -> Iterator[str]:
    with archive(can_find=how.pop("can_find", True), aet="ARCHIVE", checks_aet=how.pop("checks_aet", False)) as pacs:
        for name, value in how.items():
            setattr(pacs, name, value)
        yield pacs.dimse.replace("ARCHIVE@", "OTHER@") if how.get("comment") else pacs.dimse


@on_sqlite
@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(dead, id="nobody there"),
        pytest.param(lambda: scripted(can_find=False), id="no C-FIND"),
        pytest.param(lambda: scripted(checks_aet=True, comment="not called so"), id="rejects us"),
        pytest.param(lambda: scripted(find_status=0xA700), id="out of resources"),
        pytest.param(lambda: scripted(find_status=0xC000), id="unable to process"),
        pytest.param(lambda: scripted(find_script="abort"), id="aborts"),
        pytest.param(lambda: scripted(find_script="hang"), id="hangs"),
        pytest.param(lambda: scripted(find_script="endless"), id="never ends"),
        pytest.param(scripted, id="does not know the study"),
    ],
)
def test_an_archive_without_an_answer_stalls_nothing(house: House, peer: Any) -> None:
    """The quiet time decides, as if there were no archive."""
    images = builders.mr_study(1)
    receive(house, images)
    with peer() as url:
        ask = asker(house, url)
        ask.ask_due()
        house.time.passes(599)
        ask.ask_due()
        assert outcome(house) == ""
        house.time.passes(1)
        assert outcome(house).startswith("quiet for 600 s")


def test_an_answer_of_an_archive_that_then_went_away_grows_old(house: House) -> None:
    images = builders.mr_study(1)
    receive(house, images[:9])
    with archive() as pacs:
        pacs.lists(images)
        asker(house, pacs.dimse).ask_due()
        house.time.passes(590)
        asker(house, pacs.dimse).ask_due()
        url = pacs.dimse
    house.time.passes(20)
    asker(house, url).ask_due()
    assert outcome(house) == ""  # more was listed 20 s ago
    house.time.passes(290)
    asker(house, url).ask_due()
    assert outcome(house).startswith("quiet for 600 s")
    assert house.rows(schema.listing)[0].problem


def test_two_listeners_ask_about_a_study_once(house: House) -> None:
    for study in range(5):
        receive(house, builders.mr_study(study, axial=1, sagittal=1))
    for _ in range(8):  # the first question, and later ones
        taken: list[str] = []
        start = threading.Barrier(2)

        def take(one: House, taken: list[str] = taken, start: threading.Barrier = start) -> None:
            start.wait()
            taken.extend(listings.take_due(one.ledger, every_s=30, most=10))

        threads = [threading.Thread(target=take, args=(one,)) for one in (house.another(), house.another())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted({builders.mr_study(study)[0].StudyInstanceUID for study in range(5)})
        house.time.passes(30)


def test_results_of_ours_do_not_count_even_as_mr(house: House) -> None:
    """A site may have us send the SC as MR; its series is no input, in the archive either."""
    house.reported()
    images = builders.mr_study(1)
    receive(house, images)
    study_uid = images[0].StudyInstanceUID
    house.change(schema.result, {"kind": "sc"}, study_uid=study_uid, series_uid="1.2.9901")
    result = builders.mr_image(study_uid, "1.2.9901", "1.2.9901.1", SeriesDescription="CAUDA AI canal unverified")
    with archive() as pacs:
        pacs.lists([*images, result])
        asker(house, pacs.dimse).ask_due()
    assert set((known(house, study_uid) or {}).values()) == {5}


@pytest.mark.parametrize("by", ["dimse", "dicomweb"])
def test_orthanc_counts(tmp_path: Path, by: str) -> None:
    """A study that is in the archive already and is then sent here: complete while the quiet time has just begun."""
    images = builders.mr_study(3)
    plugins = {"Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"]} if by == "dicomweb" else {}
    with orthanc(**plugins) as pacs:
        pacs.store(builders.write([*images, builders.foreign_result(images[0], "1.2.77")], tmp_path / "in"))
        url = pacs.dimse if by == "dimse" else f"dicomweb+http://{HOST}:{pacs.http}/dicom-web"
        with listener(
            tmp_path / "data", source={"url": url, "ask_every_s": 0.3},
            completeness={"after_release_s": 600, "quiet_s": 600, "hard_age_s": 5400, "agree_s": 0.5},
        ) as house:  # fmt: skip
            store(house.ports.dimse, images[:9])
            until(lambda: [e for e in house.rows(schema.event) if e["kind"] == "archive_listed"], what="an answer")
            store(house.ports.dimse, images[9:])
            until(lambda: house.rows(schema.revision), what="completeness by count")
            reason = house.row(schema.revision)["complete_reason"]
    assert reason == "archive lists 2 MR series, all here: 5 axial T2-possible, 5 sagittal T2-possible"
    assert house.row(schema.study)["complete_reason"] == reason


def test_a_listener_stops_while_the_archive_keeps_it_waiting(tmp_path: Path) -> None:
    """The question is broken off; the archive would have let it wait for a minute."""
    asked = threading.Event()
    with archive() as pacs:
        pacs.find_script, pacs.on_find = "hang", asked.set
        with listener(tmp_path / "data", source={"url": pacs.dimse, "timeout_s": 60}) as house:
            store(house.ports.dimse, builders.mr_study(4, sagittal=0))
            assert asked.wait(30)
            house.stop.set()
            until(lambda: not house.thread.is_alive(), 8, "the listener to stop")


@contextmanager
def web(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A DICOMweb server that always answers this; and the headers it was asked with."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append({**dict(self.headers), "path": self.path})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as port:
        yield f"dicomweb+http://{HOST}:{port}/pacs", asked


@on_sqlite
@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (401, b"{}"), (404, b""), (204, b""), (200, b""), (200, b"<html>"), (200, b"[1, {}]"), (200, b"{}"),
     (200, b'[{"0020000E": {"vr": "UI", "Value": 7}}]'), (200, b"[" * 100_000)],
)  # fmt: skip
def test_a_web_archive_without_a_usable_answer_stalls_nothing(house: House, status: int, body: bytes) -> None:
    receive(house, builders.mr_study(1))
    with web(status, body) as (url, _):
        asker(house, url).ask_due()
        house.time.passes(600)
        asker(house, url).ask_due()
        assert outcome(house).startswith("quiet for 600 s")


def test_a_web_archive_that_counts_as_text_and_asks_who_we_are(house: House) -> None:
    """Integers arrive as strings from some; a series without a count stays one without."""
    images = builders.mr_study(1)
    axial, sagittal = dict.fromkeys(str(image.SeriesInstanceUID) for image in images)
    receive(house, images)
    study = {"0020000D": {"vr": "UI", "Value": [images[0].StudyInstanceUID]}}
    body: list[dict[str, Any]] = [
        {"0020000E": {"vr": "UI", "Value": [axial]}, "00080060": {"vr": "CS", "Value": ["MR"]},
         "00201209": {"vr": "IS", "Value": ["5"]}},
        {"0020000E": {"vr": "UI", "Value": [sagittal]}, "00201209": {"vr": "IS"}},
        {"0020000E": {"vr": "UI", "Value": ["1.2.9"]}, "00080060": {"vr": "CS", "Value": ["SR"]}},
    ]  # fmt: skip
    with web(200, json.dumps([study | series for series in body]).encode()) as (url, asked):
        asker(house, url, authorization="Bearer abc").ask_due()
    assert known(house, images[0].StudyInstanceUID) == {axial: 5, sagittal: None}
    assert asked[0]["Authorization"] == "Bearer abc"
    assert asked[0]["path"].startswith(f"/pacs/studies/{images[0].StudyInstanceUID}/series?includefield=")


@on_sqlite
@pytest.mark.parametrize("protocol", ["dimse", "stow"])
@pytest.mark.parametrize(
    "how", [{"ignores": frozenset({"StudyInstanceUID"})}, {"leaves_out": frozenset({"StudyInstanceUID"})}], ids=str
)
def test_series_of_another_study_complete_nothing(house: House, protocol: str, how: dict[str, Any]) -> None:
    """The archive does not have the study yet, and lists somebody else's instead; what it said is no answer."""
    images = builders.mr_study(1)
    receive(house, images)
    with key_ignoring(protocol) as pacs:
        pacs.images, pacs.counts = builders.mr_study(2), True
        if "leaves_out" in how:
            pacs.images = images
        for name, value in how.items():
            setattr(pacs, name, value)
        ask = asker(house, pacs.url.replace("stow+", "dicomweb+"))
        for _ in range(2):
            ask.ask_due()
            house.time.passes(180)
    (listing,) = house.rows(schema.listing)
    assert listing.series is None
    assert "ignores or leaves out StudyInstanceUID" in listing.problem
    assert outcome(house) == ""
