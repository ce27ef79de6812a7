"""The HTTP door: what watches a node learns the truth, and nobody learns a patient."""

from __future__ import annotations

import itertools
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import builders
import pytest
from listener_house import House, listener, store
from peers import HOST, until
from sqlalchemy import update

from cauda.core import schema
from cauda.listener.http import DEAF_AFTER_S

pytestmark = pytest.mark.peers


def get(house: House, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{house.ports.http}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def reasons(house: House) -> list[str]:
    status, body = get(house, "/readyz")
    found = json.loads(body)
    assert found["ready"] is (status == 200) is (not found["reasons"])
    return list(found["reasons"])


def test_a_study_that_nobody_grades_makes_the_node_unready(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        assert get(house, "/healthz")[0] == 200
        assert reasons(house) == []
        store(house.ports.dimse, builders.mr_study(31))
        until(lambda: house.rows(schema.revision), what="a revision")
        assert reasons(house) == []  # a worker may still be on its way
        with house.book.write() as conn:
            conn.execute(update(schema.revision).values(not_before=time.time() - DEAF_AFTER_S - 5))
        assert any("studies are due" in reason for reason in reasons(house))


def test_results_that_nobody_sends_make_the_node_unready(tmp_path: Path) -> None:
    folder = f"folder:{tmp_path / 'out'}"
    with listener(tmp_path / "data", destinations=(folder,)) as house:
        store(house.ports.dimse, builders.mr_study(32))
        until(lambda: house.rows(schema.revision), what="a revision")
        study = builders.mr_study(32)[0].StudyInstanceUID
        with house.book.write() as conn:  # as a worker leaves it
            conn.execute(update(schema.revision).values(state="reported"))
            conn.execute(
                schema.result.insert().values(
                    revision_id=1,
                    study_uid=study,
                    kind="sr",
                    sop_class_uid="1",
                    sop_uid="1.9",
                    series_uid="1.8",
                    path="x",
                    sha256="x",
                    made_at=0.0,
                )
            )
            conn.execute(schema.delivery.insert().values(result_id=1, study_uid=study, destination=folder, state="due",
                                                         not_before=time.time(), created_at=0.0))  # fmt: skip
        assert reasons(house) == []
        with house.book.write() as conn:
            conn.execute(update(schema.delivery).values(not_before=time.time() - DEAF_AFTER_S - 5))
        assert any("results are due" in reason for reason in reasons(house))


def test_metrics_and_the_page_count_studies_and_name_no_patient(tmp_path: Path) -> None:
    secret = {"PatientName": "Zebrafink^Ottokar", "PatientID": "ZFK4711", "AccessionNumber": "ACCZFK"}
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, builders.mr_study(33, **secret))
        until(lambda: house.rows(schema.revision), what="a revision")
        _, metrics = get(house, "/metrics")
        _, page = get(house, "/")
        assert 'cauda_studies{state="complete"} 1.0' in metrics
        assert 'cauda_revisions{state="due"} 1.0' in metrics
        assert builders.mr_study(33)[0].StudyInstanceUID in page
        assert "released for 0 s: 5 axial T2-possible, 5 sagittal T2-possible" in page
        store(house.ports.dimse, builders.mr_study(34, sagittal=0, **secret))
        until(lambda: "waits: sagittal and axial T2 are not both there" in get(house, "/")[1], what="why it waits")
        for text in (metrics, page, get(house, "/readyz")[1]):
            for value in ("Zebrafink", "Ottokar", "ZFK4711", "ACCZFK", "19600102"):
                assert value not in text


HEAD = b"GET /healthz HTTP/1.1\r\nHost: cauda\r\n"


def dripped(house: House, before: bytes, drops: Iterable[bytes]) -> bytes:
    """What is said to who sends a bit now and then for ever, until it is hung up on; TimeoutError if it never is."""
    said, deadline = b"", time.monotonic() + 60
    with socket.create_connection((HOST, house.ports.http), timeout=0.1) as sock:
        sock.sendall(before)
        for drop in drops:
            if time.monotonic() > deadline:
                raise TimeoutError("never hung up on")
            try:
                sock.sendall(drop)
                got = sock.recv(1 << 16)
            except TimeoutError:
                continue
            except ConnectionError:
                return said
            if not got:
                return said
            said += got
    return said


SLOW: dict[str, Callable[[House], bytes]] = {
    "silent": lambda house: dripped(house, b"", itertools.repeat(b"")),
    "stops within a head": lambda house: dripped(house, HEAD, itertools.repeat(b"")),
    "drips a head": lambda house: dripped(house, HEAD, (f"X-{n}: 1\r\n".encode() for n in itertools.count())),
    "drips a second head": lambda house: dripped(
        house, HEAD + b"\r\n" + HEAD, (f"X-{n}: 1\r\n".encode() for n in itertools.count())
    ),
}


@pytest.mark.parametrize("how", SLOW)
def test_who_is_slow_with_a_head_is_hung_up_on(tmp_path: Path, how: str) -> None:
    with listener(tmp_path / "data", http={"port": 0, "head_timeout_s": 0.5}) as house:
        said = SLOW[how](house)
        assert said.count(b"HTTP/1.1 200") == (1 if "second" in how else 0)
        assert get(house, "/healthz")[0] == 200


def test_a_body_that_drips_is_answered_408_on_the_pages_too(tmp_path: Path) -> None:
    form = b"Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with listener(tmp_path / "data", limits={"min_free_bytes": 0, "network_timeout_s": 0.5}) as house:
        said = dripped(
            house, b"POST /login HTTP/1.1\r\n" + form + b"Content-Length: 9999\r\n\r\n", itertools.repeat(b"a")
        )
        assert said.startswith(b"HTTP/1.1 408"), said
        assert get(house, "/healthz")[0] == 200


def test_one_address_cannot_take_every_connection(tmp_path: Path) -> None:
    with listener(tmp_path / "data", http={"port": 0, "max_connections": 8}) as house, ExitStack() as held:

        def silent(address: str) -> socket.socket:
            sock = socket.create_connection((HOST, house.ports.http), timeout=5, source_address=(address, 0))
            return held.enter_context(sock)

        first = [silent("127.0.0.2") for _ in range(4)]
        for _ in range(4):
            with suppress(ConnectionError):
                assert silent("127.0.0.2").recv(1) == b""
        assert get(house, "/healthz")[0] == 200
        first[0].sendall(HEAD + b"\r\n")
        assert first[0].recv(100).startswith(b"HTTP/1.1 200")


def test_who_does_not_take_its_answers_is_cut_off(tmp_path: Path) -> None:
    """It asks for one metrics page after another and reads none."""
    with listener(tmp_path / "data", limits={"min_free_bytes": 0, "network_timeout_s": 0.5}) as house:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(1)
            sock.connect((HOST, house.ports.http))

            def cut_off() -> bool:
                try:
                    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
                except TimeoutError:
                    return False
                except ConnectionError:
                    return True
                return False

            until(cut_off, what="the connection ended")
        assert get(house, "/healthz")[0] == 200
