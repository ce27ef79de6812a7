"""Who a caller over HTTP is: no header is believed that nobody vouches for, and no web site's name opens anything.

The proxy's part is played by the test: what a proxy adds to a request, added to one from this machine.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import builders
import httpx
import pytest
from listener_house import House, listener
from logged import logged
from peers import HOST, until

from cauda.core import passwords, schema, settings
from cauda.core.errors import Misconfigured

PASSWORD = "correct horse battery"
USERS = [{"name": "it", "hash": passwords.hashed(PASSWORD)}]
TOKEN = "a-token-of-enough-characters"
STORE = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz'}
FORWARDING = [
    {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-Proto": "https"}, {"X-Forwarded-Host": "localhost"},
    {"X-Forwarded-Whatever": ""}, {"Forwarded": "for=127.0.0.1"}, {"Forwarded": ""}, {"X-Real-IP": "127.0.0.1"},
    {"Via": "1.1 proxy"},
]  # fmt: skip


def body_of(content: bytes) -> bytes:
    return b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--xyz--\r\n"


def client(house: House, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=f"http://{HOST}:{house.ports.http}", timeout=30, trust_env=False, **options)


def image(seed: int) -> bytes:
    return body_of(builders.part10(builders.mr_study(seed)[0]))


@contextmanager
def heard(data: Path, **overrides: Any) -> Iterator[tuple[House, httpx.Client, StringIO]]:
    """A listener, a client, and what the listener logs."""
    stream = StringIO()
    with logged(stream), listener(data, **overrides) as house, client(house) as http:
        yield house, http, stream


def lines(stream: StringIO, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines() if line.startswith("{")]
    return [one for one in found if one["event"] == event]


@pytest.mark.parametrize("trusted", [[], [HOST]], ids=["nobody", "trusted"])
def test_what_was_forwarded_is_never_this_machine(tmp_path: Path, trusted: list[str]) -> None:
    """Neither pages without a login nor STOW without a token, whether the proxy is trusted or not."""
    with heard(tmp_path / "data", http={"port": 0, "trusted_proxies": trusted}) as (house, http, _):
        assert http.get("/").status_code == 200
        for said in FORWARDING:
            assert http.get("/", headers=said).status_code == 403, said
            assert http.post("/studies/1.2/hold", headers=said).status_code == 403, said
            assert http.post("/dicom-web/studies", content=image(1), headers=STORE | said).status_code == 403, said
        assert not house.rows(schema.study)
        assert http.post("/dicom-web/studies", content=image(1), headers=STORE).status_code == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/readyz", "/dicom-web/studies"])
@pytest.mark.parametrize(
    "foreign",
    [{"Host": "evil.example"}, {"Host": "evil.example:8080"}, {"Host": "127.0.0.1.evil.example"},
     {"Host": "localhost@evil.example"}, {"Host": "10.1.2.3"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
     {"Origin": "http://localhost.evil.example"}],
    ids=str,
)  # fmt: skip
def test_a_web_sites_name_that_points_here_opens_nothing(at: House, path: str, foreign: dict[str, str]) -> None:
    """DNS rebinding: the browser of somebody at this machine asks, under the site's name."""
    with client(at) as http:
        method, content = ("POST", image(2)) if path.startswith("/dicom") else ("GET", None)
        assert http.request(method, path, content=content, headers=STORE | foreign).status_code == 403
        for own in ({"Host": "localhost"}, {"Host": "127.0.0.1:8080"}, {"Host": "[::1]:80"}, {"Host": "LOCALHOST"},
                    {"Origin": "http://localhost:8080"}):  # fmt: skip
            assert http.request(method, path, content=content, headers=STORE | own).status_code in {200, 503}, own


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with listener(tmp_path_factory.mktemp("callers") / "data") as house:
        yield house


def test_beyond_loopback_the_probes_answer_to_addresses_and_known_names(tmp_path: Path) -> None:
    given = {"host": "0.0.0.0", "port": 0, "names": ["Cauda.Hospital.example"]}  # noqa: S104  what it is about
    with listener(tmp_path / "data", http=given) as house, client(house) as http:
        for path in ("/metrics", "/readyz"):
            for known in ("10.1.2.3:8080", "[fd00::7]", "cauda.hospital.example", socket.gethostname(), "localhost"):
                assert http.get(path, headers={"Host": known}).status_code in {200, 503}, known
            assert http.get(path, headers={"Host": "evil.example"}).status_code == 403
            other = {"Host": "10.1.2.3", "Origin": "http://evil.example"}
            assert http.get(path, headers=other).status_code == 403
        assert http.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


