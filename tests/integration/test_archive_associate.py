"""Archives whose A-ASSOCIATE-AC is a little off are asked and sent to, as other software does (PS3.8 9.3.3)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import builders
import pytest
from associate_pdus import acceptance, user_information
from peers import HOST
from pydicom import dcmread
from raw_peer import RawPeer, command_set, element, fragment, item, pdu

from cauda.archive.find import question_of
from cauda.archive.protocol import open_archive
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.settings import Destination

EXPLICIT, IMPLICIT = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2"
PLAIN = [(1, 0, EXPLICIT), (3, 0, IMPLICIT), (5, 0, EXPLICIT), (7, 0, IMPLICIT)]
NAMES = b"PACS".ljust(16), b"CAUDA".ljust(16)
RQ, DATA, RELEASE_RQ, RELEASE_RP = 0x01, 0x04, 0x05, 0x06
FIND, STORE, RESPONSE = 0x0020, 0x0001, 0x8000

HARMLESS = {
    "titles padded with NUL": acceptance(PLAIN, titles=b"PACS".ljust(16, b"\0") + b"CAUDA".ljust(16, b"\0")),
    "titles of NUL": acceptance(PLAIN, titles=bytes(32)),
    "titles of blanks": acceptance(PLAIN, titles=b" " * 32),
    "titles in Latin-1": acceptance(PLAIN, titles="PÄCS".encode("latin-1").ljust(16) + NAMES[1]),
    "titles of somebody else": acceptance(PLAIN, titles=b"OTHER".ljust(16) + b"NOBODY".ljust(16)),
    "version name of 20 characters": acceptance(PLAIN, user=user_information(version=b"ENTERPRISE_PACS_12.3")),
    "version name padded with NUL": acceptance(PLAIN, user=user_information(version=b"PACS_1".ljust(16, b"\0"))),
    "version name empty": acceptance(PLAIN, user=user_information(version=b"")),
    "version name in Latin-1": acceptance(PLAIN, user=user_information(version="GERÄT".encode("latin-1"))),
    "implementation UID empty": acceptance(PLAIN, user=user_information(implementation=b"")),
    "implementation UID left out": acceptance(PLAIN, user=user_information(implementation=None)),
    "implementation UID with a leading zero": acceptance(PLAIN, user=user_information(implementation=b"1.2.0840.1")),
    "syntaxes padded": acceptance([(number, result, syntax + b"\0 ") for number, result, syntax in PLAIN]),
    "no Maximum Length": acceptance(PLAIN, user=user_information(max_length=None)),
    "a Maximum Length of 0": acceptance(PLAIN, user=user_information(max_length=bytes(4))),
    "unknown user information": acceptance(PLAIN, user=user_information(more=item(0xA0, b"x"))),
    "an answer to a user identity": acceptance(PLAIN, user=user_information(more=item(0x59, b"\0\0"))),
    "asynchronous operations": acceptance(PLAIN, user=user_information(more=item(0x53, struct.pack(">HH", 1, 1)))),
    "an unknown item": acceptance(PLAIN, more=item(0x60, b"x")),
    "more bits in the protocol version": acceptance(PLAIN, version=3),
    "no bit in the protocol version": acceptance(PLAIN, version=0),
    "refused without a syntax": acceptance([PLAIN[0], (3, 3, None), PLAIN[2], (7, 4, None)]),
    "refused with words": acceptance([PLAIN[0], (3, 4, b"unknown"), PLAIN[2], (7, 3, b"")]),
    "a result that is none": acceptance([PLAIN[0], (3, 9, IMPLICIT), PLAIN[2], (7, 77, IMPLICIT)]),
    "a context that nobody proposed": acceptance([*PLAIN, (99, 0, IMPLICIT)]),
    "zeros behind the last item": acceptance(PLAIN, user=user_information() + bytes(6)),
}

UNREADABLE = {
    "cut short": pdu(0x02, acceptance(PLAIN)[6:40]),
    "an item longer than its PDU": acceptance(PLAIN, more=struct.pack(">BxH", 0x60, 60000)),
    "a context cut short": acceptance([], more=item(0x21, b"\1")),
}


@contextmanager
def archive(answer: bytes) -> Iterator[Destination]:
    """An archive that answers the first association so, then every C-FIND with no match and every C-STORE with 0000."""
    with socket.create_server((HOST, 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, answer))
        thread.start()
        try:
            yield Destination.model_validate(f"dimse://PACS@{HOST}:{server.getsockname()[1]}")
        finally:
            thread.join(timeout=20)
            assert not thread.is_alive()


def _serve(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    connection.settimeout(10)
    with connection:
        peer = RawPeer(sock=connection)
        command = b""
        while (received := peer.receive()) is not None:
            kind, body = received
            if kind == RQ:
                peer.send(answer)
            elif kind == RELEASE_RQ:
                peer.send(pdu(RELEASE_RP, bytes(4)))
            elif kind == DATA:
                context, control = body[4], body[5]
                command += body[6:] if control & 1 else b""
                if control == 2:  # the last fragment of the data set
                    peer.send(fragment(context, _response(command), command=True, last=True))
                    command = b""
            else:
                return


def _response(command: bytes) -> bytes:
    (asked,) = struct.unpack("<H", command[command.index(b"\0\0\0\1\2\0\0\0") + 8 :][:2])
    return command_set(
        element(0x0100, struct.pack("<H", asked | RESPONSE)), element(0x0120, b"\1\0"), element(0x0800, b"\1\1"),
        element(0x0900, b"\0\0"),
    )  # fmt: skip


@pytest.mark.parametrize("answer", HARMLESS.values(), ids=HARMLESS.keys())
def test_an_acceptance_that_is_a_little_off_is_used(answer: bytes, tmp_path: Path) -> None:
    builders.write([builders.mr_image("1.2", "1.2.3", "1.2.3.4")], tmp_path)
    image = dcmread(next(tmp_path.iterdir()))
    with archive(answer) as to, open_archive(to, "CAUDA", [builders.MR_IMAGE], timeout_s=10) as opened:
        assert opened.can_find
        assert opened.takes == {builders.MR_IMAGE}
        assert opened.find(question_of("STUDY", StudyInstanceUID="1.2")) == []
        assert opened.store(image) == ""


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_acceptance_that_cannot_be_read_is_an_archive_that_is_away(answer: bytes) -> None:
    """Not a bug: it is tried again later."""
    with archive(answer) as to:
        with pytest.raises(Unavailable) as raised, open_archive(to, "CAUDA", [builders.MR_IMAGE], timeout_s=5):
            pass
        assert raised.value.reason is Reason.DESTINATION_DOWN
