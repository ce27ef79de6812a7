"""Results by STOW-RS: into Orthanc's DICOMweb, and to a server that refuses, is away, or talks nonsense."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import Orthanc, orthanc
from graded import graded_house, images, work
from logged import logged
from peers import HOST, free_port
from pydantic import ValidationError
from web_server import serving

from cauda.core.domain import Reason
from cauda.core.settings import Destination
from cauda.worker.deliver import deliver_next

pytestmark = pytest.mark.peers


@contextmanager
def pacs() -> Iterator[tuple[Orthanc, str]]:
    with orthanc(Plugins=["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"]) as server:
        yield server, f"stow+http://{HOST}:{server.http}/dicom-web"


def test_orthanc_with_the_study_ends_with_one_sr_and_one_sc(tmp_path: Path) -> None:
    with pacs() as (server, url):
        at = graded_house(tmp_path / "data", url)
        work(at)
        assert {row["reason"] for row in at.rows("delivery")} == {Reason.STUDY_ABSENT, None}
        server.store(builders.write(images(), tmp_path / "images"))
        at.clock[0] += 900
        work(at)
        assert at.states("delivery") == ["accepted", "accepted"]
        for one in server.results(images()[0].StudyInstanceUID):
            (row,) = at.rows("result", sop_uid=one["sop_uid"])
            ours = builders.dataset_bytes((at.data / row["path"]).read_bytes())
            assert builders.dataset_bytes(server.file(one["id"])) == ours
        at.clock[0] += 60
        work(at)
        assert [(row["state"], row["confirmed_by"]) for row in at.rows("delivery")] == [("committed", "read_back")] * 2


def test_another_patient_there_holds_the_study(tmp_path: Path) -> None:
    with pacs() as (server, url):
        at = graded_house(tmp_path / "data", url)
        other = [builders.mr_study("graded", axial=5, sagittal=5)[0]]
        other[0].PatientID = "PID-MERGED"
        server.store(builders.write(other, tmp_path / "images"))
        work(at)
        assert at.rows("study")[0]["hold"] == Reason.IDENTITY_MISMATCH
        assert server.results(images()[0].StudyInstanceUID) == []


@contextmanager
def web(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that knows every study and answers STOW-RS like this; and the headers it was sent."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            image = images()[0]
            self.answer(200, json.dumps([{"0020000D": {"vr": "UI", "Value": [image.StudyInstanceUID]}}]).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(status, body)

        def answer(self, status: int, body: bytes) -> None:
            asked.append(dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as port:
        yield f"stow+http://{HOST}:{port}/pacs", asked


def failed(reason: int) -> bytes:
    item = {"00081197": {"vr": "US", "Value": [reason]}, "00000902": {"vr": "LO", "Value": ["not this"]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


def warned(reason: int) -> bytes:
    item = {"00081196": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "state", "reason", "words"),
    [
        (200, b"", "accepted", None, None),
        (200, b"<html>", "accepted", None, None),
        (202, warned(0xB000), "accepted", None, "status B000"),
        (202, failed(0xA700), "due", Reason.DESTINATION_BUSY, "status A700: not this"),
        (409, failed(0x0122), "refused", Reason.DESTINATION_REFUSED, "status 0122: not this"),
        (409, b"[" * 100_000, "refused", Reason.DESTINATION_REFUSED, "HTTP 409"),
        (400, b"no such attribute", "refused", Reason.DESTINATION_REFUSED, "HTTP 400: no such attribute"),
        (401, b"", "due", Reason.DESTINATION_REFUSED, "HTTP 401"),
        (302, b"", "due", Reason.DESTINATION_REFUSED, "HTTP 302"),
        (503, b"", "due", Reason.DESTINATION_BUSY, "HTTP 503"),
    ],
)
def test_every_answer_has_a_meaning(
    tmp_path: Path, status: int, body: bytes, state: str, reason: Reason | None, words: str | None
) -> None:
    with web(status, body) as (url, _):
        at = graded_house(tmp_path, url)
        work(at)
        first = at.rows("delivery")[0]
        assert (first["state"], first["reason"], first["reason_text"]) == (state, reason, words)


@pytest.mark.parametrize("endless", ["large", "slow"])
def test_an_answer_that_does_not_end_is_left(tmp_path: Path, endless: str) -> None:
    """17 MiB, or a byte now and then for as long as somebody reads."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                for _ in range(17 if endless == "large" else 300):
                    self.wfile.write(b" " * (1024**2 if endless == "large" else 1))
                    self.wfile.flush()
                    if endless == "slow" and gone.wait(0.1):
                        break

    gone = threading.Event()
    with serving(Handler) as port:
        at = graded_house(tmp_path, f"stow+http://{HOST}:{port}/pacs", delivery={"network_timeout_s": 0.5})
        began = time.monotonic()
        assert deliver_next(at.post())
        gone.set()
        assert time.monotonic() - began < 15
        first = at.rows("delivery")[0]
        assert (first["state"], first["reason_text"]) == ("due", "the answer does not end")


