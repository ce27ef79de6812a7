"""Hostile and clumsy peers: whatever one does, it is ended or answered, and an honest sender gets through at once."""

from __future__ import annotations

import io
import itertools
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from impatient_door import (
    CONTEXTS,
    EXPLICIT,
    MIB,
    MR,
    associated,
    door,
    honest,
    image,
    in_a_message,
    resident_bytes,
    silent,
)
from logged import logged
from peers import until
from raw_peer import (
    ABORT,
    ASSOCIATE_AC,
    P_DATA,
    VERIFICATION,
    RawPeer,
    associate_rq,
    c_store_rq,
    command_set,
    connected,
    element,
    fragment,
    item,
    pdu,
)  # fmt: skip

from cauda.core import schema
from cauda.listener import dimse
from cauda.listener.landing import Door

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("data_path")]


def drip(peer: RawPeer, content: bytes) -> bool:
    """A byte at a time for ever, until the door has enough; whether it ended the connection."""
    peer.sock.settimeout(0.05)
    deadline = time.monotonic() + 60
    for byte in itertools.cycle(content):
        if time.monotonic() > deadline:
            return False
        try:
            peer.send(bytes([byte]))
            if not peer.sock.recv(1 << 16):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


LORIS: dict[str, Callable[[RawPeer], bool]] = {
    "silent before the association": silent,
    "drips its A-ASSOCIATE": lambda peer: drip(peer, associate_rq(CONTEXTS)),
    "stops within its A-ASSOCIATE": lambda peer: (peer.send(associate_rq(CONTEXTS)[:50]), silent(peer))[1],
    "silent in an association": lambda peer: (associated(peer), silent(peer))[1],
    "stops within the header of a PDU": lambda peer: (associated(peer), peer.send(b"\x04\x00\x00"), silent(peer))[2],
    "drips a PDU": lambda peer: (associated(peer), drip(peer, fragment(1, bytes(16000), command=True, last=False)))[1],
    "stops within a command set": lambda peer: (
        associated(peer), peer.send(fragment(1, c_store_rq(MR, "1.2.3.4.5")[:40], command=True, last=False)),
        silent(peer)
    )[2],
    "drips small PDUs of a command set": lambda peer: (
        associated(peer), drip(peer, fragment(1, b"a", command=True, last=False))
    )[1],
    "stops within a PDU": lambda peer: (
        in_a_message(peer), peer.send(fragment(1, bytes(9000), command=False, last=False)[:5000]), silent(peer)
    )[2],
    "stops within a large PDU": lambda peer: (
        in_a_message(peer), peer.send(fragment(1, bytes(100_000), command=False, last=False)[:80_000]), silent(peer)
    )[2],
    "drips a large PDU": lambda peer: (
        in_a_message(peer), peer.send(fragment(1, bytes(100_000), command=False, last=False)[:20]), drip(peer, bytes(1))
    )[2],
    "stops within a PDU that it began before its answer": lambda peer: (
        in_a_message(peer), peer.send(fragment(1, image("1.2.3.4.5"), command=False, last=True) + b"\4\0\0"),
        silent(peer)
    )[2],
    "stops between the PDUs of a message": lambda peer: (in_a_message(peer), silent(peer))[1],
    "drips small PDUs of a message": lambda peer: (
        in_a_message(peer), drip(peer, fragment(1, b"a", command=False, last=False))
    )[1],
    "stays after its release": lambda peer: (associated(peer), peer.release(), silent(peer))[2],
    "stays after its abort": lambda peer: (associated(peer), peer.send(pdu(ABORT, bytes(4))), silent(peer))[2],
    "drips after its release": lambda peer: (associated(peer), peer.release(), drip(peer, bytes(1)))[2],
}  # fmt: skip


@pytest.mark.parametrize("stage", LORIS)
def test_who_is_slow_is_ended_at_every_stage_and_holds_up_nobody(tmp_path: Path, stage: str) -> None:
    with door(tmp_path) as house:
        threads = threading.active_count()
        with connected(house.ports.dimse) as slow, connected(house.ports.dimse) as second:
            ended: list[bool] = []
            both = [threading.Thread(target=lambda p=p: ended.append(LORIS[stage](p))) for p in (slow, second)]
            for one in both:
                one.start()
            honest(house, "1.2.3.4.6")
            for one in both:
                one.join(90)
            assert ended == [True, True]
        until(lambda: threading.active_count() <= threads, what="no thread left")


@pytest.mark.parametrize("kind", [0x01, P_DATA, 0x05, 0x07, 0x08, 0xFF])
@pytest.mark.parametrize("within", [False, True])
def test_a_length_of_gigabytes_is_not_believed(tmp_path: Path, kind: int, within: bool) -> None:
    with door(tmp_path) as house:
        before = resident_bytes()
        with connected(house.ports.dimse) as peer:
            if within:
                associated(peer)
            peer.send(pdu(kind, bytes(100), length=0xFFFFFFF0))
            assert silent(peer)
        assert resident_bytes() - before < 64 * MIB


