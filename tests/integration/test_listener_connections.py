"""Connections that are no conversation: who vanishes, reads nothing, says nothing, or comes with many others."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import needs
import pytest
from certificates import authority
from impatient_door import (
    CONTEXTS,
    MIB,
    MR,
    all_gone,
    associated,
    deaf,
    descriptors,
    door,
    honest,
    image,
    in_a_message,
    resident_bytes,
    silent,
)
from listener_house import listener
from peers import HOST, until
from raw_peer import (
    RawPeer,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    connected,
    fragment,
)  # fmt: skip

from cauda.core import schema
from cauda.listener import stock, tls

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("data_path")]
_LISTENS = "0A"  # a state in /proc/net/tcp
_TCP_REPAIR = 19  # Linux; Python has no name for it


ASKED = {
    "echoes": fragment(3, c_echo_rq(), command=True, last=True),
    "images": fragment(1, c_store_rq(MR, "1.2.3.4.5"), command=True, last=True)
    + fragment(1, image("1.2.3.4.5"), command=False, last=True),
}


@pytest.mark.parametrize("asked", ASKED)
def test_who_takes_no_answers_is_ended_and_holds_up_nobody(tmp_path: Path, asked: str) -> None:
    """It asks and asks and reads nothing: its window closes, the door's buffer fills, and sending has to end."""
    with door(tmp_path) as house, socket.socket() as sock:
        threads = threading.active_count()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # small segments: the kernel gives small buffers
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect((HOST, house.ports.dimse))
        peer = RawPeer(sock=sock)
        associated(peer)
        # The kernel may deliver no reset where both windows are closed. That no thread is left shows who was ended.
        with pytest.raises((ConnectionError, TimeoutError)):
            deaf(peer, ASKED[asked])
        honest(house, "1.2.3.4.6")
        until(lambda: threading.active_count() <= threads, what="no thread left")


HALF_OPEN: dict[str, Callable[[RawPeer], None]] = {
    "before the association": lambda _: None,
    "in the association request": lambda peer: peer.send(associate_rq(CONTEXTS)[:50]),
    "between messages": associated,
    "in a message": in_a_message,
}


@pytest.mark.parametrize("stage", HALF_OPEN)
def test_who_vanishes_without_a_word_is_forgotten(tmp_path: Path, stage: str) -> None:
    """No FIN and no RST, as when a cable is pulled: a half-open connection (RFC 9293 3.5.1)."""
    with door(tmp_path) as house:
        threads = threading.active_count()
        with connected(house.ports.dimse) as peer:
            HALF_OPEN[stage](peer)
            until(lambda: _connections(house.ports.dimse) == 1, what="it is let in")
            try:
                peer.sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)  # closed now, the kernel says nothing
            except PermissionError:
                needs.absent("TCP_REPAIR needs CAP_NET_ADMIN")
        honest(house, "1.2.3.4.6")
        until(lambda: threading.active_count() <= threads, what="no thread left")
        until(lambda: _connections(house.ports.dimse) == 0, what="no socket left")


def _connections(port: int) -> int:
    """How many sockets of ours are ends of connections to a port of ours, by the kernel's table (proc(5))."""
    held = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            held.add(str(one.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] != _LISTENS and row[9] in held for row in rows)


def waiting(server: socket.socket) -> int:
    """How many connections the kernel holds that nobody has accepted: tcpi_unacked of a socket that listens."""
    return int.from_bytes(server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28], sys.byteorder)


@pytest.mark.parametrize("secure", [False, True])
def test_a_burst_of_callers_waits_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    """While the door is busy with one of them, the kernel holds the others; those it does not call again later."""
    pair = authority(tmp_path / "ca", "hospital")
    waits: list[socket.socket] = []
    go_on = threading.Event()
    kind = tls.TlsServer if secure else stock.PlainServer

    def slow(server: Any, *_: object) -> bool:
        waits.append(server.socket)
        return not go_on.wait(300)  # nobody is served after it

    monkeypatch.setattr(kind, "verify_request", slow)
    given = {"certificate": pair.certificate, "key": pair.key, "port": 0}
    with listener(tmp_path / "data", tls=given) as house, ExitStack() as held:
        held.callback(go_on.set)
        port = house.ports.tls if secure else house.ports.dimse
        held.enter_context(connected(port))
        until(lambda: waits, what="the first one let in")
        callers = [held.enter_context(socket.socket()) for _ in range(100)]
        for one in callers:
            one.setblocking(False)
            one.connect_ex((HOST, port))
        until(lambda: waiting(waits[0]) == len(callers), what="all of them waiting")


def _objects() -> int:
    """How many the collector knows. `gc.get_objects` holds them, and a tuple that a thread is making fails by it."""
    gc.freeze()
    count = gc.get_freeze_count()
    gc.unfreeze()
    return count


def test_a_load_balancers_probes_cost_nothing_that_stays(tmp_path: Path) -> None:
    """Objects tell a leak of a few per probe; memory, of which the allocator keeps some, one of a buffer.

    Objects come and go by some hundreds without any caller: the ledger's cursors, which sqlite3 remembers up to 200.
    """
    rounds, probes = 5, 100
    with door(tmp_path) as house:
        honest(house, "1.2.3.4.98")
        house.until_filed()
        threads = threading.active_count()

        def probed() -> tuple[int, int, int]:
            for number in range(probes):
                with connected(house.ports.dimse):
                    pass
                if number % 20 == 19:  # what hundreds at once take the allocator keeps, a tide and no leak
                    all_gone(house, threads)
            gc.collect()
            return descriptors(), _objects(), resident_bytes()

        first, last = ([probed() for _ in range(rounds)] for _ in range(2))
        files, objects, resident = zip(*first, strict=True)
        files_later, objects_later, resident_later = zip(*last, strict=True)
        assert min(files_later) <= max(files)
        assert min(objects_later) - min(objects) < rounds * probes
        assert min(resident_later) - max(resident) < 16 * MIB
        assert house.rows(schema.refused_peer) == []


def test_silent_connections_do_not_take_the_places_of_senders(tmp_path: Path) -> None:
    with door(tmp_path, max_associations=10, acse_timeout_s=8, network_timeout_s=8) as house:
        with ExitStack() as held:
            peers = [held.enter_context(connected(house.ports.dimse)) for _ in range(15)]
            honest(house, "1.2.3.4.7")
            peers += [held.enter_context(connected(house.ports.dimse)) for _ in range(15)]
            assert all(silent(peer) for peer in peers[20:]), "no more are held than half of four times as many"
        until(lambda: threading.active_count() < 15, what="they are gone")