ADDRESSES: list[tuple[dict[str, str], str]] = [
    ({"X-Forwarded-For": "10.1.2.3"}, "10.1.2.3"),
    ({"X-Forwarded-For": "6.6.6.6, 10.1.2.3"}, "10.1.2.3"),
    ({"X-Forwarded-For": "6.6.6.6, 10.1.2.3, 127.0.0.1"}, "10.1.2.3"),
    ({"X-Forwarded-For": "10.1.2.3:51111"}, "10.1.2.3"),
    ({"X-Forwarded-For": "fd00::17"}, "fd00::17"),
    ({"X-Forwarded-For": "[fd00::17]:443"}, "fd00::17"),
    ({"X-Forwarded-For": "::ffff:10.1.2.3"}, "10.1.2.3"),
    ({"Forwarded": "for=10.1.2.3;proto=https"}, "10.1.2.3"),
    ({"Forwarded": 'for="[fd00::17]:4711"'}, "fd00::17"),
    ({"Forwarded": 'for=6.6.6.6;by="a,b", For="10.1.2.3:80"'}, "10.1.2.3"),
    ({"X-Forwarded-For": "10.1.2.3", "Forwarded": "for=10.1.2.3"}, "10.1.2.3"),
    ({"X-Forwarded-For": "10.1.2.3", "Forwarded": "for=10.9.9.9"}, ""),
    ({"X-Forwarded-For": "10.1.2.3, garbage"}, ""),
    ({"X-Forwarded-For": "10.1.2.3, 0x7f000001"}, ""),
    ({"X-Forwarded-For": ""}, ""),
    ({"Forwarded": "for=_hidden"}, ""),
    ({"Forwarded": 'for="10.1.2.3'}, ""),
    ({"X-Real-IP": "10.1.2.3"}, ""),
]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_trusted_proxys_word_is_the_address_in_the_log_and_anothers_is_not(tmp_path: Path, *, trusted: bool) -> None:
    """The last hop that is no trusted proxy; what is no address is nobody's, and an untrusted word is not read."""
    given = {"port": 0, "users": USERS, "trusted_proxies": ["127.0.0.1" if trusted else "10.8.0.0/16"]}
    with heard(tmp_path / "data", http=given) as (_, http, stream):
        page = http.get("/login").text
        form = {"token": page.partition('name="token" value="')[2].partition('"')[0], "name": "it", "password": "x"}
        for said, _believed in ADDRESSES:
            assert http.post("/login", data=form, headers=said).status_code in {403, 429}
        heard_of = [
            json.loads(line)["address"] for line in stream.getvalue().splitlines() if '"event": "login_' in line
        ]
    assert heard_of == [believed if trusted else HOST for _, believed in ADDRESSES]


def test_a_failed_login_leaves_no_name_in_the_log(tmp_path: Path) -> None:
    """A password is typed there at times."""
    with heard(tmp_path / "data", http={"port": 0, "users": USERS}) as (_, http, stream):
        page = http.get("/login").text
        form = {"token": page.partition('name="token" value="')[2].partition('"')[0]}
        http.post("/login", data=form | {"name": "hunter2-typed-here", "password": "also-secret-77"})
        assert lines(stream, "login_failed")
        assert "hunter2" not in stream.getvalue()
        assert "also-secret" not in stream.getvalue()


def test_the_list_of_peers_is_asked_about_the_address_that_a_trusted_proxy_names(tmp_path: Path) -> None:
    given: dict[str, Any] = {"http": {"port": 0, "trusted_proxies": [HOST]}, "dicomweb": {"token": TOKEN}}
    peers = ({"network": "10.1.0.0/16"},)
    shown = STORE | {"Authorization": f"Bearer {TOKEN}"}
    with heard(tmp_path / "data", peers=peers, **given) as (house, http, _):
        for address, status in (("10.1.2.3", 200), ("10.2.0.1", 403), ("127.0.0.1", 403), ("junk", 403)):
            headers = shown | {"X-Forwarded-For": address}
            assert http.post("/dicom-web/studies", content=image(3), headers=headers).status_code == status, address
        refused = until(lambda: len(house.rows(schema.refused_peer)) == 3 and house.rows(schema.refused_peer))
        assert {row["address"] for row in refused} == {"10.2.0.1", "127.0.0.1", ""}