def test_a_deflate_bomb_is_refused_without_being_inflated(tmp_path: Path) -> None:
    packed = zlib.compressobj(wbits=-15)
    bomb = packed.compress(image("1.2.3.4.5")) + b"".join(packed.compress(bytes(MIB)) for _ in range(1024))
    bomb += packed.flush()
    waits = {"network_timeout_s": 30, "dimse_timeout_s": 30}  # inflating up to the limit takes a busy machine seconds
    with door(tmp_path, max_object_bytes=8 * MIB, **waits) as house, connected(house.ports.dimse) as peer:
        before = resident_bytes()
        associated(peer)
        answer = peer.store(5, MR, "1.2.3.4.5", bomb)
        assert answer is not None
        assert (answer.status, answer.comment) == (0xA700, "inflates to more than 8 MiB (limits.max_inflated_bytes)")
        assert resident_bytes() - before < 64 * MIB


def nested(depth: int) -> bytes:
    """An image with sequences within sequences, of undefined length, closed or not."""
    level = b"\x08\x00\x11\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    return image("1.2.3.4.5") + level * depth + close * depth


def test_sequences_nested_without_end_are_answered(tmp_path: Path) -> None:
    with door(tmp_path) as house, connected(house.ports.dimse) as peer:
        associated(peer)
        for depth in (100, 100_000):
            answer = peer.store(1, MR, "1.2.3.4.5", nested(depth))
            assert answer is not None
            assert answer.status == 0xA700


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2/../3", "1" * 65, "", "1.2\x00.3", "%2e%2e", "1.2.3\n", "é"])
def test_a_uid_that_is_none_is_answered_and_never_becomes_a_path(tmp_path: Path, uid: str) -> None:
    with door(tmp_path) as house:
        before = sorted(path.name for path in tmp_path.iterdir())
        with connected(house.ports.dimse) as peer:
            associated(peer)
            answer = peer.store(1, MR, uid, image("1.2.3.4.5"))
            assert answer is None or answer.status in {0xC000, 0xA900, 0x0117, 0x0110}
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert not list((house.data / "studies").glob("*/*"))


@pytest.mark.parametrize("data", [image("1.2.3.4.6.1"), None])
def test_an_image_sent_as_an_echo_is_not_said_to_be_stored(tmp_path: Path, data: bytes | None) -> None:
    with door(tmp_path) as house:
        with connected(house.ports.dimse) as peer:
            assert peer.associate([(VERIFICATION, EXPLICIT)])
            command = c_store_rq(VERIFICATION, "1.2.3.4.6.1")
            if data is None:
                command = command.replace(element(0x0800, b"\x01\x00"), element(0x0800, b"\x01\x01"))
            peer.message(1, command, data)
            answer = peer.answer()
            assert answer is None or answer.status == 0x0122
        honest(house, "1.2.3.4.6.2")


@pytest.mark.parametrize("rude", [True, False])
@pytest.mark.parametrize("where", [3, 12, 40, 4000])
def test_who_hangs_up_within_a_pdu_leaves_nothing_behind(tmp_path: Path, where: int, rude: bool) -> None:
    with door(tmp_path) as house:
        threads = threading.active_count()
        with connected(house.ports.dimse) as peer:
            in_a_message(peer)
            peer.send(fragment(1, image("1.2.3.4.5"), command=False, last=True)[:where])
            if rude:  # a reset instead of an orderly close
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: threading.active_count() <= threads, what="no thread left")


