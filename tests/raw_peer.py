"""A DICOM peer made of bytes: PDUs and command sets written by hand (PS3.7, PS3.8 9.3), as right or wrong as wanted.

It shares no code with the product, nor with pynetdicom.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from peers import HOST, PATIENCE

VERIFICATION = "1.2.840.10008.1.1"
ASSOCIATE_AC, P_DATA, RELEASE_RP, ABORT = 0x02, 0x04, 0x06, 0x07
_ANSWERS_WITHIN_S = 20 * PATIENCE


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """A PDU; ``length`` is what its header claims, if not the truth."""
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def item(kind: int, body: bytes) -> bytes:
    """An item of an A-ASSOCIATE PDU (PS3.8 9.3.2)."""
    return struct.pack(">BxH", kind, len(body)) + body


def associate_rq(
    contexts: Sequence[tuple[str, str]], *, called: str = "CAUDA", calling: str = "RAW", max_pdu: int = 16384,
    as_scp: Sequence[str] = (),
) -> bytes:  # fmt: skip
    """An A-ASSOCIATE-RQ that proposes (SOP class, transfer syntax) pairs as contexts 1, 3, 5 ...

    ``as_scp`` are the classes for which the SCP's role is asked for (PS3.7 D.3.3.4).
    """
    proposed = b"".join(
        item(0x20, bytes([2 * n + 1, 0, 0, 0]) + item(0x30, abstract.encode()) + item(0x40, syntax.encode()))
        for n, (abstract, syntax) in enumerate(contexts)
    )
    roles = b"".join(item(0x54, struct.pack(">H", len(uid)) + uid.encode() + b"\0\1") for uid in as_scp)
    user = item(0x50, item(0x51, struct.pack(">I", max_pdu)) + item(0x52, b"1.2.3.4") + roles)
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    fixed = struct.pack(">H2x", 1) + titles + bytes(32)
    return pdu(0x01, fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + user)


def fragment(context_id: int, content: bytes, *, command: bool, last: bool) -> bytes:
    """A P-DATA-TF with one fragment."""
    control = (0x01 if command else 0) | (0x02 if last else 0)
    return pdu(P_DATA, struct.pack(">IBB", len(content) + 2, context_id, control) + content)


def element(number: int, value: bytes, *, group: int = 0x0000) -> bytes:
    """An element of a command set: implicit VR, little endian."""
    return struct.pack("<HHI", group, number, len(value)) + value


def _uid(text: str) -> bytes:
    raw = text.encode("latin-1")
    return raw + b"\0" * (len(raw) % 2)


def command_set(*elements: bytes) -> bytes:
    """Elements with their group length before them."""
    body = b"".join(elements)
    return element(0x0000, struct.pack("<I", len(body))) + body


def c_store_rq(sop_class: str, sop_uid: str, *, message_id: int = 1) -> bytes:
    """The command set of a C-STORE-RQ with a data set."""
    return command_set(
        element(0x0002, _uid(sop_class)),
        element(0x0100, b"\x01\x00"),
        element(0x0110, struct.pack("<H", message_id)),
        element(0x0700, b"\x00\x00"),
        element(0x0800, b"\x01\x00"),
        element(0x1000, _uid(sop_uid)),
    )


def n_action_rq(sop_class: str, sop_uid: str, *, message_id: int = 1) -> bytes:
    """The command set of an N-ACTION-RQ of type 1 with a data set."""
    return command_set(
        element(0x0003, _uid(sop_class)),
        element(0x0100, b"\x30\x01"),
        element(0x0110, struct.pack("<H", message_id)),
        element(0x0800, b"\x01\x00"),
        element(0x1001, _uid(sop_uid)),
        element(0x1008, b"\x01\x00"),
    )


def n_event_report_rsp(sop_class: str, *, answers: int = 1) -> bytes:
    """The command set of an N-EVENT-REPORT-RSP that says success."""
    return command_set(
        element(0x0002, _uid(sop_class)),
        element(0x0100, b"\x00\x81"),
        element(0x0120, struct.pack("<H", answers)),
        element(0x0800, b"\x01\x01"),
        element(0x0900, b"\x00\x00"),
    )


def c_echo_rq(message_id: int = 1) -> bytes:
    """The command set of a C-ECHO-RQ."""
    return command_set(
        element(0x0002, _uid(VERIFICATION)),
        element(0x0100, b"\x30\x00"),
        element(0x0110, struct.pack("<H", message_id)),
        element(0x0800, b"\x01\x01"),
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response: its Command Field, status, Error Comment, and the message that it answers."""

    field: int
    status: int
    comment: str
    answers: int


