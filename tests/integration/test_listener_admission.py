"""A listed sender is served at once, whatever unlisted addresses hold; caps hold for callers at once."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import Pair, authority, issue
from impatient_door import CONTEXTS, MR, image
from ledgers import House as LedgerHouse
from listener_house import House, listener
from peers import HOST, PATIENCE, until
from raw_peer import RawPeer, connected

from cauda.core import peers, schema
from cauda.core.domain import Reason
from cauda.core.peers import Verdict
from cauda.core.schema import PeerRule
from cauda.listener import dimse
from cauda.listener.guests import Guests
from cauda.listener.landing import Door

pytestmark = [pytest.mark.peers]
STRANGER = "127.0.0.2"
AT_ONCE_S = 5 * PATIENCE
HELD = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(authority(tmp_path_factory.mktemp("ca"), "hospital"), "cauda")


@contextmanager
def peer_of(house: House, *, secured: bool) -> Iterator[RawPeer]:
    """An honest sender on either port, from 127.0.0.1."""
    if not secured:
        with connected(house.ports.dimse) as peer:
            yield peer
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((HOST, house.ports.tls)) as sock, context.wrap_socket(sock) as wrapped:
        yield RawPeer(sock=wrapped)


@pytest.mark.usefixtures("data_path")
@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("rules", [[], [("CT1", "0.0.0.0/0")]], ids=["not on the list", "on it by title alone"])
def test_a_listed_sender_is_served_at_once_while_another_address_holds_all_it_can(
    tmp_path: Path, server: Pair, rules: list[tuple[str, str]], secured: bool
) -> None:
    listed = [{"aet": "*", "network": f"{HOST}/32"}, *({"aet": aet, "network": network} for aet, network in rules)]
    tls: dict[str, Any] = {"certificate": server.certificate, "key": server.key, "port": 0}
    with listener(tmp_path / "data", peers=listed, tls=tls) as house, ExitStack() as held:
        port = house.ports.tls if secured else house.ports.dimse
        for _ in range(HELD):
            held.enter_context(socket.create_connection((HOST, port), timeout=30, source_address=(STRANGER, 0)))
        for number in range(3):
            with peer_of(house, secured=secured) as peer:
                peer.sock.settimeout(AT_ONCE_S)
                assert peer.associate(CONTEXTS)
                uid = f"1.2.3.4.{number}"
                answer = peer.store(1, MR, uid, image(uid))
                assert answer is not None
                assert answer.status == 0x0000
                assert peer.release()
        reasons = {Reason.TOO_MANY_CONNECTIONS, Reason.TLS_TIMEOUT} if rules else {Reason.ADDRESS_NOT_ALLOWED}

        def refusals() -> int:
            rows = [row for row in house.rows(schema.refused_peer) if row["address"] == STRANGER]
            return sum(row["count"] for row in rows if row["why"] in reasons)

        until(lambda: refusals() >= HELD // 2, what="the connections refused counted")


@pytest.mark.usefixtures("data_path")
def test_an_unlisted_caller_that_states_its_title_is_told_why_and_listed_by_it(tmp_path: Path) -> None:
    with listener(tmp_path / "data", peers=[{"aet": "*", "network": f"{HOST}/32"}]) as house:
        with socket.create_connection((HOST, house.ports.dimse), 30, source_address=(STRANGER, 0)) as sock:
            assert not RawPeer(sock=sock).associate(CONTEXTS, calling="CT7")
        until(lambda: house.rows(schema.refused_peer), what="it is listed")
        row = house.row(schema.refused_peer)
        assert (row["aet"], row["address"], row["why"]) == ("CT7", STRANGER, Reason.CALLING_AE_NOT_ALLOWED)


@pytest.mark.usefixtures("data_path")
def test_who_asks_for_no_association_in_time_is_listed_and_a_probe_is_not(tmp_path: Path) -> None:
    """A load balancer's probe connects and closes."""
    limits = {"min_free_bytes": 0, "drain_s": 1, "acse_timeout_s": 1}
    with listener(tmp_path / "data", limits=limits) as house:
        with connected(house.ports.dimse):
            pass
        with socket.create_connection((HOST, house.ports.dimse), 30, source_address=(STRANGER, 0)):
            until(lambda: house.rows(schema.refused_peer), what="it is listed")
        rows = {(row["aet"], row["address"], row["why"]) for row in house.rows(schema.refused_peer)}
        assert rows == {("", STRANGER, Reason.ASSOCIATION_TIMEOUT)}