def test_who_is_gone_before_it_is_accepted_takes_no_place_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our side fails over what came behind the request before it says that the association is established."""
    established = dimse._established

    def late(event: Any, where: Door) -> None:
        if str(event.assoc.requestor.primitive.calling_ae_title).strip() == "GONE":
            until(lambda: not event.assoc.dul.is_alive(), what="the connection closed")
        established(event, where)

    monkeypatch.setattr(dimse, "_established", late)
    with door(tmp_path, max_associations_per_peer=2) as house:
        threads = threading.active_count()
        for _ in range(2):
            with connected(house.ports.dimse) as peer:
                peer.send(associate_rq(CONTEXTS, calling="GONE") + pdu(ABORT, b"\0\0\x4b\0"))  # no such source
        until(lambda: threading.active_count() <= threads, what="no thread left")
        until(lambda: all(one["ended_at"] for one in house.rows(schema.association)), what="all ended in the ledger")


@pytest.mark.parametrize("after", [pdu(0x01, bytes(80)), pdu(0x02, bytes(80)), pdu(ABORT, b"\0\0\x4b\0"), b"\xff" * 9])
def test_what_comes_right_behind_a_request_is_one_line_in_the_log(tmp_path: Path, after: bytes) -> None:
    """PDUs out of turn, an A-ABORT of an impossible source: no stack, and nothing that grows with what was said."""
    with io.StringIO() as stream:
        with logged(stream), door(tmp_path) as house:
            threads = threading.active_count()
            for _ in range(20):
                with connected(house.ports.dimse) as peer:
                    peer.send(associate_rq(CONTEXTS) + after)
                    while peer.receive():
                        pass
            until(lambda: threading.active_count() <= threads, what="no thread left")
        said = [json.loads(line) for line in stream.getvalue().splitlines()]
    warnings = [one for one in said if one["level"] == "warning"]
    assert not [one for one in said if one["level"] == "error" or "stack" in one]
    assert len(warnings) <= 20
    assert all(one["address"] == "127.0.0.1" for one in warnings)


@pytest.mark.parametrize(
    "first",
    [b"", b"GET / HTTP/1.1\r\n\r\n", pdu(0x01, bytes(80)), pdu(0x05, bytes(4)), pdu(ABORT, bytes(4))],
    ids=["nothing", "HTTP", "a malformed request", "a release", "an abort"],
)
def test_who_goes_without_having_asked_for_an_association_takes_no_place_any_more(tmp_path: Path, first: bytes) -> None:
    """Found by the fuzzed conversations: each had kept a thread, and a place, until the timeout for a request."""
    with door(tmp_path, acse_timeout_s=3600, network_timeout_s=3600) as house:
        threads = threading.active_count()
        for _ in range(10):
            with connected(house.ports.dimse) as peer, suppress(OSError):
                peer.send(first)
                peer.sock.shutdown(socket.SHUT_WR)
                while peer.receive():
                    pass
        until(lambda: threading.active_count() <= threads, what="no thread left")


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_presentation_context_without_an_abstract_syntax_is_refused_alone_and_no_thread_dies(tmp_path: Path) -> None:
    """Found by the fuzzed conversations of `make soak`; DCMTK accepts the association, too."""
    content = associate_rq([(MR, EXPLICIT)])
    whole = item(0x30, MR.encode())
    assert whole in content
    content = content.replace(whole, item(0x40, MR.encode()))  # a second transfer syntax in its place
    with door(tmp_path) as house:
        threads = threading.active_count()
        with connected(house.ports.dimse) as peer:
            peer.send(content)
            answer = peer.receive()
            assert answer is not None
            assert answer[0] == ASSOCIATE_AC
            assert item(0x21, b"\x01\0\x03\0" + item(0x40, MR.encode())) in answer[1]  # abstract syntax not supported
            peer.send(pdu(0x05, bytes(4)))
            assert peer.receive()
        until(lambda: threading.active_count() <= threads, what="no thread left")


COMMANDS = {
    "no elements": b"",
    "no command field": command_set(element(0x0002, MR.encode())),
    "a field of one byte": command_set(element(0x0100, b"\x01"), element(0x0800, b"\x01\x00")),
    "an element that ends nowhere": element(0x0000, b"\x04\0\0\0") + b"\x00\x00\x00\x01\xff\xff\xff\xff",
    "another group": element(0x0010, b"DOE", group=0x0010),
    "an unknown command": command_set(element(0x0100, b"\xff\x7f"), element(0x0800, b"\x01\x01")),
    "a C-FIND": command_set(
        element(0x0002, MR.encode()), element(0x0100, b"\x20\x00"), element(0x0110, b"\x01\x00"),
        element(0x0700, b"\0\0"), element(0x0800, b"\x01\x01"),
    ),
    "an N-ACTION": command_set(
        element(0x0003, MR.encode()), element(0x0100, b"\x30\x01"), element(0x0110, b"\x01\x00"),
        element(0x0800, b"\x01\x01"), element(0x1001, b"1.2 "), element(0x1008, b"\x01\x00"),
    ),
    "a response to nothing": command_set(
        element(0x0002, MR.encode()), element(0x0100, b"\x01\x80"), element(0x0120, b"\x01\x00"),
        element(0x0800, b"\x01\x01"), element(0x0900, b"\0\0"),
    ),
    "a cancel of nothing": command_set(element(0x0100, b"\xff\x0f"), element(0x0120, b"\x01\x00"),
                                       element(0x0800, b"\x01\x01")),
    "a megabyte": command_set(element(0x0902, bytes(MIB))),
}  # fmt: skip


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_set_that_is_none_ends_in_an_answer_or_an_abort(tmp_path: Path, what: str) -> None:
    with door(tmp_path) as house:
        threads = threading.active_count()
        with connected(house.ports.dimse) as peer:
            associated(peer)
            for at in range(0, max(len(COMMANDS[what]), 1), 16000):
                part = COMMANDS[what][at : at + 16000]
                try:
                    peer.send(fragment(1, part, command=True, last=at + 16000 >= len(COMMANDS[what])))
                except ConnectionError:
                    break
            assert silent(peer)
        until(lambda: threading.active_count() <= threads, what="no thread left")
