"""A-ASSOCIATE PDUs made by hand, each byte as wanted (PS3.8 9.3): what devices send that is a little off."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from raw_peer import VERIFICATION, item, pdu

MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
MAX_LENGTH, IMPLEMENTATION, VERSION_NAME = 0x51, 0x52, 0x55
CONTEXTS: tuple[tuple[int, bytes, Sequence[bytes]], ...] = (
    (1, VERIFICATION.encode(), [IMPLICIT.encode()]),
    (3, MR.encode(), [EXPLICIT.encode()]),
)


def user_information(
    *, max_length: bytes | None = struct.pack(">I", 16384), implementation: bytes | None = b"1.2.3.4",
    version: bytes | None = None, more: bytes = b"",
) -> bytes:  # fmt: skip
    """A user information item; None leaves a sub-item out."""
    parts = ((MAX_LENGTH, max_length), (IMPLEMENTATION, implementation), (VERSION_NAME, version))
    return item(0x50, b"".join(item(kind, value) for kind, value in parts if value is not None) + more)


def context(number: int, abstract: bytes, syntaxes: Sequence[bytes]) -> bytes:
    """A proposed presentation context item."""
    inner = item(0x30, abstract) + b"".join(item(0x40, syntax) for syntax in syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + inner)


def request(
    *, called: bytes = b"CAUDA".ljust(16), calling: bytes = b"RAW".ljust(16), version: int = 1,
    application: bytes = b"1.2.840.10008.3.1.1.1", contexts: Sequence[bytes] | None = None, user: bytes | None = None,
    more: bytes = b"",
) -> bytes:  # fmt: skip
    """An A-ASSOCIATE-RQ; titles are 16 bytes as they go over the wire."""
    proposed = b"".join(context(*one) for one in CONTEXTS) if contexts is None else b"".join(contexts)
    head = struct.pack(">H2x", version) + called + calling + bytes(32) + item(0x10, application)
    return pdu(0x01, head + proposed + more + (user_information() if user is None else user))


def acceptance(
    results: Sequence[tuple[int, int, bytes | None]], *, titles: bytes = b"PACS".ljust(16) + b"CAUDA".ljust(16),
    version: int = 1, user: bytes | None = None, more: bytes = b"",
) -> bytes:  # fmt: skip
    """An A-ASSOCIATE-AC that answers (context ID, result, transfer syntax or None)."""
    answered = b"".join(
        item(0x21, bytes([number, 0, result, 0]) + (b"" if syntax is None else item(0x40, syntax)))
        for number, result, syntax in results
    )
    head = struct.pack(">H2x", version) + titles + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1")
    return pdu(0x02, head + answered + more + (user_information() if user is None else user))


_ECHO, _IMAGE = (context(*one) for one in CONTEXTS)
HARMLESS: dict[str, bytes] = {
    "titles padded with NUL": request(called=b"CAUDA".ljust(16, b"\0"), calling=b"MR1".ljust(16, b"\0")),
    "a title that ends like a string of C": request(called=b"CAUDA\0".ljust(16), calling=b"MR1\0 old".ljust(16)),
    "titles after blanks": request(called=b"CAUDA".rjust(16), calling=b"  MR1".ljust(16)),
    "calling title in Latin-1": request(calling="MRT_KÖLN".encode("latin-1").ljust(16)),
    "calling title with a backslash": request(calling=b"MR\\1".ljust(16)),
    "calling title of blanks": request(calling=b" " * 16),
    "version name of 20 characters": request(user=user_information(version=b"SUPERSCANNER_V11_2_3")),
    "version name padded with NUL": request(user=user_information(version=b"SCANNER_1\0\0\0")),
    "version name in Latin-1": request(user=user_information(version="GERÄT".encode("latin-1"))),
    "version name empty": request(user=user_information(version=b"")),
    "implementation UID empty": request(user=user_information(implementation=b"")),
    "implementation UID padded with blanks": request(user=user_information(implementation=b"1.2.3.4  ")),
    "implementation UID left out": request(user=user_information(implementation=None)),
    "UIDs padded with NUL": request(
        application=b"1.2.840.10008.3.1.1.1\0",
        contexts=[context(n, a + b"\0", [s + b"\0" for s in many]) for n, a, many in CONTEXTS],
    ),
    "UIDs padded with blanks": request(
        contexts=[context(n, a + b" ", [s + b" " for s in many]) for n, a, many in CONTEXTS]
    ),
    "unknown user information": request(user=user_information(more=item(0xA0, b"x"))),
    "user identity": request(user=user_information(more=item(0x58, b"\2\1\0\4user\0\4pass"))),
    "user identity cut short": request(user=user_information(more=item(0x58, b"\2"))),
    "extended negotiation of nothing": request(user=user_information(more=item(0x56, b""))),
    "asynchronous operations": request(user=user_information(more=item(0x53, struct.pack(">HH", 8, 8)))),
    "role without its class": request(user=user_information(more=item(0x54, b"\0\x10"))),
    "unknown item": request(more=item(0x60, b"x")),
    "unknown item in a context": request(
        contexts=[_ECHO, item(0x20, bytes([3, 0, 0, 0]) + item(0x31, b"x") + _IMAGE[8:])]
    ),
    "protocol version bits 0 and 1": request(version=3),
    "every bit of the protocol version": request(version=0xFFFF),
    "a context with an empty transfer syntax": request(contexts=[_ECHO, context(3, MR.encode(), [b""])]),
    "a context without a transfer syntax": request(contexts=[_ECHO, context(3, MR.encode(), [])]),
    "a context without an abstract syntax": request(contexts=[_ECHO, context(3, b"", [EXPLICIT.encode()])]),
    "a transfer syntax that is no UID": request(contexts=[_ECHO, context(3, MR.encode(), [b"\xff" * 70])]),
    "no Maximum Length": request(user=user_information(max_length=None)),
    "a Maximum Length of 2 bytes": request(user=user_information(max_length=b"\x40\x00")),
    "the smallest Maximum Length": request(user=user_information(max_length=struct.pack(">I", 8))),
    "an unlimited Maximum Length": request(user=user_information(max_length=bytes(4))),
    "zeros behind the last item": request(user=user_information() + bytes(7)),
}
"""Each of these proposes C-ECHO in context 1, and DCMTK takes them."""

REFUSED: dict[str, tuple[bytes, str]] = {
    "even context IDs": (request(contexts=[context(2, VERIFICATION.encode(), [IMPLICIT.encode()])]), "even_context_id"),
    "an even context ID beside odd ones": (
        request(contexts=[_ECHO, context(4, MR.encode(), [EXPLICIT.encode()])]), "even_context_id"
    ),
    "a protocol version without bit 0": (request(version=2), "protocol_version"),
    "an item longer than its PDU": (request(more=struct.pack(">BxH", 0x60, 60000)), "associate_unreadable"),
    "a sub-item longer than its item": (
        request(user=item(0x50, struct.pack(">BxH", 0x51, 400))), "associate_unreadable"
    ),
    "a Maximum Length of 1": (request(user=user_information(max_length=struct.pack(">I", 1))), "maximum_length"),
    "a Maximum Length of 7": (request(user=user_information(max_length=struct.pack(">I", 7))), "maximum_length"),
    "more contexts than IDs": (request(contexts=[_ECHO] * 129), "associate_unreadable"),
    "a request of 20 bytes": (pdu(0x01, request()[6:26]), "associate_unreadable"),
}  # fmt: skip
"""Each with the reason that stands in the list of refused peers."""
