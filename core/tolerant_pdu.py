"""Read A-ASSOCIATE PDUs (PS3.8 9.3) as tolerantly as other DICOM software does, before pynetdicom decodes them.

pynetdicom raises for faults that decide nothing: padding, other character sets, items that it does not know.
`normalise` rewrites such a PDU so that pynetdicom reads it: bytes in, bytes out.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

from cauda.core.domain import Reason

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, ABORT = 0x01, 0x02, 0x03, 0x07
UNASSIGNED_UID = "0.0"  # stands where a context names no syntax: a syntax that nobody supports
MAX_LENGTH_BYTES = 16384  # of a peer that states no Maximum Length (PS3.8 D.1): what every implementation takes
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_PDU = struct.Struct(">BxI")
_ITEM = struct.Struct(">BxH")
_UID = re.compile(rb"[0-9]+(\.[0-9]+)*")
_LEAST_LENGTH_BYTES = 8  # a PDV header and the two bytes of the shortest fragment (PS3.8 9.3.5.1, D.1.1)
_TITLE_BYTES, _VERSION_NAME_BYTES, _UID_BYTES = 16, 16, 64
_ITEMS_AT = 74  # behind PDU header, protocol version, titles and reserved bytes (PS3.8 table 9-11)
_APPLICATION, _CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT, _TRANSFER, _USER = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
_MAX_LENGTH, _IMPLEMENTATION, _ROLE, _VERSION_NAME = 0x51, 0x52, 0x54, 0x55
_ACCEPTED, _PROVIDER_REJECTED, _NO_SYNTAX = 0, 2, 4  # results of a context (PS3.8 table 9-18)
_MOST_CONTEXTS = 128  # there are no more odd numbers in a byte
_MOST_SYNTAXES = 128  # of a context: more than are registered
_REJECT_SOURCES, _REJECT_REASONS, _ABORT_REASONS = {1, 2, 3}, {1, 2, 3, 7}, {0, 1, 2, 4, 5, 6}


class UnreadableAssociate(ValueError):
    """An A-ASSOCIATE PDU that cannot be answered; the text is for the log and names no value of the peer's."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def normalise(pdu: bytes) -> bytes:
    """The PDU as pynetdicom reads it; unchanged if it is none that opens, refuses or aborts an association.

    Raises UnreadableAssociate. Items and user information that Cauda does not negotiate are left out (PS3.8 9.3.1).
    """
    kind = pdu[0] if pdu else 0
    if kind in {ASSOCIATE_RQ, ASSOCIATE_AC}:
        return _associate(kind, pdu)
    if kind == ASSOCIATE_RJ:
        return _reject(pdu)
    if kind == ABORT:
        return _abort(pdu)
    return pdu


def titles(pdu: bytes) -> tuple[str, str]:
    """Calling and called AE title of an A-ASSOCIATE-RQ, as far as it was received."""
    return title(pdu[26:42]), title(pdu[10:26])


def title(raw: bytes) -> str:
    """An AE title or name without its padding; what is no printable ASCII is shown as "?", and so is an empty one."""
    return _ascii(raw.lstrip(b"\0 ").partition(b"\0")[0]).strip() or "?"


def request_without_contexts(pdu: bytes) -> bytes:
    """An A-ASSOCIATE-RQ with the titles of one that cannot be read, so that it can be refused in the usual way."""
    calling, called = titles(pdu)
    return _built(ASSOCIATE_RQ, called, calling, [_item(_USER, _user(b""))])


def decode_tolerantly(event: Any) -> None:
    """Handler of pynetdicom's EVT_CONN_OPEN: what the peer sends on this association is normalised before decoding."""
    decode = event.assoc.dul._decode_pdu  # noqa: SLF001  the one place where bytes become a PDU; a test checks it

    def decode_normalised(received: bytearray) -> Any:
        return decode(bytearray(normalise(bytes(received))))

    event.assoc.dul._decode_pdu = decode_normalised  # noqa: SLF001


def _associate(kind: int, pdu: bytes) -> bytes:
    if len(pdu) < _ITEMS_AT:
        raise UnreadableAssociate(Reason.ASSOCIATE_UNREADABLE, "A-ASSOCIATE is cut short")
    if not pdu[7] & 1 and kind == ASSOCIATE_RQ:  # PS3.8 9.3.2: only bit 0 is tested
        raise UnreadableAssociate(Reason.PROTOCOL_VERSION, "protocol version without bit 0")
    contexts, user = [], b""
    for item, body in _items(pdu[_ITEMS_AT:]):
        if item == _CONTEXT_RQ and kind == ASSOCIATE_RQ:
            contexts.append(_proposed(body))
        elif item == _CONTEXT_AC and kind == ASSOCIATE_AC:
            contexts += _answered(body)
        elif item == _USER and not user:
            user = body
    if len(contexts) > _MOST_CONTEXTS:
        raise UnreadableAssociate(Reason.ASSOCIATE_UNREADABLE, "more presentation contexts than there are IDs")
    calling, called = titles(pdu)
    return _built(kind, called, calling, [*contexts, _item(_USER, _user(user))])


