"""Images that were refused for a passing reason: their study waits for them, on both protocols."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import SECONDARY_CAPTURE, mr_study, part10
from listener_house import House, listener, store
from peers import HOST, until
from pydicom import Dataset

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.schema import StudyState
from cauda.core.settings import Completeness
from cauda.listener import completeness, head

pytestmark = pytest.mark.peers

RELEASE_S = 0.5
POLICY = Completeness(after_release_s=RELEASE_S, quiet_s=60, hard_age_s=600)


def send_dimse(house: House, images: Sequence[Dataset]) -> set[int]:
    """Over one association; returns the statuses."""
    return {int(answer.Status) for answer in store(house.ports.dimse, images)}


def send_stow(house: House, images: Sequence[Dataset]) -> set[int]:
    """In one request; returns the failure reasons, 0 where something was stored."""
    parts = b"".join(b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + part10(image) + b"\r\n" for image in images)
    connection = http.client.HTTPConnection(HOST, house.ports.http, timeout=60)
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz'}
    connection.request("POST", "/dicom-web/studies", parts + b"--xyz--\r\n", kind)
    status = connection.getresponse().status
    connection.close()
    return {200: {0}, 202: {0, 1}}.get(status, {1})


BY = pytest.mark.parametrize("send", [send_dimse, send_stow])
Send = Callable[[House, Sequence[Dataset]], set[int]]


def failing_after(real: Callable[..., Any], good: int, fault: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which fails from some call on."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*args, **kwargs) if calls <= good else fault(*args, **kwargs)

    return call


def no_free_byte(_path: object) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1000, 0, 0, 0, 0, 0, 0, 255))


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a bug")


def waits(house: House, uid: str) -> str:
    with house.book.read() as conn:
        return completeness.waits_for(house.book, conn, [uid], POLICY).get(uid, "")


def release_is_past(house: House) -> bool:
    """Whether the transfer's end is in the ledger, and long enough ago to complete a study."""
    row = house.row(schema.study)
    with house.book.read() as conn:
        return row["released_at"] is not None and house.book.time(conn) - row["released_at"] > 2 * RELEASE_S


@BY
@pytest.mark.parametrize(
    ("owner", "name", "fault", "reason", "words"),
    [
        (os, "statvfs", no_free_byte, Reason.NO_ROOM, "for lack of disk space"),
        (head, "parse", broken, Reason.BUG, "because of an error of this node"),
    ],
)
def test_a_release_does_not_complete_a_study_with_refused_images_and_a_resend_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, send: Send, owner: Any, name: str, fault: Any, reason: Reason,
    words: str,
) -> None:  # fmt: skip
    images = mr_study(f"refused {name}", axial=3, sagittal=3)
    images.insert(1, images.pop())  # an axial and a sagittal one come first
    uid, lost = str(images[0].StudyInstanceUID), images[2:]
    limits = {"min_free_bytes": 1, "drain_s": 1}
    with listener(tmp_path / "data", listener={"sync": "portable"}, limits=limits) as house:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing_after(getattr(owner, name), 2, fault))
            assert len(send(house, images)) == 2, "some stored, some refused"
        until(lambda: len(house.rows(schema.refused_object)) == len(lost), what="every refusal in the ledger")
        assert {(row["reason"], row["study_uid"]) for row in house.rows(schema.refused_object)} == {(reason, uid)}
        until(lambda: release_is_past(house), what="the release is past")
        assert house.row(schema.study)["state"] == StudyState.RECEIVING
        assert waits(house, uid) == f"{len(lost)} images were refused {words} and not sent again yet"
        assert send(house, lost) == {0}
        until(lambda: house.row(schema.study)["state"] == StudyState.COMPLETE, what="complete with all of them")
        assert len(house.rows(schema.revision_input)) == len(images)
        assert house.row(schema.revision)["gaps"] is None


@BY
def test_a_refusal_that_no_resend_can_mend_delays_nothing(tmp_path: Path, send: Send) -> None:
    """An image that says no study; nothing is wrong with this node."""
    images = mr_study("refused for good", axial=2, sagittal=1)
    unnamed = mr_study("refused for good", axial=1, sagittal=0)[0]
    unnamed.SOPInstanceUID = "1.2.3.4"
    del unnamed.StudyInstanceUID
    with listener(tmp_path / "data") as house:
        assert len(send(house, [*images, unnamed])) == 2
        until(lambda: house.rows(schema.study) and house.row(schema.study)["state"] == StudyState.COMPLETE, what="done")
        assert house.rows(schema.refused_object) == []


@BY
def test_an_object_that_is_no_mr_image_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, send: Send
) -> None:
    images = mr_study("refused page", axial=1, sagittal=1)
    page = mr_study("refused page", axial=1, sagittal=0)[0]
    page.SOPClassUID, page.SOPInstanceUID = SECONDARY_CAPTURE, "1.2.3.4"
    with listener(tmp_path / "data") as house:
        monkeypatch.setattr(head, "parse", failing_after(head.parse, 2, broken))
        assert len(send(house, [*images, page])) == 2
        until(lambda: house.rows(schema.study) and house.row(schema.study)["state"] == StudyState.COMPLETE, what="done")
        assert house.rows(schema.refused_object) == []


@pytest.mark.usefixtures("data_path")
def test_a_large_image_that_is_refused_before_it_has_come_whole_is_known_by_its_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written in pieces, and the first does not find room."""
    images = mr_study("refused large", axial=1, sagittal=1)
    large = mr_study("refused large", axial=2, sagittal=0)[1]
    large.Rows = large.Columns = 1200
    large.PixelData = bytes(2 * 1200 * 1200)
    limits = {"min_free_bytes": 1, "drain_s": 1}
    with listener(tmp_path / "data", listener={"sync": "portable"}, limits=limits) as house:
        assert send_dimse(house, images) == {0}
        monkeypatch.setattr(os, "statvfs", no_free_byte)
        assert send_dimse(house, [large]) == {0xA700}
        until(lambda: house.rows(schema.refused_object), what="the refusal in the ledger")
        assert house.row(schema.refused_object)["study_uid"] == large.StudyInstanceUID


def test_an_image_that_would_cross_the_floor_of_free_space_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room above the floor, and not for this one."""
    image = mr_study("floor", axial=1, sagittal=0)[0]
    size = len(part10(image))
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, 10**9, 10**6, 10**6, 0, 0, 0, 0, 255)))
    for floor, status in ((10**6 - size + 512, 0xA700), (10**6 - size - 4096, 0x0000)):
        data = tmp_path / str(status)
        limits = {"min_free_bytes": floor, "drain_s": 1}
        with listener(data, listener={"sync": "portable"}, limits=limits) as house:
            assert send_dimse(house, [image]) == {status}
