"""The STOW-RS door against real senders: what is answered "stored" is on disk as it was sent; the rest is said why."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import builders
import pytest
import requests
from dicom_peers import echoscu, orthanc
from dicomweb_client.api import DICOMwebClient
from listener_house import House, association, landed, listener, store
from peers import HOST, until
from pydicom import Dataset, dcmread
from starlette.requests import Request

from cauda.core import part, schema, slots
from cauda.listener import dicomweb

pytestmark = pytest.mark.peers

PATH = "/dicom-web/studies"
DICOMWEB_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
STORED, FAILED, OTHER, WHY = "00081199", "00081198", "0008119A", "00081197"


def body_of(files: Sequence[bytes], boundary: str = "xyz", kind: str = "application/dicom") -> bytes:
    """A multipart body, made by hand."""
    head = f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + one + b"\r\n" for one in files) + f"--{boundary}--\r\n".encode()


def post(house: House, body: bytes, path: str = PATH, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, answer (empty where it is none of ours) and headers."""
    sent = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz'}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(HOST, house.ports.http, timeout=60)
    connection.request("POST", path, body, sent)
    answer = connection.getresponse()
    text = answer.read()
    is_json = answer.headers.get_content_type() == "application/dicom+json"
    return answer.status, json.loads(text) if is_json else {}, {k.lower(): v for k, v in answer.getheaders()}


def uids(answer: dict[str, Any], tag: str) -> list[str]:
    """The SOP Instance UIDs in a sequence of an answer."""
    return [item["00081155"]["Value"][0] for item in answer.get(tag, {"Value": []})["Value"]]


def why(answer: dict[str, Any], tag: str = FAILED) -> list[int]:
    """The failure reasons in a sequence of an answer."""
    return [item[WHY]["Value"][0] for item in answer[tag]["Value"]]


def kept(house: House) -> dict[str, bytes]:
    """Data sets of what is filed, by SOP Instance UID."""
    house.until_filed()
    return {p.stem: builders.dataset_bytes(p.read_bytes()) for p in (house.data / "studies").glob("*/*.dcm")}


def sent(images: Sequence[Dataset]) -> dict[str, bytes]:
    """Data sets as the sender encodes them."""
    return {str(image.SOPInstanceUID): builders.dataset_bytes(builders.part10(image)) for image in images}


def test_dicomweb_client_stores_a_study_and_the_end_of_its_request_completes_it(tmp_path: Path) -> None:
    images = builders.mr_study(101)
    with listener(tmp_path / "data") as house:
        client = DICOMwebClient(url=f"http://{HOST}:{house.ports.http}/dicom-web")
        read = [dcmread(file) for file in builders.write(images, tmp_path / "in")]
        answer = client.store_instances(read, study_instance_uid=str(images[0].StudyInstanceUID))
        assert [str(item.ReferencedSOPInstanceUID) for item in answer.ReferencedSOPSequence] == [
            str(image.SOPInstanceUID) for image in images
        ]
        assert "FailedSOPSequence" not in answer
        revision = until(lambda: house.rows(schema.revision), what="a revision")[0]
        assert "released for" in revision["complete_reason"]
        assert kept(house) == sent(images)
        opened = house.row(schema.association)
        assert (opened["calling_aet"], opened["ended_how"], opened["address"]) == ("STOW-RS", "released", HOST)


def test_orthanc_stores_a_study(tmp_path: Path) -> None:
    """Its STOW client cuts a study into requests of its own; together they are one study."""
    images = builders.mr_study(102)
    files = builders.write(images, tmp_path / "in")
    with listener(tmp_path / "data") as house:
        url = f"http://{HOST}:{house.ports.http}/dicom-web/"
        servers = {"cauda": {"Url": url, "HasDelete": False}}
        with orthanc("SENDER", Plugins=[DICOMWEB_PLUGIN], DicomWeb={"Enable": True, "Servers": servers}) as archive:
            archive.store(files)
            (study,) = archive.get("/studies")
            archive.post("/dicom-web/servers/cauda/stow", {"Resources": [study], "Synchronous": True})
        until(lambda: house.rows(schema.revision), what="a revision")
        assert set(kept(house)) == set(sent(images))


def test_the_same_image_by_both_doors_is_a_duplicate(tmp_path: Path) -> None:
    images = builders.mr_study(103, axial=2, sagittal=1)
    with listener(tmp_path / "data") as house:
        assert post(house, body_of([builders.part10(image) for image in images]))[0] == 200
        assert [s.Status for s in store(house.ports.dimse, images)] == [0, 0, 0]
        status, answer, _ = post(house, body_of([builders.part10(image) for image in images]))
        assert (status, uids(answer, STORED)) == (200, list(sent(images)))
        until(lambda: len([a for a in house.rows(schema.association) if a["ended_how"] == "released"]) == 3)
        assert kept(house) == sent(images)
        assert len(house.rows(schema.instance)) == 3
        assert house.row(schema.study)["hold"] is None


