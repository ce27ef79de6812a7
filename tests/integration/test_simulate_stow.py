"""The load generator over STOW-RS: what a real archive stored is counted as stored, what was refused is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dicom_peers import Orthanc, orthanc
from peers import HOST, free_port
from pydicom import Dataset, dcmread
from web_server import serving

from cauda.core.errors import Misconfigured, Unavailable
from cauda.deploy import simulate
from cauda.deploy.doors import door
from cauda.deploy.simulate import Door
from cauda.models.phantom.copies import readdressed
from cauda.models.phantom.habits import HABITS
from cauda.models.phantom.imaging import Spoil
from cauda.models.phantom.protocol import ROUTINE, Protocol
from cauda.models.phantom.study import make_study

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
TINY = Protocol(kinds=ROUTINE, companions=True, sagittal_slices=2, axial_slices=1, coarse=4, spoil=Spoil(noise=0.005))
STORED, FAILED = "00081199", "00081198"
pytestmark = pytest.mark.peers


@cache
def study() -> list[Dataset]:
    return make_study(9, 0, TINY).images


@pytest.fixture(scope="module")
def archive() -> Iterator[Orthanc]:
    with orthanc(Plugins=[PLUGIN], DicomWeb={"Enable": True, "Root": "/dicom-web/"}, OverwriteInstances=True) as peer:
        yield peer


def service(port: int, path: str = "/dicom-web") -> Door:
    return door(f"stow+http://{HOST}:{port}{path}", yes=False)


@pytest.mark.parametrize(("habit", "requests"), [("study", 1), ("series", 7), ("abort", 2), ("correction", 2)])
def test_every_image_reaches_an_archive_in_as_many_requests_as_associations(
    habit: str, requests: int, archive: Orthanc
) -> None:
    """Also after a request that was cut in the middle of an image."""
    images = readdressed(study(), sorted(HABITS).index(habit))
    tally = simulate.push(service(archive.http), [HABITS[habit](images)])
    assert tally.whole, tally.failures
    assert tally.associations == requests
    assert tally.bytes > sum(len(image.get("PixelData", b"")) for image in images)
    there = {one["sop_uid"] for one in archive.instances(str(images[0].StudyInstanceUID))}
    assert there == {str(image.SOPInstanceUID) for image in images}
    assert 0 < tally.percentile_ms(50) <= tally.percentile_ms(99)


@dataclass
class Heard:
    """What a scripted service was sent."""

    requests: int = 0
    authorizations: list[str | None] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)  # Part 10, in order
    complete: list[bool] = field(default_factory=list)  # whether a request's body ended as multipart ends

    @property
    def sop_uids(self) -> list[str]:
        """Whose files they are."""
        return [str(dcmread(BytesIO(one)).SOPInstanceUID) for one in self.files]


Script = Callable[[Sequence[str]], tuple[int, Any]]  # SOP Instance UIDs of a request -> status and JSON


@contextmanager
def scripted(script: Script, *, read: bool = True) -> Iterator[tuple[int, Heard]]:
    """A STOW-RS service that answers as it is told; without ``read`` it answers before it has read the body."""
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            heard.requests += 1
            heard.authorizations.append(self.headers.get("Authorization"))
            here = self._parts() if read else []
            heard.files += here
            uids = [str(dcmread(BytesIO(one)).SOPInstanceUID) for one in here]
            status, said = script(uids)
            if not status:
                self.close_connection = True
                return
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(text)))
            if not read:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            self.wfile.write(text)

        def _parts(self) -> list[bytes]:
            body = b""
            while size := int(self.rfile.readline() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            boundary = b"--" + self.headers["Content-Type"].rpartition("boundary=")[2].encode()
            assert self.path == "/dicom-web/studies"
            heard.complete.append(body.endswith(boundary + b"--\r\n"))
            return [part.partition(b"\r\n\r\n")[2][:-2] for part in body.split(boundary)[1:-1]]

    with serving(Handler) as port:
        yield port, heard


def item(sop_uid: str, **reason: int) -> dict[str, Any]:
    """An item of the response's sequences; ``warning`` or ``failure`` (PS3.18 table 10.5.3-2)."""
    tags = {"warning": "00081196", "failure": "00081197"}
    said = {tags[name]: {"vr": "US", "Value": [value]} for name, value in reason.items()}
    return {"00081155": {"vr": "UI", "Value": [sop_uid]}} | said


def sequence(*items: dict[str, Any]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)}


