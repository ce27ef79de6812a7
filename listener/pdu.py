"""A peer's bytes split into PDUs, and P-DATA-TF into fragments, as they come (PS3.8 sections 9.3 and E.2).

Fragments are handed out while their PDU is still arriving, as views of the receive buffer: nothing is copied, and
nothing grows with what a peer claims.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

P_DATA_TF = 0x04
_KNOWN = frozenset(range(0x01, 0x08))
MAX_OTHER_BYTES = 1 << 20  # an A-ASSOCIATE-RQ with 128 contexts of all transfer syntaxes has a fifth of it
SLOWEST_BYTES_S = 1024  # a message that comes slower on the whole is no honest one
_BUFFER_BYTES = 1 << 20
_PDU = struct.Struct(">BxI")
_PDV = struct.Struct(">IBB")
_COMMAND, _LAST = 0x01, 0x02


class Malformed(Exception):
    """The peer's bytes are no DICOM: the association is aborted. The text is for the log and names no value."""


@dataclass(slots=True)
class Fragment:
    """Part of a command or data set; ``last`` with the final bytes of it. The view lasts until the next `room`."""

    context_id: int
    command: bool
    last: bool
    content: memoryview


@dataclass(slots=True)
class Whole:
    """A PDU other than P-DATA-TF, with its header."""

    content: bytes


class Stream:
    """The receive buffer of one association and where in a PDU it stands."""

    def __init__(self, max_pdu_bytes: int) -> None:
        """``max_pdu_bytes`` is what we announce as our Maximum Length (PS3.8 D.1), if it is not lowered."""
        self.max_pdu_bytes = max_pdu_bytes
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._at = self._end = 0
        self._header = bytearray()  # of a PDU or a fragment, as far as it has come
        self._whole: bytearray | None = None
        self._pdu_left = self._fragment_left = 0
        self._context_id = self._control = 0

    @property
    def between(self) -> bool:
        """Whether no PDU has begun that is not yet handed out whole."""
        return not self._header and self._whole is None and self._pdu_left == 0 and self._at == self._end

    def room(self) -> memoryview:
        """Where to receive into; everything received before must have been taken."""
        self._at = self._end = 0
        return self._buffer

    def close(self) -> None:
        """Give the buffer back; nothing may be received after."""
        self._buffer = memoryview(b"")
        self._at = self._end = 0

    def received(self, count: int) -> None:
        """So many bytes lie in `room` now."""
        self._end = count

    def next(self) -> Fragment | Whole | None:
        """What comes next; None when more has to be received. Raises Malformed."""
        while True:
            if self._fragment_left:
                return self._some() if self._at < self._end else None
            if self._whole is not None:
                return self._collected()
            if self._pdu_left:
                if not self._gather(_PDV.size):
                    return None
                empty = self._begin_fragment()
                if empty is not None:
                    return empty
            else:
                if not self._gather(_PDU.size):
                    return None
                self._begin_pdu()

    def _gather(self, size: int) -> bool:
        take = min(size - len(self._header), self._end - self._at)
        self._header += self._buffer[self._at : self._at + take]
        self._at += take
        return len(self._header) == size

    def _begin_pdu(self) -> None:
        kind, length = _PDU.unpack(self._header)
        if kind not in _KNOWN:
            raise Malformed("PDU of an unknown type")
        if kind == P_DATA_TF:
            if length > self.max_pdu_bytes:
                raise Malformed("P-DATA-TF longer than the maximum length that was negotiated")
            if length < _PDV.size:
                raise Malformed("P-DATA-TF without a fragment")
            self._pdu_left = length
        else:
            if length > MAX_OTHER_BYTES:
                raise Malformed("PDU longer than any honest one")
            self._whole = bytearray(self._header)
            self._fragment_left = 0
            self._pdu_left = length
        self._header.clear()

    def _begin_fragment(self) -> Fragment | None:
        length, self._context_id, self._control = _PDV.unpack(self._header)
        self._header.clear()
        if length < 2 or length + 4 > self._pdu_left:
            raise Malformed("fragment longer than its P-DATA-TF, or shorter than its header")
        self._pdu_left -= length + 4
        if 0 < self._pdu_left < _PDV.size:
            raise Malformed("P-DATA-TF ends within the header of a fragment")
        self._fragment_left = length - 2
        return None if self._fragment_left else self._fragment(self._buffer[:0])

    def _some(self) -> Fragment:
        take = min(self._fragment_left, self._end - self._at)
        content = self._buffer[self._at : self._at + take]
        self._at += take
        self._fragment_left -= take
        return self._fragment(content)

    def _fragment(self, content: memoryview) -> Fragment:
        last = bool(self._control & _LAST) and self._fragment_left == 0
        return Fragment(self._context_id, bool(self._control & _COMMAND), last, content)

    def _collected(self) -> Whole | None:
        whole = self._whole if self._whole is not None else bytearray()
        take = min(self._pdu_left, self._end - self._at)
        whole += self._buffer[self._at : self._at + take]
        self._at += take
        self._pdu_left -= take
        if self._pdu_left:
            return None
        self._whole = None
        return Whole(bytes(whole))


def p_data(context_id: int, command: bytes, max_pdu_bytes: int) -> list[bytes]:
    """A command set without data set as P-DATA-TF, in PDUs that the peer takes; 0 is without a bound."""
    size = max((max_pdu_bytes - _PDV.size) & ~1, 2) if max_pdu_bytes else len(command)  # fragments are even (E.1)
    pdus = []
    for at in range(0, len(command), size):
        part = command[at : at + size]
        control = _COMMAND | (_LAST if at + size >= len(command) else 0)
        header = _PDU.pack(P_DATA_TF, len(part) + _PDV.size) + _PDV.pack(len(part) + 2, context_id, control)
        pdus.append(header + part)
    return pdus
