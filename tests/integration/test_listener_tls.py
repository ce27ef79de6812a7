"""DICOM over TLS with DCMTK as the sender: what gets in, what does not, and that nobody is held up by it."""

from __future__ import annotations

import json
import random
import shutil
import socket
import ssl
import subprocess
import urllib.request
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import builders
import pytest
from certificates import Pair, authority, issue
from dicom_peers import echoscu, storescu
from listener_house import House, listener
from peers import HOST, program, until

from cauda.core import schema, settings
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured
from cauda.deploy import doctor
from cauda.listener import tls

pytestmark = pytest.mark.peers
ANONYMOUS = ("+tla", "-ic")  # DCMTK: TLS without a certificate of its own; whatever we show is taken


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return authority(tmp_path_factory.mktemp("ca"), "hospital")


@pytest.fixture(scope="module")
def server(ca: Pair) -> Pair:
    return issue(ca, "cauda")


@pytest.fixture(scope="module")
def scanner(ca: Pair) -> Pair:
    return issue(ca, "scanner")


def door(pair: Pair, **more: Any) -> dict[str, Any]:
    """The settings of a TLS door on a free port."""
    return {"tls": {"certificate": pair.certificate, "key": pair.key, "port": 0} | more}


def with_certificate(pair: Pair, ca: Pair) -> tuple[str, ...]:
    """DCMTK: show a certificate, and check ours."""
    return ("+tls", str(pair.key), str(pair.certificate), "+cf", str(ca.certificate))


def readyz(house: House) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{HOST}:{house.ports.http}/readyz", timeout=10) as answer:
        return dict(json.load(answer))


def metrics(house: House) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{house.ports.http}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def shown(port: int) -> str:
    """The certificate that a new caller is shown."""
    return ssl.get_server_certificate((HOST, port), timeout=10)


def hung_up(sock: socket.socket) -> bool:
    """Whether the other side has ended the connection; False when it says nothing within the socket's timeout."""
    try:
        return not sock.recv(1)
    except TimeoutError:
        return False
    except ConnectionResetError:  # with bytes of ours unread
        return True


def leaf(pair: Pair) -> str:
    return pair.certificate.read_text()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return builders.write(builders.mr_study(1), tmp_path / "in")


@pytest.mark.usefixtures("data_path")
def test_a_study_comes_over_tls_and_another_in_the_clear_beside_it(
    tmp_path: Path, server: Pair, ca: Pair, files: list[Path]
) -> None:
    with listener(tmp_path / "data", **door(server)) as house:
        answer = storescu(house.ports.tls, files, "+tla", "+cf", str(ca.certificate))
        assert answer.returncode == 0, answer.stderr
        assert storescu(house.ports.dimse, files).returncode == 0
        house.until_filed()
        until(lambda: house.rows(schema.revision), what="a revision")
    kept = {p.name: builders.dataset_bytes(p.read_bytes()) for p in (tmp_path / "data" / "studies").glob("*/*.dcm")}
    assert sorted(kept.values()) == sorted(builders.dataset_bytes(f.read_bytes()) for f in files)


@pytest.mark.usefixtures("data_path")
def test_images_in_large_fragments_come_over_tls_to_the_byte(tmp_path: Path, server: Pair, ca: Pair) -> None:
    """TLS gives a record at a time, whatever the PDUs; the data path receives such fragments where they belong."""
    draw = random.Random(1)
    images = [builders.mr_image("1.2.3", "1.2.3.4", f"1.2.3.4.{n}") for n in (5, 6, 7)]
    for one in images:
        one.Rows = one.Columns = 700
        one.PixelData = draw.randbytes(2 * 700 * 700)
    files = builders.write(images, tmp_path / "in")
    with listener(tmp_path / "data", **door(server)) as house:
        answer = storescu(house.ports.tls, files, "+tla", "+cf", str(ca.certificate))
        assert answer.returncode == 0, answer.stderr
        house.until_filed()
    kept = {p.name: builders.dataset_bytes(p.read_bytes()) for p in (tmp_path / "data" / "studies").glob("*/*.dcm")}
    assert sorted(kept.values()) == sorted(builders.dataset_bytes(f.read_bytes()) for f in files)


