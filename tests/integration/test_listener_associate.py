"""Associations that other software accepts are accepted, on both data paths and over TLS; what is refused is listed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import builders
import pytest
from associate_pdus import CONTEXTS, HARMLESS, REFUSED
from certificates import Pair, authority, issue
from dicom_peers import echoscu
from listener_house import House, listener
from peers import HOST, until
from raw_peer import ASSOCIATE_AC, RawPeer, connected

from cauda.core import schema

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("data_path")]
ASSOCIATE_RJ = 0x03


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(authority(tmp_path_factory.mktemp("ca"), "hospital"), "cauda")


@contextmanager
def connected_tls(port: int) -> Iterator[RawPeer]:
    """A peer over TLS that checks no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((HOST, port), timeout=20) as sock, context.wrap_socket(sock) as wrapped:
        yield RawPeer(sock=wrapped)


def refusals(house: House) -> set[tuple[str, str, str]]:
    """Title, address and reason of every peer that was refused."""
    return {(row["aet"], row["address"], row["why"]) for row in house.rows(schema.refused_peer)}


@pytest.mark.parametrize("secured", [False, True])
def test_what_is_a_little_off_is_accepted_and_served(tmp_path: Path, server: Pair, secured: bool) -> None:
    tls: dict[str, Any] = {"certificate": server.certificate, "key": server.key, "port": 0}
    unserved = []
    with listener(tmp_path / "data", tls=tls) as house:
        for name, request in HARMLESS.items():
            with connected_tls(house.ports.tls) if secured else connected(house.ports.dimse) as peer:
                peer.send(request)
                answer = peer.receive()
                if answer is None or answer[0] != ASSOCIATE_AC or not peer.echo(1) or not peer.release():
                    unserved.append(name)
    assert unserved == []


def test_an_image_is_stored_on_an_association_that_is_a_little_off(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        for number, name in enumerate(("titles padded with NUL", "no Maximum Length", "version name of 20 characters")):
            uid = f"1.2.3.4.{number}"
            image = builders.dataset_bytes(builders.part10(builders.mr_image("1.2.3", "1.2.3.4", uid)))
            with connected(house.ports.dimse) as peer:
                peer.send(HARMLESS[name])
                assert peer.receive()
                stored = peer.store(3, builders.MR_IMAGE, uid, image)
                assert stored is not None
                assert stored.status == 0x0000
        until(lambda: len(house.rows(schema.instance)) == 3, what="the images filed")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_rejected_and_stands_in_the_list_with_its_title(tmp_path: Path, name: str) -> None:
    request, reason = REFUSED[name]
    title = "?" if name == "a request of 20 bytes" else "RAW"
    with listener(tmp_path / "data") as house:
        with connected(house.ports.dimse) as peer:
            peer.send(request)
            answer = peer.receive()
            assert answer is not None
            result, source, diagnostic = answer[1][1:4]
            assert (answer[0], result, source) == (ASSOCIATE_RJ, 1, 2)
            assert diagnostic == (2 if reason == "protocol_version" else 1)
        until(lambda: refusals(house) == {(title, HOST, reason)}, what="the refusal listed")
        assert echoscu(house.ports.dimse)


def test_a_title_that_is_no_ascii_can_be_allowed_as_it_is_listed(tmp_path: Path) -> None:
    peers = [{"aet": "MRT_K?LN", "network": "127.0.0.0/8"}]
    with listener(tmp_path / "data", peers=peers) as house, ExitStack() as stack:
        first, second = (stack.enter_context(connected(house.ports.dimse)) for _ in range(2))
        first.send(HARMLESS["calling title in Latin-1"])
        second.send(HARMLESS["calling title of blanks"])
        allowed, refused = first.receive(), second.receive()
        assert allowed is not None
        assert refused is not None
        assert (allowed[0], refused[0]) == (ASSOCIATE_AC, ASSOCIATE_RJ)
        until(lambda: refusals(house) == {("?", HOST, "calling_ae_not_allowed")}, what="the refusal listed")


def test_the_harmless_requests_propose_an_echo_where_the_test_asks_for_it() -> None:
    assert CONTEXTS[0][0] == 1


def test_data_sets_that_other_software_stores_are_stored_and_filed_as_they_came(tmp_path: Path) -> None:
    """An element out of order or twice, zeros behind the last one."""
    late = b"\x09\x00\x10\x00LO\x04\x00LATE"
    variants: list[Callable[[bytes], bytes]] = [
        lambda data: data + late, lambda data: data + bytes(512), lambda data: late + data,
        lambda data: data.replace(element := _element(data, b"\x20\x00\x13\x00IS"), element * 2),
        lambda data: data.replace(element := _element(data, b"\x10\x00\x20\x00LO"), b"") + element,
    ]  # fmt: skip
    sent = {}
    at_last = {"after_release_s": 1, "quiet_s": 2, "hard_age_s": 3}
    with listener(tmp_path / "data", completeness=at_last) as house:
        with connected(house.ports.dimse) as peer:
            peer.send(HARMLESS["unknown item"])
            assert peer.receive()
            for number, variant in enumerate(variants):
                uid = f"1.2.3.4.{number}"
                image = builders.dataset_bytes(builders.part10(builders.mr_image("1.2.3", "1.2.3.4", uid)))
                sent[uid] = variant(image)
                stored = peer.store(3, builders.MR_IMAGE, uid, sent[uid])
                assert stored is not None
                assert (stored.status, stored.comment) == (0x0000, "")
            assert peer.release()
        until(lambda: len(house.rows(schema.instance)) == len(variants), what="the images filed")
        assert {row["role"] for row in house.rows(schema.instance)} == {"axial"}
        until(lambda: len(house.rows(schema.revision_input)) == len(variants), what="all of them frozen to be graded")
    kept = {path.read_bytes() for path in (tmp_path / "data" / "studies").glob("*/*.dcm")}
    assert {builders.dataset_bytes(content) for content in kept} == set(sent.values())


def _element(data: bytes, begin: bytes) -> bytes:
    at = data.index(begin)
    return data[at : at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")]