@pytest.mark.usefixtures("data_path")
def test_no_number_of_callers_at_once_gets_past_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are judged before the first association is established."""
    callers, most = 12, 3
    judged, judge, established = list[object](), dimse._judge, dimse._established

    def count(event: Any, where: Door) -> None:
        judge(event, where)
        judged.append(event)

    def wait(event: Any, where: Door) -> None:
        until(lambda: len(judged) >= callers, what="all of them judged")
        established(event, where)

    monkeypatch.setattr(dimse, "_judge", count)
    monkeypatch.setattr(dimse, "_established", wait)
    limits = {"min_free_bytes": 0, "max_associations_per_peer": most}
    with listener(tmp_path / "data", limits=limits) as house, ExitStack() as held:
        peers_ = [held.enter_context(connected(house.ports.dimse)) for _ in range(callers)]
        start, accepted = threading.Barrier(callers), list[bool]()

        def call(peer: RawPeer) -> None:
            start.wait(60)
            accepted.append(peer.associate(CONTEXTS))

        threads = [threading.Thread(target=call, args=(peer,)) for peer in peers_]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        assert sorted(accepted) == [False] * (callers - most) + [True] * most
        for peer in peers_:
            peer.sock.close()
        until(lambda: _served(house), what="the places are free again")


def _served(house: House, *, secured: bool = False) -> bool:
    with suppress(OSError), peer_of(house, secured=secured) as peer:
        return peer.associate(CONTEXTS) and peer.release()
    return False


@pytest.mark.usefixtures("data_path")
@pytest.mark.parametrize("secured", [False, True])
def test_a_place_is_free_again_when_its_connection_is_over(tmp_path: Path, server: Pair, secured: bool) -> None:
    """One address has four places; more than that call one after the other, and some hang up without a word."""
    tls: dict[str, Any] = {"certificate": server.certificate, "key": server.key, "port": 0}
    limits = {"min_free_bytes": 0, "drain_s": 1, "max_associations": 2}
    with listener(tmp_path / "data", limits=limits, tls=tls) as house:
        port = house.ports.tls if secured else house.ports.dimse
        for _ in range(6):
            with connected(port):
                pass
            until(lambda: _served(house, secured=secured), what="the next one served")


def test_of_one_silent_address_only_so_many_handshakes_are_under_way(tmp_path: Path, server: Pair) -> None:
    tls: dict[str, Any] = {"certificate": server.certificate, "key": server.key, "port": 0, "handshake_timeout_s": 60}
    limits = {"min_free_bytes": 0, "drain_s": 1, "max_associations_per_peer": 3}
    with listener(tmp_path / "data", limits=limits, tls=tls) as house, ExitStack() as held:
        silent = [
            held.enter_context(
                socket.create_connection((HOST, house.ports.tls), timeout=30, source_address=(STRANGER, 0))
            )
            for _ in range(10)
        ]
        until(lambda: sum(_closed(sock) for sock in silent) == 7, what="those beyond three closed")
        until(lambda: house.rows(schema.refused_peer), what="it is listed")
        row = house.row(schema.refused_peer)
        assert (row["address"], row["why"]) == (STRANGER, Reason.TOO_MANY_CONNECTIONS)
        with peer_of(house, secured=True) as peer:
            assert peer.associate(CONTEXTS)


def _closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_learning_ends_by_the_listeners_own_clock_while_the_ledger_is_away(house: LedgerHouse) -> None:
    now = 1000.0
    guests = Guests([], clock=lambda: now)
    with house.ledger.write() as conn:
        peers.enter(house.ledger, conn, PeerRule.LEARN, "*", "10.1.0.0/16", for_s=60)
    guests.refresh(house.ledger)
    assert guests.verdict("CT1", "10.1.0.7") is Verdict.LEARN
    now += 61  # nobody refreshes: the ledger is away
    assert guests.verdict("CT1", "10.1.0.7") is Verdict.OUT