@dataclass(kw_only=True)
class RawPeer:
    """One connection."""

    sock: socket.socket
    accepted: dict[int, str] = field(default_factory=dict)  # context ID to transfer syntax
    max_pdu: int = 16384  # what the other side takes; 0 is without a bound

    def send(self, content: bytes) -> None:
        """Bytes as they are."""
        self.sock.sendall(content)

    def receive(self) -> tuple[int, bytes] | None:
        """The next PDU's type and body; None when the other side has closed."""
        header = self._exactly(6)
        if header is None:
            return None
        kind, length = struct.unpack(">BxI", header)
        body = self._exactly(length)
        return None if body is None else (kind, body)

    def _exactly(self, count: int) -> bytes | None:
        got = bytearray()
        while len(got) < count:
            try:
                more = self.sock.recv(count - len(got))
            except ConnectionError:
                return None
            if not more:
                return None
            got += more
        return bytes(got)

    def associate(
        self, contexts: Sequence[tuple[str, str]], *, called: str = "CAUDA", calling: str = "RAW", max_pdu: int = 16384,
        as_scp: Sequence[str] = (),
    ) -> bool:  # fmt: skip
        """Propose; whether an association was accepted, whatever became of its contexts."""
        self.send(associate_rq(contexts, called=called, calling=calling, max_pdu=max_pdu, as_scp=as_scp))
        answer = self.receive()
        if answer is None or answer[0] != ASSOCIATE_AC:
            return False
        for kind, body in _items(answer[1][68:]):
            if kind == 0x21 and body[2] == 0:
                self.accepted[body[0]] = dict(_items(body[4:]))[0x40].decode()
            if kind == 0x50:
                self.max_pdu = struct.unpack(">I", dict(_items(body))[0x51])[0]
        return True

    def message(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """A command set and its data set in PDUs that the other side takes."""
        self.send(fragment(context_id, command, command=True, last=True))
        if data is None:
            return
        size = (self.max_pdu or len(data) + 6) - 6
        for at in range(0, max(len(data), 1), size):
            part = data[at : at + size]
            self.send(fragment(context_id, part, command=False, last=at + size >= len(data)))

    def answer(self) -> Answer | None:
        """The next response; None when the association was aborted or closed instead."""
        command = b""
        while True:
            got = self.receive()
            if got is None or got[0] != P_DATA:
                return None
            length, _, control = struct.unpack(">IBB", got[1][:6])
            command += got[1][6 : 4 + length]
            if control & 0x02:
                return _parsed(command)

    def store(self, context_id: int, sop_class: str, sop_uid: str, data: bytes) -> Answer | None:
        """One C-STORE and its answer."""
        self.message(context_id, c_store_rq(sop_class, sop_uid), data)
        return self.answer()

    def echo(self, context_id: int = 1) -> bool:
        """One C-ECHO; whether it was answered with success."""
        self.message(context_id, c_echo_rq())
        answer = self.answer()
        return answer is not None and answer.status == 0x0000

    def release(self) -> bool:
        """An orderly end; whether it was confirmed."""
        self.send(pdu(0x05, bytes(4)))
        answer = self.receive()
        return answer is not None and answer[0] == RELEASE_RP

    def ended(self) -> bool:
        """Wait for the other side to abort or close; False for anything else that it says."""
        got = self.receive()
        return got is None or got[0] == ABORT


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(content):
        kind, length = struct.unpack_from(">BxH", content, at)
        yield kind, content[at + 4 : at + 4 + length]
        at += 4 + length


def _parsed(command: bytes) -> Answer:
    found: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(command):
        _, number, length = struct.unpack_from("<HHI", command, at)
        found[number] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return Answer(
        field=struct.unpack("<H", found[0x0100])[0],
        status=struct.unpack("<H", found[0x0900])[0],
        comment=found.get(0x0902, b"").decode("ascii").rstrip(),
        answers=struct.unpack("<H", found[0x0120])[0],
    )


@contextmanager
def connected(port: int) -> Iterator[RawPeer]:
    """A connection that has said nothing yet; closed at the end, however rudely."""
    with socket.create_connection((HOST, port), timeout=_ANSWERS_WITHIN_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield RawPeer(sock=sock)