@pytest.mark.usefixtures("data_path")
def test_mutual_tls_lets_in_who_shows_a_certificate_of_the_authority_and_nobody_else(
    tmp_path: Path, server: Pair, ca: Pair, scanner: Pair, files: list[Path]
) -> None:
    stranger = issue(authority(tmp_path / "other", "other"), "stranger")
    with listener(tmp_path / "data", **door(server, ca=ca.certificate)) as house:
        assert storescu(house.ports.tls, files, *ANONYMOUS).returncode != 0
        assert storescu(house.ports.tls, files, *with_certificate(stranger, ca)).returncode != 0
        assert not house.rows(schema.association)
        answer = storescu(house.ports.tls, files, *with_certificate(scanner, ca))
        assert answer.returncode == 0, answer.stderr
        until(lambda: len(house.rows(schema.instance)) == len(files), what="the study filed")


@pytest.mark.usefixtures("data_path")
def test_who_speaks_no_tls_on_the_tls_port_does_no_harm(tmp_path: Path, server: Pair, files: list[Path]) -> None:
    with listener(tmp_path / "data", **door(server)) as house:
        assert not echoscu(house.ports.tls)
        with socket.create_connection((HOST, house.ports.tls), timeout=10) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert hung_up(sock)
        assert storescu(house.ports.tls, files, *ANONYMOUS).returncode == 0
        assert "cauda_tls_handshakes_failed_total" in metrics(house)


@pytest.mark.usefixtures("data_path")
def test_silent_and_dripping_callers_hold_up_nobody_and_are_hung_up_on(
    tmp_path: Path, server: Pair, files: list[Path]
) -> None:
    """More of them than one peer may have, from another address than the honest sender's."""
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    drops = hello.read()
    with listener(tmp_path / "data", **door(server, handshake_timeout_s=2)) as house, ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection((HOST, house.ports.tls), 10, source_address=("127.0.0.2", 0)))
            for _ in range(30)
        ]
        assert storescu(house.ports.tls, files, *ANONYMOUS).returncode == 0
        dripping = stack.enter_context(socket.create_connection((HOST, house.ports.tls), timeout=0.1))
        left = iter(drops)

        def dripped_out() -> bool:
            try:
                dripping.sendall(bytes([next(left)]))
            except OSError:
                return True
            return hung_up(dripping)

        until(dripped_out, what="the end of the one that drips")
        for sock in silent:
            sock.settimeout(30)
            assert hung_up(sock)


