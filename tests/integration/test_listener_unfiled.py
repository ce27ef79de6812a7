"""What stays unfiled after its acknowledgement is named by the probe, the pages and the doctor, with what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders import mr_study
from listener_house import House, listener, store
from peers import HOST, until
from sqlalchemy import insert

from cauda.core import pixels, schema, unfiled
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.ledger import record
from cauda.core.settings import Settings
from cauda.deploy import doctor
from cauda.listener import filer

pytestmark = pytest.mark.peers

QUIET = {"after_release_s": 600, "quiet_s": 600, "hard_age_s": 5400}
SECRET = {"PatientName": "Zebrafink^Ottokar", "PatientID": "ZFK4711"}


@contextmanager
def node(data: Path) -> Iterator[tuple[House, str]]:
    """A listener with a study under way; its UID."""
    images = mr_study("unfiled", axial=1, sagittal=1, **SECRET)
    with listener(data, completeness=QUIET) as house:
        store(house.ports.dimse, images)
        until(lambda: len(house.rows(schema.instance)) == 2, what="filed")
        yield house, str(images[0].StudyInstanceUID)


def places(house: House, uid: str) -> dict[str, str]:
    """What each place says: the probe, the front page, the study's page, the doctor."""
    base = f"http://{HOST}:{house.ports.http}"
    settings = Settings.model_validate({"data": house.data, "node": {"port": 0}, "http": {"port": 0}})
    lines = {line.name: line for line in doctor.examine(settings)}
    probe: dict[str, Any] = json.loads(httpx.get(f"{base}/readyz", trust_env=False).text)
    said = {
        "/readyz": " ".join([*probe["reasons"], *probe["notes"]]),
        "front page": httpx.get(f"{base}/", trust_env=False).text,
        "study": httpx.get(f"{base}/studies/{uid}", trust_env=False).text,
        "doctor": "" if lines["filing"].ok else lines["filing"].words,
    }
    assert not any(secret in text for text in said.values() for secret in ("Zebrafink", "ZFK4711"))
    return {place: text.replace("&#39;", "'") for place, text in said.items()}


def named_everywhere(house: House, uid: str, *words: str) -> bool:
    return all(word in text for text in places(house, uid).values() for word in words)


def test_nothing_is_named_where_all_is_filed(tmp_path: Path) -> None:
    with node(tmp_path / "data") as (house, uid):
        assert not any("not filed" in text for text in places(house, uid).values())
        assert httpx.get(f"http://{HOST}:{house.ports.http}/readyz", trust_env=False).json()["notes"] == []


def test_images_that_cannot_be_filed_for_long_are_named_until_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfiled, "LATE_S", 0.5)

    def fails(*_: Any) -> None:
        raise Unavailable(Reason.DISK_FAILED, "no such disk")

    with node(tmp_path / "data") as (house, uid):
        with monkeypatch.context() as patch:
            patch.setattr(filer, "file_or_set_aside", fails)
            store(house.ports.dimse, mr_study("more", axial=2, sagittal=0))
            words = ("2 acknowledged objects not filed since 20", "filing waits (disk_failed)", "goes on by itself")
            until(lambda: named_everywhere(house, uid, *words), 20, "named in every place", every=0.5)
            assert httpx.get(f"http://{HOST}:{house.ports.http}/readyz", trust_env=False).status_code == 503
        until(lambda: len(house.rows(schema.instance)) == 4, what="filed")
        until(lambda: not named_everywhere(house, uid, "not filed"), 20, "no longer named", every=0.5)


def test_what_is_compared_for_long_is_a_note_and_the_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's pixels that take long to decode take no node out of service."""
    answer = threading.Event()
    real = pixels.Decoder.picture

    def slow(self: pixels.Decoder, path: Path) -> Any:
        assert answer.wait(60)
        return real(self, path)

    monkeypatch.setattr(unfiled, "LATE_S", 0.5)
    monkeypatch.setattr(pixels.Decoder, "picture", slow)
    with node(tmp_path / "data") as (house, uid):
        again = mr_study("more", axial=1, sagittal=0)
        store(house.ports.dimse, again)
        house.until_filed()
        again[0].PixelData = bytes(len(again[0].PixelData))
        store(house.ports.dimse, again)
        words = ("1 acknowledged object not filed since 20", "compared with the images", "only their studies wait")
        until(lambda: named_everywhere(house, uid, *words), 20, "named in every place", every=0.5)
        assert httpx.get(f"http://{HOST}:{house.ports.http}/readyz", trust_env=False).status_code == 200
        answer.set()
        until(lambda: not named_everywhere(house, uid, "not filed"), 20, "no longer named", every=0.5)


def test_what_a_listener_had_that_ended_elsewhere_is_named(tmp_path: Path) -> None:
    with node(tmp_path / "data") as (house, uid):
        with house.book.write() as conn:
            now = house.book.time(conn)
            conn.execute(insert(schema.process).values(
                token="elsewhere:1:2:3/listener", role="listener", slots=0, started_at=now - 900, seen_at=now - 600,
                since=now - 900, arrivals="a1b2c3", unfiled=3, filed_until=now - 601))  # fmt: skip
            conn.execute(schema.process.update().where(schema.process.c.token.not_like("elsewhere%"))
                         .values(since=now - 900))  # fmt: skip
        words = ("3 acknowledged objects not filed since 20", "arrivals/a1b2c3", "start a listener where")
        assert named_everywhere(house, uid, *words)
        assert httpx.get(f"http://{HOST}:{house.ports.http}/readyz", trust_env=False).status_code == 200
        assert len(house.rows(schema.process)) == 2


@pytest.mark.parametrize(
    ("kind", "why"),
    [("object_unfiled", "no study can be read from it"), ("object_quarantined", "it ended the listener again and")],
)
def test_what_was_set_aside_is_named_with_its_file_and_why(tmp_path: Path, kind: str, why: str) -> None:
    with node(tmp_path / "data") as (house, uid):
        (house.data / "unfiled" / "0001.dcm").write_bytes(b"DICM")
        with house.book.write() as conn:
            record(house.book, conn, kind, study_uid=uid, path="unfiled/0001.dcm", deaths=2)
        words = (f"1 acknowledged object of study {uid} not filed since 20", why, "unfiled/0001.dcm")
        assert named_everywhere(house, uid, *words)
        (house.data / "unfiled" / "0001.dcm").unlink()
        assert not any("not filed" in text for text in places(house, uid).values())


def test_many_files_are_counted_and_not_all_named(tmp_path: Path) -> None:
    with node(tmp_path / "data") as (house, uid):
        for number in range(50):
            (house.data / "unfiled" / f"{number:04d}.dcm").write_bytes(b"DICM")
        text = places(house, uid)["front page"]
        assert text.count("acknowledged object not filed") == 20
        assert "30 acknowledged objects not filed" in text