@contextmanager
def redirecting(status: int, to: str, verb: str) -> Iterator[tuple[str, list[str]]]:
    """An archive that answers this kind of request with a redirect; and what reaches the place that it names.

    ``to`` is "elsewhere", another origin, or "here", another path of the same.
    """
    reached: list[str] = []

    class Target(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.do_GET()

    with serving(Target) as elsewhere:

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/moved"):
                    reached.append(self.path)
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                known = [{"0020000D": {"vr": "UI", "Value": [images()[0].StudyInstanceUID]}}]
                body = b"" if self.command == verb else json.dumps(known).encode()
                self.send_response(status if self.command == verb else 200)
                origin = f"http://{HOST}:{elsewhere}" if to == "elsewhere" else ""
                self.send_header("Location", f"{origin}/moved{self.path}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

        with serving(Handler) as port:
            yield f"stow+http://{HOST}:{port}/pacs", reached


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize(("status", "to"), [(301, "elsewhere"), (303, "here"), (307, "elsewhere"), (308, "here")])
def test_no_redirect_is_followed(tmp_path: Path, verb: str, status: int, to: str) -> None:
    """Patient data and the login go to the configured address alone; somebody has to correct it."""
    with redirecting(status, to, verb) as (url, reached):
        at = graded_house(tmp_path, url, authorization="Bearer s3cret")
        work(at)
        assert reached == []
        first = at.rows("delivery")[0]
        assert (first["state"], first["reason"]) == ("due", Reason.DESTINATION_REFUSED)
        assert first["reason_text"] == f"HTTP {status}"


def test_no_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(502)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.do_GET()

    with serving(Proxy) as port, web(200, b"") as (url, _):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{HOST}:{port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        at = graded_house(tmp_path, url)
        work(at)
        assert (at.states("delivery"), asked) == (["accepted", "accepted"], [])


def test_the_servers_words_are_in_no_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with web(503, b"no room for MUELLER^ANNA") as (url, _), logged(stream, level="debug"):
        at = graded_house(tmp_path, url)
        work(at)
        assert at.rows("delivery")[0]["reason_text"] == "HTTP 503: no room for MUELLER^ANNA"
        written = stream.getvalue() + "".join(capfd.readouterr())
        assert "delivery_waits" in written
        assert "MUELLER" not in written


def test_nobody_there_is_told_from_a_refusal(tmp_path: Path) -> None:
    at = graded_house(tmp_path, f"stow+http://{HOST}:{free_port()}/dicom-web")
    work(at)
    assert at.rows("delivery")[0]["reason"] == Reason.DESTINATION_DOWN


def test_authorization_comes_from_a_file_that_is_read_at_each_use(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("Bearer first\n")
    with web(503, b"") as (url, asked):
        at = graded_house(tmp_path / "data", url, authorization_file=str(secret))
        work(at)
        before = len(asked)
        secret.write_text("Bearer second\n")
        at.clock[0] += 900
        work(at)
    shown = [headers["Authorization"] for headers in asked]
    assert before
    assert set(shown[:before]) == {"Bearer first"}
    assert set(shown[before:]) == {"Bearer second"}
    assert b"Bearer" not in b"".join(path.read_bytes() for path in at.data.glob("ledger*"))


@pytest.mark.parametrize("url", ["stow+http://", "stow+ftp://pacs/x", "stow+http://user:secret@pacs/x"])
def test_a_url_that_cannot_be_meant_is_refused_and_its_password_not_shown(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Destination.model_validate(url)
    assert "secret" not in "".join(str(error["msg"]) for error in refused.value.errors())


def test_a_loopback_url_counts_as_test_and_a_foreign_one_does_not() -> None:
    """CLINICAL.md 16."""

    def local(url: Any) -> bool:
        return Destination.model_validate(url).local

    assert local("stow+http://127.0.0.1:8042/dicom-web")
    assert not local("stow+https://pacs.example/dicom-web")
    assert not local({"name": "pacs", "kind": "stow", "base": "https://pacs.example/dicom-web"})