def _built(kind: int, called: str, calling: str, items: list[bytes]) -> bytes:
    fixed = b"\0\1\0\0" + called.encode().ljust(_TITLE_BYTES) + calling.encode().ljust(_TITLE_BYTES) + bytes(32)
    body = fixed + _item(_APPLICATION, _APPLICATION_CONTEXT.encode()) + b"".join(items)
    return _PDU.pack(kind, len(body)) + body


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each item; zeros at the end are padding."""
    at, end = 0, len(content.rstrip(b"\0"))
    while at < end:
        if at + _ITEM.size > len(content):
            raise UnreadableAssociate(Reason.ASSOCIATE_UNREADABLE, "A-ASSOCIATE ends within the header of an item")
        kind, length = _ITEM.unpack_from(content, at)
        at += _ITEM.size + length
        if at > len(content):
            raise UnreadableAssociate(Reason.ASSOCIATE_UNREADABLE, "an item is longer than what holds it")
        yield kind, content[at - length : at]


def _proposed(body: bytes) -> bytes:
    """A proposed presentation context (PS3.8 9.3.2.2)."""
    if len(body) < 4:
        raise UnreadableAssociate(Reason.ASSOCIATE_UNREADABLE, "a presentation context is cut short")
    if body[0] % 2 == 0:
        raise UnreadableAssociate(Reason.EVEN_CONTEXT_ID, "a presentation context has an even ID")
    abstract, transfer = UNASSIGNED_UID, []
    for kind, value in _items(body[4:]):
        if kind == _ABSTRACT:
            abstract = _uid(value) or UNASSIGNED_UID
        elif kind == _TRANSFER and (uid := _uid(value)):
            transfer.append(uid)
    distinct = list(dict.fromkeys(transfer))[:_MOST_SYNTAXES]
    syntaxes = b"".join(_item(_TRANSFER, uid.encode()) for uid in distinct or [UNASSIGNED_UID])
    return _item(_CONTEXT_RQ, bytes([body[0], 0, 0, 0]) + _item(_ABSTRACT, abstract.encode()) + syntaxes)


def _answered(body: bytes) -> list[bytes]:
    """An answered presentation context (PS3.8 9.3.3.2); none where the ID is not one of ours."""
    if len(body) < 4:
        raise UnreadableAssociate(Reason.ASSOCIATE_UNREADABLE, "a presentation context is cut short")
    if body[0] % 2 == 0:
        return []
    result = body[2] if body[2] <= _NO_SYNTAX else _PROVIDER_REJECTED
    # the transfer syntax of a context that is not accepted means nothing, and need not even be an item
    syntax = _IMPLICIT_LITTLE_ENDIAN
    if result == _ACCEPTED:
        named = [uid for kind, value in _items(body[4:]) if kind == _TRANSFER and (uid := _uid(value))]
        result, syntax = (_ACCEPTED, named[0]) if named else (_NO_SYNTAX, syntax)
    return [_item(_CONTEXT_AC, bytes([body[0], 0, result, 0]) + _item(_TRANSFER, syntax.encode()))]


def _user(content: bytes) -> bytes:
    """User information (PS3.7 D.3.3): what is negotiated here, each once, except roles."""
    length, implementation, name, roles = MAX_LENGTH_BYTES, UNASSIGNED_UID, b"", list[bytes]()
    for kind, value in _items(content):
        if kind == _MAX_LENGTH and len(value) == 4:
            length = int.from_bytes(value, "big")
            if 0 < length < _LEAST_LENGTH_BYTES:
                raise UnreadableAssociate(Reason.MAXIMUM_LENGTH, f"no message fits a Maximum Length of {length} bytes")
        elif kind == _IMPLEMENTATION:
            implementation = _uid(value) or UNASSIGNED_UID
        elif kind == _VERSION_NAME:
            name = _ascii(value.strip(b"\0 ")[:_VERSION_NAME_BYTES]).strip().encode()
        elif kind == _ROLE:
            roles.append(_role(value))
    stated = [_item(_MAX_LENGTH, struct.pack(">I", length)), _item(_IMPLEMENTATION, implementation.encode())]
    return b"".join([*stated, *roles[:_MOST_CONTEXTS], _item(_VERSION_NAME, name) if name else b""])


def _role(value: bytes) -> bytes:
    """SCP/SCU role selection (PS3.7 D.3.3.4); nothing where it cannot be read."""
    length = int.from_bytes(value[:2], "big")
    uid, rest = _uid(value[2 : 2 + length]), value[2 + length :]
    if not uid or len(rest) < 2:
        return b""
    return _item(_ROLE, struct.pack(">H", len(uid)) + uid.encode() + bytes([rest[0] & 1, rest[1] & 1]))


def _reject(pdu: bytes) -> bytes:
    result, source, reason = (*pdu[7:10], 0, 0, 0)[:3]
    fixed = [2 if result == 2 else 1, source if source in _REJECT_SOURCES else 1]
    return _PDU.pack(ASSOCIATE_RJ, 4) + bytes([0, *fixed, reason if reason in _REJECT_REASONS else 1])


def _abort(pdu: bytes) -> bytes:
    source, reason = (*pdu[8:10], 0, 0)[:2]
    known = reason if reason in _ABORT_REASONS else 0
    return _PDU.pack(ABORT, 4) + bytes([0, 0, source if source == 2 else 0, known])


def _uid(raw: bytes) -> str:
    """A UID without padding; empty if it is none that could be meant. Components may begin with zeros."""
    text = raw.strip(b"\0 ")
    return text.decode("ascii") if len(text) <= _UID_BYTES and _UID.fullmatch(text) else ""


def _ascii(raw: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x5C else "?" for byte in raw)


def _item(kind: int, body: bytes) -> bytes:
    return _ITEM.pack(kind, len(body)) + body