def test_what_cannot_be_stored_does_not_take_the_rest_with_it(tmp_path: Path) -> None:
    """202: the good one is stored, and each other fault is told by its reason."""
    good, cut, wrong = builders.mr_study(104, axial=3, sagittal=0)
    files = [
        builders.part10(good),
        builders.part10(cut)[:-100],
        b"%PDF-1.4 no DICOM at all" * 9,
        b"short",
        builders.part10(wrong).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
    ]
    with listener(tmp_path / "data") as house:
        status, answer, headers = post(house, body_of(files))
        assert status == 202
        assert uids(answer, STORED) == [good.SOPInstanceUID]
        assert uids(answer, FAILED) == [cut.SOPInstanceUID, wrong.SOPInstanceUID]
        assert why(answer) == [0xC000, 0xC122]
        assert why(answer, OTHER) == [0xC000, 0xC000]
        assert "not a DICOM Part 10 file" in headers["warning"]
        assert kept(house) == sent([good])
        assert not [*landed(house.data), *house.open_parts()]


def test_a_study_that_is_not_the_urls_is_refused(tmp_path: Path) -> None:
    image = builders.mr_study(105, axial=1, sagittal=0)[0]
    with listener(tmp_path / "data") as house:
        status, answer, _ = post(house, body_of([builders.part10(image)]), f"{PATH}/1.2.3")
        assert (status, why(answer)) == (409, [0xA900])
        assert post(house, body_of([builders.part10(image)]), f"{PATH}/1.2.x")[0] == 400
        assert post(house, body_of([builders.part10(image)]), f"{PATH}/{image.StudyInstanceUID}")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "application/dicom"}, 415),
        ({"Content_Type": 'multipart/related; type="application/dicom+json"; boundary=xyz'}, 415),
        ({"Content_Type": "multipart/form-data; boundary=xyz"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Content_Type": 'multipart/related; type="application/dicom"'}, 400),
        ({"Content_Type": 'multipart/related; type="application/dicom"; boundary="a{b"'}, 400),
        ({"Content_Type": 'multipart/related; type="application/dicom"; boundary=other'}, 400),
    ],
)
def test_a_request_that_is_not_what_it_should_be(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    body = body_of([builders.part10(builders.mr_study(106)[0])])
    with listener(tmp_path / "data") as house:
        assert post(house, body, **headers)[0] == status
        assert post(house, body)[0] == 200  # the door is still open
        assert len(kept(house)) == 1


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ("*/*", "application/dicom+json"),
        ("application/*;q=0.1", "application/dicom+json"),
        ("application/dicom+xml", "application/dicom+xml"),
        ("text/html, application/dicom+json;q=0.5, application/dicom+xml;q=0.8", "application/dicom+xml"),
        ("application/dicom+json;q=0, */*", "application/json"),
        ("application/json", "application/json"),
    ],
)
def test_a_client_is_answered_in_what_it_can_read(tmp_path: Path, wanted: str, kind: str) -> None:
    """One image is stored and one is not; both are in the answer as the client reads it, JSON or XML."""
    here, elsewhere = (dcmread(BytesIO(builders.part10(builders.mr_study(n)[0]))) for n in (107, 109))
    session, seen = requests.Session(), []
    session.hooks["response"].append(lambda answer, **_: seen.append(answer.headers["Content-Type"]))
    with listener(tmp_path / "data") as house:
        url = f"http://{HOST}:{house.ports.http}/dicom-web"
        client = DICOMwebClient(url, session=session, headers={"Accept": wanted})
        answer = client.store_instances([here, elsewhere], here.StudyInstanceUID)
    assert seen == [kind]
    assert [one.ReferencedSOPInstanceUID for one in answer.ReferencedSOPSequence] == [here.SOPInstanceUID]
    (failed,) = answer.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, int(failed.FailureReason)) == (elsewhere.SOPInstanceUID, 0xA900)


@pytest.mark.parametrize("wanted", ["text/html", "application/dicom+json;q=0", "image/*", "application/dicom+json;q=x"])
def test_who_can_read_no_answer_of_ours_is_told_and_nothing_is_stored(tmp_path: Path, wanted: str) -> None:
    body = body_of([builders.part10(builders.mr_study(108)[0])])
    with listener(tmp_path / "data") as house:
        sent = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz', "Accept": wanted}
        answer = requests.post(f"http://{HOST}:{house.ports.http}{PATH}", body, headers=sent, timeout=60)
        assert answer.status_code == 406
        assert "application/dicom+json" in answer.text
        assert kept(house) == {}


