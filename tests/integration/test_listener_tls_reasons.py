"""A TLS handshake that fails is listed with the reason that an administrator can act on."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from associate_pdus import HARMLESS, request
from cryptography.hazmat.primitives import serialization
from listener_house import listener
from made_certificates import CLIENT, SERVER, Made, make
from peers import HOST, until
from raw_peer import connected

from cauda.core import schema, settings
from cauda.core.errors import Misconfigured
from cauda.listener import tls

pytestmark = pytest.mark.peers
_ANSWERS_WITHIN_S = 30


def client(*, shows: Made | None = None, trusts: Made | None = None, ciphers: str = "DEFAULT") -> ssl.SSLContext:
    """The sender's side: what it shows, and whether it checks ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if trusts else ssl.CERT_NONE
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    if trusts:
        context.load_verify_locations(trusts.certificate_file)
    if shows:
        context.load_cert_chain(shows.certificate_file, shows.key_file)
    return context


def old_client() -> ssl.SSLContext:
    context = client(ciphers="ALL")
    with warnings.catch_warnings(action="ignore"):  # Python calls 1.1 deprecated; that is the point
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def cbc_client() -> ssl.SSLContext:
    context = client(ciphers="AES128-SHA")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def shake(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """A handshake, and a word by which an alert that follows it is read."""

    def shaken(sock: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(sock) as secured:
            secured.recv(1)

    return shaken


def say(content: bytes) -> Callable[[socket.socket], None]:
    """Bytes that are no TLS."""

    def said(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.sendall(content)
            sock.recv(100)

    return said


def hello() -> bytes:
    """The first bytes of a TLS client."""
    out = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        client().wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


def test_each_failed_handshake_is_listed_with_its_reason(tmp_path: Path) -> None:
    root = make(tmp_path, "root", authority=True)
    other = make(tmp_path, "other", authority=True)
    middle = make(tmp_path, "middle", issuer=root, authority=True)
    node = make(tmp_path, "node", issuer=root)
    callers: dict[str, Callable[[socket.socket], None]] = {
        "tls_certificate_missing": shake(client()),
        "tls_certificate_expired": shake(client(shows=make(tmp_path, "a", issuer=root, from_days=-9, to_days=-2))),
        "tls_certificate_not_yet_valid": shake(client(shows=make(tmp_path, "b", issuer=root, from_days=2))),
        "tls_certificate_self_signed": shake(client(shows=make(tmp_path, "c"))),
        "tls_certificate_purpose": shake(client(shows=make(tmp_path, "d", issuer=root, purposes=[SERVER]))),
        "tls_certificate_weak": shake(client(shows=make(tmp_path, "e", issuer=root, rsa_bits=1024))),
        "tls_chain_incomplete": shake(client(shows=make(tmp_path, "f", issuer=middle))),
        "tls_chain_incomplete, another authority": shake(
            client(shows=make(tmp_path, "g", issuer=other, chain=[other]))
        ),
        "tls_our_certificate_refused": shake(client(trusts=other)),
        "tls_version": shake(old_client()),
        "tls_no_shared_cipher": shake(cbc_client()),
        "plain_on_tls_port": say(request(calling=b"CT7".ljust(16))),
        "plain_on_tls_port, HTTP": say(b"GET / HTTP/1.0\r\n\r\n"),
        "tls_timeout": say(b""),
        "tls_timeout, a part of its hello": say(hello()[:20]),
    }
    given = {"certificate": node.certificate_file, "key": node.key_file, "ca": root.certificate_file, "port": 0}
    with listener(tmp_path / "data", tls=given | {"handshake_timeout_s": 2}) as house:
        for number, call in enumerate(callers.values(), 1):
            with socket.create_connection(
                (HOST, house.ports.tls), timeout=_ANSWERS_WITHIN_S, source_address=(f"127.0.1.{number}", 0)
            ) as sock:
                call(sock)
        until(lambda: len(house.rows(schema.refused_peer)) == len(callers), what="all of them listed")
        found = {row["address"]: (row["why"], row["aet"]) for row in house.rows(schema.refused_peer)}
        whole = client(shows=make(tmp_path, "h", issuer=middle, chain=[middle], purposes=[CLIENT]), trusts=root)
        with (
            socket.create_connection((HOST, house.ports.tls), _ANSWERS_WITHIN_S) as sock,
            whole.wrap_socket(sock) as ok,
        ):
            ok.sendall(HARMLESS["unknown item"])
            assert ok.recv(1) == b"\2"
    expected = {
        f"127.0.1.{number}": (name.partition(",")[0], "CT7" if name == "plain_on_tls_port" else "")
        for number, name in enumerate(callers, 1)
    }
    assert found == expected


@pytest.mark.usefixtures("data_path")
def test_what_is_no_dicom_on_the_plain_port_is_listed_as_what_it_is(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        for content, reason in ((hello(), "tls_on_plain_port"), (b"GET / HTTP/1.0\r\n\r\n", "not_dicom")):
            with connected(house.ports.dimse) as peer:
                peer.send(content)
                assert peer.ended()
            until(lambda reason=reason: reason in [row["why"] for row in house.rows(schema.refused_peer)])
        with connected(house.ports.dimse) as peer:
            peer.send(HARMLESS["unknown item"])
            assert peer.receive()
            peer.send(b"\x99" * 100)
            assert peer.ended()
        until(lambda: len(house.rows(schema.refused_peer)) == 3, what="the association that broke off listed")
        rows: set[tuple[Any, Any]] = {(row["aet"], row["why"]) for row in house.rows(schema.refused_peer)}
        assert rows == {("", "tls_on_plain_port"), ("", "not_dicom"), ("RAW", "pdu_unreadable")}


def test_a_key_of_ours_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    node, other = make(tmp_path, "node", authority=True), make(tmp_path, "other", authority=True)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        node.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    empty = tmp_path / "empty.key"
    empty.write_bytes(b"")
    weak = make(tmp_path, "weak", rsa_bits=1024)
    for certificate, key, words in (
        (node, locked, "is encrypted"),
        (node, other.key_file, "is not the key of"),
        (node, empty, "holds no private key"),
        (node, tmp_path / "absent.key", "cannot be read"),
        (weak, weak.key_file, "2048 bits"),
    ):
        with pytest.raises(Misconfigured) as caught:
            tls.load(settings.Tls(certificate=certificate.certificate_file, key=key))
        assert words in caught.value.message
        assert str(key) in caught.value.message
