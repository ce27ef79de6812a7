"""Conversations that nobody meant: PDUs, command sets and data sets with anything in them, or cut, or out of order.

The door must end or answer each, and let an honest sender in after it; memory, threads and files stay what they were,
and the log of each is a line or two.
CI draws the same ones each time; `make soak` draws 100,000 new ones.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import listener_house
import pytest
from certificates import authority
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from impatient_door import CONTEXTS, IMPATIENT, MIB, MR, all_gone, descriptors, honest, image, resident_bytes
from listener_house import House, listener
from logged import logged
from peers import until
from raw_peer import (
    P_DATA,
    RawPeer,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    command_set,
    connected,
    element,
    fragment,
    pdu,
)

pytestmark = [
    pytest.mark.peers,
    pytest.mark.usefixtures("data_path"),
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),  # a thread that died
]

# Parts of an honest conversation, to be spoilt.
_OPENING = associate_rq(CONTEXTS)
_HONEST = (
    _OPENING,
    fragment(1, c_store_rq(MR, "1.2.3.4.5"), command=True, last=True),
    fragment(1, image("1.2.3.4.5"), command=False, last=True),
    fragment(1, image("1.2.3.4.5", PixelData=bytes(90_000)), command=False, last=True),  # received where it belongs
    fragment(3, c_echo_rq(), command=True, last=True),
    pdu(0x05, bytes(4)),
    pdu(0x07, bytes(4)),
)
_NUMBERS = st.sampled_from([0x0000, 0x0002, 0x0003, 0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x1000, 0x1030])
_FIELDS = st.sampled_from([b"\x01\x00", b"\x30\x00", b"\x20\x00", b"\x01\x80", b"\xff\x0f", b"\x30\x01", b"\x00\x01"])
_VALUES = st.one_of(
    _FIELDS, st.binary(max_size=70), st.sampled_from([MR.encode(), b"1.2.3.4.5\0", b"1" * 65, b"../.."])
)
_COMMANDS = st.lists(st.builds(element, _NUMBERS, _VALUES), max_size=8).map(lambda some: command_set(*some))
_FRAGMENTS = st.builds(
    fragment,
    st.sampled_from([1, 3, 5, 2, 255]),
    st.one_of(_COMMANDS, st.binary(max_size=300)),
    command=st.booleans(),
    last=st.booleans(),
)
_PDUS = st.builds(
    lambda kind, body, length: pdu(kind, body, length=length),
    st.sampled_from([1, 2, 3, P_DATA, 5, 6, 7, 8, 0, 255]),
    st.binary(max_size=300),
    st.one_of(st.none(), st.sampled_from([0, 1, 5, 0x7FFFFFFF, 0xFFFFFFFF])),
)


@st.composite
def _spoilt(draw: st.DrawFn) -> bytes:
    """An honest part with some bytes changed, cut or doubled."""
    content = bytearray(draw(st.sampled_from(_HONEST)))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)):
        content[place % len(content)] = byte
    keep = draw(st.one_of(st.none(), st.integers(0, 200), st.integers(0, 90_000)))
    return bytes(content if keep is None else content[:keep])


CONVERSATIONS = st.tuples(
    st.one_of(st.just(_OPENING), st.just(_OPENING), _spoilt(), st.binary(max_size=100)),
    st.lists(st.one_of(_spoilt(), _FRAGMENTS, _PDUS, st.sampled_from(_HONEST)), max_size=5),
).map(lambda parts: b"".join((parts[0], *parts[1])))


@contextmanager
def _peer(house: House, *, tls: bool) -> Iterator[RawPeer]:
    with connected(house.ports.tls if tls else house.ports.dimse) as plain:
        if not tls:
            yield plain
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain.sock) as sock:
            yield RawPeer(sock=sock)


def converse(house: House, said: bytes, *, tls: bool) -> None:
    """Say it all and no more, then listen until the door has ended the connection."""
    with suppress(OSError), _peer(house, tls=tls) as peer:
        peer.send(said)
        peer.sock.shutdown(socket.SHUT_WR)
        while peer.sock.recv(1 << 16):
            pass


def _fuzz(tmp_path: Path, examples: int, drawn: Sequence[int | None], limits: Mapping[str, int] = IMPATIENT) -> None:
    """So many conversations of each draw, every other one over TLS; what the process holds is printed as it goes."""
    pair = authority(tmp_path / "ca", "hospital")
    tls = {"certificate": pair.certificate, "key": pair.key, "port": 0}
    said_so_far = itertools.count(1)
    done = 0
    book = tmp_path / "log"

    with book.open("w") as log, logged(log), listener(tmp_path / "data", limits=limits, tls=tls) as house:

        def told(when: str) -> tuple[int, int, int]:
            until(lambda: threading.active_count() <= threads, what="no thread left")
            held = resident_bytes(), threading.active_count(), descriptors()
            mib, now = held[0] / MIB, f"{held[1]} threads, {held[2]} descriptors"
            print(f"{listener_house.chosen}: {when}: {done} conversations, RSS {mib:.0f} MiB, {now}", flush=True)
            return held

        def go(said: bytes) -> None:
            nonlocal done
            done = next(said_so_far)
            converse(house, said, tls=done % 2 == 0)
            if done % 50 == 0:
                honest(house, "1.2.3.4.99")

        honest(house, "1.2.3.4.98")
        converse(house, _OPENING, tls=True)
        until(lambda: threading.active_count() < 40, what="the first conversations over")
        threads = threading.active_count()
        memory, _, files = told("start")
        for number, one in enumerate(drawn, 1):  # a draw of its own each: hypothesis remembers what it has drawn
            conversations = settings(
                max_examples=examples, derandomize=one is None, database=None, deadline=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )(given(said=CONVERSATIONS)(go))  # fmt: skip
            (conversations if one is None else seed(one)(conversations))()
            if number % max(len(drawn) // 20, 1) == 0:
                later, _, files_later = told(f"{number} of {len(drawn)} draws, the last by seed {one}")
                assert later - memory < 96 * MIB
                assert files_later <= files + 4
        honest(house, "1.2.3.4.99")
        house.until_filed()
        until(lambda: not house.open_parts(), what="nothing half received left behind")
    assert done >= examples * len(drawn)
    _few_words(book, done)


def _few_words(book: Path, conversations: int) -> None:
    """A conversation is a line when it ends and, if somebody is to blame, one before it; no stack, no long value."""
    with book.open() as lines:
        levels = Counter[str]()
        for line in lines:
            said = json.loads(line)
            levels[said["level"]] += 1
            assert said["level"] != "error", line
            assert "stack" not in said, line
            assert len(line) < 500, line
    print(f"{listener_house.chosen}: log lines of {conversations} conversations: {dict(levels)}", flush=True)
    honest_ones = conversations // 50 + 9
    assert levels["warning"] <= conversations
    assert levels["info"] <= conversations + honest_ones


def test_whatever_is_said_the_door_stays_open(tmp_path: Path) -> None:
    _fuzz(tmp_path, 300, [None])


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_a_hundred_thousand_conversations_leave_the_door_open(tmp_path: Path) -> None:
    """Half of them on each data path, and half of those over TLS."""
    first = int(os.environ.get("CAUDA_FUZZ_SEED", "20261125"))
    draws = int(os.environ.get("CAUDA_FUZZ_DRAWS", "100"))  # of 500 conversations, on each path
    # beside other work an honest sender may be kept waiting for longer than CI's door has patience
    patient = IMPATIENT | {"acse_timeout_s": 10, "dimse_timeout_s": 10, "network_timeout_s": 20}
    _fuzz(tmp_path, 500, range(first, first + draws), patient)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_days_load_balancer_probes_leave_nothing(tmp_path: Path) -> None:
    """One each ten seconds of a day, at most twenty at a time: connected, nothing said, closed; some by a reset.

    As fast as they go they may all wait until the door runs again, and what it takes for hundreds of threads at once
    the allocator keeps: a tide that tells nothing of a day.
    """
    with (tmp_path / "log").open("w") as log, logged(log), listener(tmp_path / "data", limits=IMPATIENT) as house:
        honest(house, "1.2.3.4.98")
        until(lambda: threading.active_count() < 40, what="the first sender gone")
        threads = threading.active_count()
        files, resident = descriptors(), []
        for number in range(8641):
            if number % 20 == 0:
                all_gone(house, threads)
            if number % 2160 == 0:
                until(lambda: descriptors() <= files + 2, what="no file left open")  # two for the ledger's pool
                resident.append(resident_bytes())
                mib, now = resident[-1] / MIB, f"{threading.active_count()} threads, {descriptors()} descriptors"
                print(f"{listener_house.chosen}: {number} probes, RSS {mib:.1f} MiB, {now}", flush=True)
            with connected(house.ports.dimse) as peer:
                if number % 3 == 0:
                    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        honest(house, "1.2.3.4.99")
    assert resident[-1] - resident[1] < 16 * MIB