@pytest.mark.usefixtures("data_path")
def test_a_silent_caller_after_the_handshake_holds_up_nobody(tmp_path: Path, server: Pair, files: list[Path]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    limits = {"min_free_bytes": 0, "acse_timeout_s": 1, "drain_s": 1}
    with (
        listener(tmp_path / "data", limits=limits, **door(server)) as house,
        context.wrap_socket(socket.create_connection((HOST, house.ports.tls), timeout=60)) as silent,
    ):
        assert storescu(house.ports.tls, files, *ANONYMOUS).returncode == 0
        assert hung_up(silent)  # it has not asked for an association in time


def test_a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not_taken(
    tmp_path: Path, ca: Pair, server: Pair
) -> None:
    used = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")
    shutil.copy(server.certificate, used.certificate)
    shutil.copy(server.key, used.key)
    new = issue(ca, "new")
    with listener(tmp_path / "data", **door(used)) as house:
        assert shown(house.ports.tls) == leaf(server)
        used.certificate.write_text("-----BEGIN CERTIFICATE-----\nhalf a fi")
        assert shown(house.ports.tls) == leaf(server)
        (note,) = readyz(house)["notes"]
        assert str(used.certificate) in note
        shutil.copy(new.certificate, used.certificate)  # its key is not there yet: no pair
        assert shown(house.ports.tls) == leaf(server)
        assert str(used.key) in readyz(house)["notes"][0]
        shutil.copy(new.key, used.key)
        assert shown(house.ports.tls) == leaf(new)
        assert readyz(house) == {"ready": True, "reasons": [], "notes": []}


def test_a_certificate_near_its_end_is_warned_of_everywhere(
    tmp_path: Path, ca: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    short = issue(ca, "short", days=5)
    with listener(tmp_path / "data", **door(short)) as house:
        (note,) = readyz(house)["notes"]
        assert readyz(house)["ready"]
        assert str(short.certificate) in note
        assert "5 days" in note
        stamp = next(
            float(line.split()[-1]) for line in metrics(house).splitlines()
            if line.startswith("cauda_tls_certificate_expires_seconds{")
        )  # fmt: skip
        end = ssl.cert_time_to_seconds(_not_after(short))
        assert stamp == end
        until(lambda: "certificate_expires" in "".join(capsys.readouterr()), what="a line in the log")
        given = settings.load(
            environ={},
            overrides={"data": tmp_path / "data", "node": {"port": 0}, "http": {"port": 0}, **door(short)},
        )
        (line,) = [one for one in doctor.examine(given) if one.name == "tls"]
        assert not line.ok
        assert "5 days" in line.words


def _not_after(pair: Pair) -> str:
    argv = [program("openssl"), "x509", "-in", str(pair.certificate), "-noout", "-enddate"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return said.strip().removeprefix("notAfter=")


def test_the_doctor_sees_that_a_port_shows_another_certificate_than_the_file(
    tmp_path: Path, ca: Pair, server: Pair
) -> None:
    with listener(tmp_path / "data", **door(server)) as house:
        tree = {"data": tmp_path / "data", "node": {"host": HOST, "port": 0}, "http": {"port": 0}}
        port = {"port": house.ports.tls}
        well = settings.load(environ={}, overrides=tree | door(server, **port))
        assert [one.ok for one in doctor.examine(well) if one.name == "tls"] == [True]
        other = settings.load(environ={}, overrides=tree | door(issue(ca, "other"), **port))
        (line,) = [one for one in doctor.examine(other) if one.name == "tls"]
        assert not line.ok
        assert "another certificate" in line.words


@pytest.mark.parametrize(("minimum", "version"), [("1.2", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_2)])
def test_an_older_version_than_the_minimum_is_refused(
    tmp_path: Path, server: Pair, minimum: str, version: ssl.TLSVersion
) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # Python calls 1.1 deprecated; that is the point
        old.minimum_version = old.maximum_version = version
    with listener(tmp_path / "data", **door(server, minimum=minimum)) as house:
        with socket.create_connection((HOST, house.ports.tls), timeout=30) as sock, pytest.raises(OSError):  # noqa: PT011, SIM117  reset or alert, as the peers' timing has it
            with old.wrap_socket(sock):
                pass
        assert shown(house.ports.tls)


def test_with_a_certificate_shown_the_ae_title_alone_decides_where_that_is_set(
    tmp_path: Path, server: Pair, ca: Pair, scanner: Pair, files: list[Path]
) -> None:
    """Behind a load balancer every caller has the same address."""
    peers = ({"aet": "KNOWN", "network": "10.9.8.0/24"},)
    given = door(server, ca=ca.certificate, in_place_of_network=True)
    with listener(tmp_path / "data", peers=peers, **given) as house:
        shown_ = with_certificate(scanner, ca)
        assert storescu(house.ports.dimse, files, calling="KNOWN").returncode != 0
        assert storescu(house.ports.tls, files, *shown_, calling="STRANGER").returncode != 0
        answer = storescu(house.ports.tls, files, *shown_, calling="KNOWN")
        assert answer.returncode == 0, answer.stderr
        refused = until(lambda: len(house.rows(schema.refused_peer)) == 2 and house.rows(schema.refused_peer))
        assert {row["why"] for row in refused} == {Reason.CALLING_AE_NOT_ALLOWED}


def test_without_a_plain_port_only_tls_answers(tmp_path: Path, server: Pair, files: list[Path]) -> None:
    with listener(tmp_path / "data", **door(server, only=True)) as house:
        assert house.ports.dimse == 0
        assert storescu(house.ports.tls, files, *ANONYMOUS).returncode == 0


def test_a_key_that_does_not_belong_or_is_encrypted_is_named_and_nothing_is_asked_at_the_terminal(
    tmp_path: Path, server: Pair, scanner: Pair
) -> None:
    locked = tmp_path / "locked.key"
    argv = ["rsa", "-aes256", "-passout", "pass:secret", "-in", str(server.key), "-out", str(locked)]
    subprocess.run([program("openssl"), *argv], check=True, capture_output=True)
    for key in (locked, scanner.key, tmp_path / "absent"):
        with pytest.raises(Misconfigured) as caught:
            tls.load(settings.Tls(certificate=server.certificate, key=key))
        assert str(key) in caught.value.message