def one_refused(sop_uids: Sequence[str]) -> tuple[int, Any]:
    """The first refused, the second stored with a warning, the last forgotten."""
    refused, warned, *stored, _ = sop_uids
    there = [item(warned, warning=0xB000), *map(item, stored)]
    return 202, {STORED: sequence(*there), FAILED: sequence(item(refused, failure=0xA700))}


def test_each_image_is_counted_as_the_answer_says_of_it() -> None:
    """Refused, coerced, and one of which the service says nothing, which must not pass for stored."""
    with scripted(one_refused) as (port, heard):
        tally = simulate.push(service(port), [HABITS["study"](study())])
    assert heard.sop_uids == [str(image.SOPInstanceUID) for image in study()]
    assert tally.failures == {"A700": 1, "HTTP 202, image not mentioned": 1}
    assert tally.warnings == {"B000": 1}
    assert tally.images == len(study())


def test_the_command_fails_where_an_image_is_refused(tmp_path: Path) -> None:
    for number, image in enumerate(study()):
        image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    with scripted(one_refused) as (port, _):
        words = ["simulate", "--to", f"stow+http://{HOST}:{port}/dicom-web/", "--dir", str(tmp_path), "--json"]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cauda.deploy", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    said = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert said["images"] == len(study())
    assert said["acknowledged"] == len(study()) - 2
    assert 0 < said["ack_ms"]["p50"] <= said["ack_ms"]["p99"]


@pytest.mark.parametrize(
    ("script", "read", "why"),
    [
        pytest.param(lambda _: (401, None), False, "HTTP 401", id="refused before the body was read"),
        pytest.param(lambda _: (503, "busy"), True, "HTTP 503", id="refused, and no DICOM JSON"),
        pytest.param(lambda _: (200, [[], "x"]), True, "HTTP 200, image not mentioned", id="nonsense"),
        pytest.param(lambda _: (0, None), True, "no answer", id="hangs up instead of an answer"),
    ],
)
def test_an_answer_that_names_no_image_stores_none(script: Script, read: bool, why: str) -> None:
    with scripted(script, read=read) as (port, _):
        tally = simulate.push(service(port), [HABITS["study"](study())])
    assert set(tally.failures) == {why}
    assert tally.failures.total() == tally.images > 0
    assert not tally.whole


def test_a_request_that_is_stopped_ends_in_order_and_what_went_out_is_answered() -> None:
    """Ctrl-C: the node must not be left with half an image, nor we without knowing what it has."""
    with scripted(lambda uids: (200, {STORED: sequence(*map(item, uids))})) as (port, heard):
        looks = count()
        line = service(port).opened(study(), lambda _: None)
        answers = list(line.sent(study(), lambda: next(looks) >= 3))
        line.release()
    assert len(answers) == len(heard.files) == 3
    assert heard.complete == [True]
    assert all(answer.refusal is None for answer in answers)


def test_the_authorization_comes_from_a_file_and_is_sent_with_every_request(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer abc\n")
    with scripted(lambda uids: (200, {STORED: sequence(*map(item, uids))})) as (port, heard):
        node = door(f"stow+http://{HOST}:{port}/dicom-web/studies", yes=False, authorization=tmp_path / "token")
        assert simulate.push(node, [HABITS["series"](study())]).whole
    assert set(heard.authorizations) == {"Bearer abc"}
    assert "abc" not in node.name


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("stow+http://192.0.2.1/dicom-web", "192.0.2.1 is not this machine; add --yes"),
        ("dimse://PACS@192.0.2.1:104", "192.0.2.1 is not this machine; add --yes"),
        ("192.0.2.1:104", "192.0.2.1 is not this machine; add --yes"),
        ("stow+ftp://127.0.0.1/x", "is none of"),
        ("stow+http://127.0.0.1:99999/x", "is none of"),
        ("http://127.0.0.1/x", "is none of"),
        ("folder:/tmp", "is none of"),
        ("stow+http://me:secret@127.0.0.1/x", "no password in the address"),
    ],
)
def test_another_machine_needs_a_yes_and_an_address_that_is_none_is_said(to: str, why: str) -> None:
    """CLINICAL.md 33."""
    with pytest.raises(Misconfigured, match=why) as said:
        door(to, yes=False)
    assert "secret" not in str(said.value)


def test_with_a_yes_another_machine_may_be_sent_to() -> None:
    assert door("dimse://PACS@192.0.2.1:104", yes=True).name == "dimse://PACS@192.0.2.1:104"


def test_nobody_there_is_said_and_fails() -> None:
    with pytest.raises(Unavailable, match="no association: nobody answers"):
        simulate.push(service(free_port()), [HABITS["study"](study()[:1])])