def test_a_token_through_a_proxy_that_is_not_named_is_not_taken_as_this_machines(tmp_path: Path) -> None:
    """The list lets this machine's senders in, and behind the proxy is anybody."""
    shown = STORE | {"Authorization": f"Bearer {TOKEN}"}
    with heard(tmp_path / "data", dicomweb={"token": TOKEN}) as (_, http, _):
        answer = http.post("/dicom-web/studies", content=image(4), headers=shown | {"X-Forwarded-For": "10.1.2.3"})
        assert answer.status_code == 403
        assert "http.trusted_proxies" in answer.text
        assert http.post("/dicom-web/studies", content=image(4), headers=shown).status_code == 200


def test_who_guesses_tokens_has_to_wait_and_is_logged_and_others_have_not(tmp_path: Path) -> None:
    given: dict[str, Any] = {"http": {"port": 0, "trusted_proxies": [HOST]}, "dicomweb": {"token": TOKEN}}
    with heard(tmp_path / "data", peers=({"network": "::/0"}, {"network": "0.0.0.0/0"}), **given) as (_, http, stream):

        def send(token: str | None, address: str) -> httpx.Response:
            headers = STORE | {"X-Forwarded-For": address}
            headers |= {"Authorization": f"Bearer {token}"} if token is not None else {}
            return http.post("/dicom-web/studies", content=image(5), headers=headers)

        assert [send(None, "10.1.2.3").status_code for _ in range(9)] == [401] * 9  # who is asked has not guessed
        statuses = [send(f"guess-{turn}", "10.1.2.3").status_code for turn in range(8)]
        assert statuses == [401] * 5 + [429] * 3
        refused = send(TOKEN, "10.1.2.3")
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (429, True)
        assert send(TOKEN, "10.1.2.4").status_code == 200
        # of IPv6 a caller has a whole network
        assert [send("wrong", f"fd00::{turn}").status_code for turn in range(1, 8)] == [401] * 5 + [429] * 2
        assert len(lines(stream, "token_wrong")) == 10
        assert {line["address"] for line in lines(stream, "token_throttled")} >= {"10.1.2.3"}
        assert not any(word in stream.getvalue() for word in ("guess-", TOKEN))


@pytest.mark.parametrize("token", ["", "x", "nineteen-characters"])
def test_a_short_token_is_refused_with_what_to_do(token: str) -> None:
    with pytest.raises(Misconfigured, match=r"at least 20 characters.*openssl rand") as refused:
        settings.load(environ={}, overrides={"dicomweb": {"token": token}})
    assert token not in str(refused.value) or not token.strip("x")


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_nobody_trusts_everybody(everybody: str) -> None:
    with pytest.raises(Misconfigured, match="name the proxy"):
        settings.load(environ={}, overrides={"http": {"trusted_proxies": [everybody]}})


@pytest.mark.parametrize(
    "path",
    ["/dicom-web/studies/", "//dicom-web//studies", "/dicom-web/studies/{study}/", "/dicom-web//studies/{study}"],
)
def test_slashes_too_many_are_served_and_never_redirected(tmp_path: Path, path: str) -> None:
    """A redirect of a POST is lost on many clients, and may name http:// where a proxy speaks TLS."""
    dataset = builders.mr_study(6)[0]
    with heard(tmp_path / "data") as (_, http, _):
        where = f"{http.base_url}".rstrip("/") + path.format(study=dataset.StudyInstanceUID)
        answer = http.post(where, content=body_of(builders.part10(dataset)), headers=STORE)
        assert (answer.status_code, "location" in answer.headers) == (200, False)
        assert http.get("/studies/", follow_redirects=False).status_code in {404, 405}
        assert http.get(f"/studies/{dataset.StudyInstanceUID}/", follow_redirects=False).status_code != 307
