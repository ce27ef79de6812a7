"""A storage SCU that costs next to nothing: prepared bytes out, the time of each answer in.

Run as a program it sends a folder over one association and prints a JSON object. It writes each PDU of a message with
one call, the way DCMTK does, and leaves Nagle on unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MR_IMAGE = b"1.2.840.10008.5.1.4.1.1.4"
EXPLICIT_LITTLE = b"1.2.840.10008.1.2.1"
LARGEST_PDU = 131_072  # DCMTK's


def item(kind: int, content: bytes) -> bytes:
    """An item of an association request."""
    return struct.pack(">BxH", kind, len(content)) + content


def association_request(called: str, calling: str = "BENCH") -> bytes:
    """One presentation context: MR image, explicit little endian (PS3.8 9.3.2)."""
    user = item(0x51, struct.pack(">I", LARGEST_PDU)) + item(0x52, b"1.2.3.4.5")
    context = item(0x20, struct.pack(">BBBB", 1, 0, 0, 0) + item(0x30, MR_IMAGE) + item(0x40, EXPLICIT_LITTLE))
    body = (
        struct.pack(">HH", 1, 0) + called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
        + item(0x10, b"1.2.840.10008.3.1.1.1") + context + item(0x50, user)
    )  # fmt: skip
    return struct.pack(">BxI", 1, len(body)) + body


def element(number: int, value: bytes) -> bytes:
    """A command element (PS3.7 6.3.1)."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def store_command(sop_uid: bytes, message_id: int) -> bytes:
    """A C-STORE-RQ."""
    body = b"".join(
        (
            element(0x0002, MR_IMAGE), element(0x0100, struct.pack("<H", 1)),
            element(0x0110, struct.pack("<H", message_id)), element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 0)), element(0x1000, sop_uid),
        )
    )  # fmt: skip
    return element(0x0000, struct.pack("<I", len(body))) + body


def pdus(control: int, content: bytes, largest: int) -> Iterator[bytes]:
    """P-DATA-TF PDUs of a command (control 1) or a data set (0)."""
    size = largest - 6
    for at in range(0, len(content), size):
        part = content[at : at + size]
        last = 2 if at + size >= len(content) else 0
        yield struct.pack(">BxIIBB", 4, len(part) + 6, len(part) + 2, 1, control | last) + part


def dataset_of(part10: bytes) -> tuple[bytes, bytes]:
    """SOP Instance UID and data set of a Part 10 file."""
    (length,) = struct.unpack_from("<I", part10, 140)
    meta, data = part10[144 : 144 + length], part10[144 + length :]
    at = meta.index(struct.pack("<HH2s", 2, 3, b"UI"))
    (size,) = struct.unpack_from("<H", meta, at + 6)
    return meta[at + 8 : at + 8 + size].rstrip(b"\0"), data


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes from a socket."""
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        if not more:
            raise SystemExit("the peer hung up")
        got += more
    return got


def read_pdu(sock: socket.socket) -> tuple[int, bytes]:
    """The next PDU's type and content."""
    kind, length = struct.unpack(">BxI", exactly(sock, 6))
    return kind, exactly(sock, length)


def status_of(response: bytes) -> int:
    """The status in a C-STORE-RSP's P-DATA-TF."""
    at = 6  # behind the fragment's header
    while at < len(response):
        _, number, length = struct.unpack_from("<HHI", response, at)
        if number == 0x0900:
            status: int = struct.unpack_from("<H", response, at + 8)[0]
            return status
        at += 8 + length
    raise SystemExit("a response without a status")


def largest_pdu(accept: bytes) -> int:
    """What the peer's A-ASSOCIATE-AC allows, within DCMTK's own bound."""
    at = accept.index(b"\x51\x00\x00\x04")
    (length,) = struct.unpack_from(">I", accept, at + 4)
    return min(length or LARGEST_PDU, LARGEST_PDU)


@contextmanager
def associated(host: str, port: int, called: str, *, nodelay: bool) -> Iterator[tuple[socket.socket, int]]:
    """An association and the largest PDU that may be sent; released at the end."""
    with socket.create_connection((host, port)) as sock:
        if nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(association_request(called))
        kind, accept = read_pdu(sock)
        if kind != 2:
            raise SystemExit(f"association not accepted: PDU type {kind}")
        yield sock, largest_pdu(accept)
        sock.sendall(struct.pack(">BxII", 5, 4, 0))
        read_pdu(sock)


def prepared(files: Sequence[Path], largest: int, salt: int | None = None) -> list[list[bytes]]:
    """The PDUs of each file's C-STORE; with a ``salt`` under UIDs that end in it, so that none was there before."""
    messages = []
    for number, file in enumerate(files):
        sop_uid, data = dataset_of(file.read_bytes())
        if salt is not None:
            fresh = sop_uid[:-8] + b"%08d" % salt
            sop_uid, data = fresh, data.replace(sop_uid, fresh, 1)
        messages.append([*pdus(1, store_command(sop_uid, number % 65535 + 1), largest), *pdus(0, data, largest)])
    return messages


def main() -> None:
    """As a program: says "ready", and sends when it is given a line on standard input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("called")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodelay", action="store_true")
    parser.add_argument("--salt", type=int, help="other UIDs for another number")
    given = parser.parse_args()
    with associated(given.host, given.port, given.called, nodelay=given.nodelay) as (_, largest):
        pass  # a server that serves one association at a time must not be held while we prepare
    messages = prepared(sorted(given.folder.iterdir()), largest, given.salt)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    answers = []
    with associated(given.host, given.port, given.called, nodelay=given.nodelay) as (sock, _):
        for message in messages:
            for pdu in message:
                sock.sendall(pdu)
            sent = time.perf_counter()
            _, response = read_pdu(sock)
            answers.append(time.perf_counter() - sent)
            if status_of(response) != 0:
                raise SystemExit(f"status {status_of(response):04X}")
    print(json.dumps({"seconds": time.perf_counter() - begun, "answer_s": answers}))


if __name__ == "__main__":
    main()