def test_a_body_without_parts_is_no_success(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        assert post(house, b"--xyz--\r\n")[0] == 400
        assert post(house, b"")[0] == 400


def test_a_body_that_ends_too_soon_stores_only_what_was_whole_and_is_an_abort(tmp_path: Path) -> None:
    """The peer is gone in the middle of the second image: nothing of it stays, and nothing counts as released."""
    images = builders.mr_study(107, axial=2, sagittal=0)
    body = body_of([builders.part10(image) for image in images])
    with listener(tmp_path / "data") as house:
        with socket.create_connection((HOST, house.ports.http), timeout=20) as sock:
            head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/related; boundary=xyz\r\n"
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1500])
        until(lambda: [a for a in house.rows(schema.association) if a["ended_how"] == "aborted"], what="its end")
        assert set(kept(house)) <= {images[0].SOPInstanceUID}
        assert not list((house.data / "arrivals").glob("*/*.part"))
        status, answer, _ = post(house, body[:-1500])  # the same from a peer that says so and waits
        assert (status, uids(answer, STORED)) == (400, [images[0].SOPInstanceUID])
        assert not [a for a in house.rows(schema.association) if a["ended_how"] == "released"]


def test_a_body_that_drips_is_given_up_and_holds_nobody(tmp_path: Path) -> None:
    limits = {"min_free_bytes": 0, "network_timeout_s": 0.5}
    with listener(tmp_path / "data", limits=limits) as house:
        with socket.create_connection((HOST, house.ports.http), timeout=60) as sock:
            head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/related; boundary=xyz\r\n"
            sock.sendall(f"{head}Content-Length: 100000\r\n\r\n--xyz\r\n".encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 408")
        assert post(house, body_of([builders.part10(builders.mr_study(108)[0])]))[0] == 200


def test_an_object_larger_than_the_bound_is_413_and_leaves_nothing(tmp_path: Path) -> None:
    large = builders.mr_study(109, axial=1, sagittal=0)[0]
    small = builders.mr_image("1.2.3", "1.2.3.4", "1.2.3.4.5", PixelData=b"")
    with listener(tmp_path / "data", limits={"min_free_bytes": 0, "max_object_bytes": 2048}) as house:
        status, answer, _ = post(house, body_of([builders.part10(large)]))
        assert (status, uids(answer, FAILED), why(answer)) == (413, [large.SOPInstanceUID], [0xA700])
        assert post(house, body_of([builders.part10(large), builders.part10(small)]))[0] == 202
        assert list(kept(house)) == ["1.2.3.4.5"]


def test_no_room_is_507(tmp_path: Path) -> None:
    with listener(tmp_path / "data", limits={"min_free_bytes": 1 << 60}) as house:
        status, answer, headers = post(house, body_of([builders.part10(builders.mr_study(110)[0])]))
        assert (status, why(answer)) == (507, [0xA700])
        assert "no room" in headers["warning"]


def test_a_disk_that_fills_while_a_part_is_written_is_507_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("a small disk cannot be mounted here")
        pytest.skip("a small disk cannot be mounted here")
    images = builders.mr_study(111, axial=2, sagittal=0, Rows=1024, Columns=1024)
    small = builders.mr_study(112, axial=1, sagittal=0)
    try:
        with listener(folder / "data") as house:
            status, answer, _ = post(house, body_of([builders.part10(image) for image in [*images, *small]]))
            assert (status, uids(answer, FAILED), why(answer)) == (202, [images[1].SOPInstanceUID], [0xA700])
            assert set(kept(house)) == {images[0].SOPInstanceUID, small[0].SOPInstanceUID}
            assert not list((house.data / "arrivals").glob("*/*.part"))
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_bug_is_500_and_the_door_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Path:
        raise ZeroDivisionError("Doe^Jane")

    body = body_of([builders.part10(builders.mr_study(113)[0])])
    with listener(tmp_path / "data") as house:
        with monkeypatch.context() as patch:
            patch.setattr(part.Part, "land", broken)
            patch.setattr(slots, "land", broken)
            status, answer, headers = post(house, body)
        assert (status, why(answer)) == (500, [0x0110])
        assert "Doe" not in str(headers)
        assert post(house, body)[0] == 200


TOKEN = "a-token-of-enough-characters"


def test_a_token_is_asked_for_where_one_is_set(tmp_path: Path) -> None:
    body = body_of([builders.part10(builders.mr_study(114)[0])])

    def basic(password: str) -> str:
        return "Basic " + base64.b64encode(f"router:{password}".encode()).decode()

    with listener(tmp_path / "data", dicomweb={"token": TOKEN}) as house:
        for wrong in ("", "Bearer", "Bearer other", TOKEN, "", basic("other"), f"Basic {TOKEN}", "Basic \u00e9"):
            assert post(house, body, Authorization=wrong)[0] == 401, wrong
            assert post(house, body, Authorization=f"Bearer {TOKEN}")[0] == 200  # and begins afresh
        assert post(house, body, Authorization=basic(TOKEN))[0] == 200
        client = DICOMwebClient(f"http://{HOST}:{house.ports.http}/dicom-web", headers={"Authorization": "Bearer x"})
        with pytest.raises(requests.HTTPError, match="401"):
            client.store_instances([dcmread(BytesIO(builders.part10(builders.mr_study(114)[0])))])
        assert len(kept(house)) == 1


def test_beyond_loopback_nothing_is_taken_without_a_token(tmp_path: Path) -> None:
    body = body_of([builders.part10(builders.mr_study(115)[0])])
    with listener(tmp_path / "data", http={"host": "0.0.0.0", "port": 0}) as house:  # noqa: S104  what it is about
        assert post(house, body)[0] == 403


def test_a_sender_in_nobodys_network_is_turned_away_and_remembered(tmp_path: Path) -> None:
    body = body_of([builders.part10(builders.mr_study(116)[0])])
    with listener(tmp_path / "data", peers=({"network": "10.0.0.0/8"},)) as house:
        assert post(house, body)[0] == 403
        seen = until(lambda: house.rows(schema.refused_peer), what="the refused peer")
    assert (seen[0]["aet"], seen[0]["address"]) == ("STOW-RS", HOST)


def test_one_address_cannot_take_every_place(tmp_path: Path) -> None:
    """Associations and requests count together."""
    body = body_of([builders.part10(builders.mr_study(117)[0])])
    with listener(tmp_path / "data", limits={"min_free_bytes": 0, "max_associations_per_peer": 1}) as house:
        with socket.create_connection((HOST, house.ports.http), timeout=20) as sock:
            head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/related; boundary=xyz\r\n"
            sock.sendall(f"{head}Content-Length: 1000\r\n\r\n--xyz\r\n".encode())
            until(lambda: house.rows(schema.association), what="the first request")
            assert post(house, body)[0] == 503
            assert not echoscu(house.ports.dimse)
        until(lambda: post(house, body)[0] == 200, what="room again")


def test_a_place_that_is_taken_while_a_request_is_looked_at_is_not_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an association: the two doors count together, and neither waits for the other."""
    body = body_of([builders.part10(builders.mr_study(120)[0])])
    real = dicomweb._check_accept
    with (
        ExitStack() as held,
        listener(tmp_path / "data", limits={"min_free_bytes": 0, "max_associations_per_peer": 1}) as house,
    ):

        def check(request: Request) -> str:
            held.enter_context(association(house.ports.dimse, [(builders.MR_IMAGE, "1.2.840.10008.1.2.1")]))
            return real(request)

        monkeypatch.setattr(dicomweb, "_check_accept", check)
        assert post(house, body)[0] == 503
        held.close()


def test_a_peers_line_bounds_what_stow_may_take(tmp_path: Path) -> None:
    """STOW-RS stands where an AE title is asked for; what the title of another may take is not its business."""
    body = body_of([builders.part10(builders.mr_study(119)[0])])
    here = {"network": "127.0.0.0/8"}
    bounded = {"aet": "STOW-RS", "max_associations": 1, "max_object_bytes": 1024}
    with listener(tmp_path / "data", peers=(here, here | bounded)) as house:
        status, answer, _ = post(house, body)
        assert status == 413
        assert why(answer) == [0xA700]
        assert not kept(house)
        with socket.create_connection((HOST, house.ports.http), timeout=20) as sock:
            head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/related; boundary=xyz\r\n"
            sock.sendall(f"{head}Content-Length: 1000\r\n\r\n--xyz\r\n".encode())
            until(lambda: len(house.rows(schema.association)) == 2, what="the second request")
            assert post(house, body)[0] == 503
        until(lambda: post(house, body)[0] == 413, what="room again")
        assert [one.Status for one in store(house.ports.dimse, [builders.mr_study(119)[0]])] == [0x0000]


def test_a_request_under_way_is_finished_when_the_node_stops(tmp_path: Path) -> None:
    images = builders.mr_study(118, axial=2, sagittal=0)
    body = body_of([builders.part10(image) for image in images])
    with listener(tmp_path / "data") as house:
        with socket.create_connection((HOST, house.ports.http), timeout=60) as sock:
            head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/related; boundary=xyz\r\n"
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1500])
            until(lambda: house.rows(schema.association), what="the request")
            house.stop.set()
            sock.sendall(body[1500:])
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        house.close()
        assert len(house.rows(schema.instance)) == 2
        assert house.row(schema.association)["ended_how"] == "released"
    assert kept(house) == sent(images)
