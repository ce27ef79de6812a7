"""The command set of a C-STORE: read from a peer, and its response made (PS3.7 sections 6.3.1, 9.3.1 and E.1)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from cauda.listener.pdu import Malformed

MAX_BYTES = 1 << 14  # every element together; an honest one has 200
C_STORE_RQ = 0x0001
_C_STORE_RSP = 0x8001
_NO_DATA_SET = 0x0101
_ELEMENT = struct.Struct("<HHI")
_U16 = struct.Struct("<H")
_NUMBER = struct.Struct("<HHIH")  # an element with one
_SOP_CLASS, _FIELD, _MESSAGE_ID, _ANSWERED_ID, _DATA_SET_TYPE = 0x0002, 0x0100, 0x0110, 0x0120, 0x0800
_STATUS, _COMMENT, _SOP_INSTANCE = 0x0900, 0x0902, 0x1000


class Command(NamedTuple):
    """What decides who serves a message, and how a C-STORE is answered. UIDs are as sent, checked later."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_uid: str


def parse(content: bytes) -> Command:
    """A command set; Malformed when it is none. Implicit VR little endian, group 0000 alone."""
    found: dict[int, bytes] = {}
    at, end = 0, len(content)
    while at < end:
        if at + _ELEMENT.size > end:
            raise Malformed("command set ends within an element's header")
        group, element, length = _ELEMENT.unpack_from(content, at)
        at += _ELEMENT.size
        if group != 0x0000:
            raise Malformed("command set with elements of another group")
        if length > end - at:
            raise Malformed("command element longer than its command set")
        found[element] = content[at : at + length]
        at += length
    field = _number(found, _FIELD)
    # a response or C-CANCEL has no message ID of its own, and no C-STORE can be answered without
    message_id = _number(found, _MESSAGE_ID) if field == C_STORE_RQ else 0
    return Command(
        field=field,
        message_id=message_id,
        has_data_set=_number(found, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class_uid=_uid(found, _SOP_CLASS),
        sop_uid=_uid(found, _SOP_INSTANCE),
    )


def _number(found: dict[int, bytes], element: int) -> int:
    value = found.get(element, b"")
    if len(value) != _U16.size:
        raise Malformed("command set without a field, message ID or data set type")
    number: int = _U16.unpack(value)[0]
    return number


def _uid(found: dict[int, bytes], element: int) -> str:
    return found.get(element, b"")[:256].rstrip(b"\0 ").decode("ascii", "replace")


def response(request: Command, status: int, comment: str) -> bytes:
    """The C-STORE-RSP to a request."""
    body = b"".join(
        (
            _text(_SOP_CLASS, request.sop_class_uid, b"\0"),
            _NUMBER.pack(0x0000, _FIELD, 2, _C_STORE_RSP),
            _NUMBER.pack(0x0000, _ANSWERED_ID, 2, request.message_id),
            _NUMBER.pack(0x0000, _DATA_SET_TYPE, 2, _NO_DATA_SET),
            _NUMBER.pack(0x0000, _STATUS, 2, status),
            _text(_COMMENT, comment, b" ") if comment else b"",
            _text(_SOP_INSTANCE, request.sop_uid, b"\0"),
        )
    )
    return _ELEMENT.pack(0x0000, 0x0000, 4) + struct.pack("<I", len(body)) + body


def _text(element: int, text: str, pad: bytes) -> bytes:
    raw = text.encode("ascii", "replace")
    raw += pad * (len(raw) % 2)
    return _ELEMENT.pack(0x0000, element, len(raw)) + raw
