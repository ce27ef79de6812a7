"""A peer's bytes split into PDUs, and P-DATA-TF into fragments, as they come (PS3.8 sections 9.3 and E.2).

Fragments are handed out while their PDU is still arriving, as views of the receive buffer, which goes on behind those
that are kept: nothing is copied, and nothing grows with what a peer claims.
"""

from __future__ import annotations

import mmap
import struct
from contextlib import suppress
from dataclasses import dataclass

P_DATA_TF = 0x04
_KNOWN = frozenset(range(0x01, 0x08))
MAX_OTHER_BYTES = 1 << 20  # an A-ASSOCIATE-RQ with 128 contexts of all transfer syntaxes has a fifth of it
SLOWEST_BYTES_S = 1024  # a message that comes slower on the whole is no honest one
_BUFFER_BYTES = (2 << 20) + (1 << 16)  # an image of 1024 x 1024 with its headers is there whole
_LEAST_BYTES = 1 << 14
_PDU = struct.Struct(">BxI")
_PDV = struct.Struct(">IBB")
_COMMAND, _LAST = 0x01, 0x02


class Malformed(Exception):
    """The peer's bytes are no DICOM: the association is aborted. The text is for the log and names no value."""


@dataclass(slots=True)
class Fragment:
    """Part of a command or data set; ``last`` with the final bytes of it. The view lasts until `room` begins anew."""

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
        self._memory = mmap.mmap(-1, _BUFFER_BYTES)  # pages that nothing comes into cost nothing
        self._buffer = memoryview(self._memory)
        self._at = self._end = 0
        self._header = bytearray()  # of a PDU or a fragment, as far as it has come
        self._whole: bytearray | None = None
        self._pdu_left = self._fragment_left = 0
        self._context_id = self._control = 0

    @property
    def between(self) -> bool:
        """Whether no PDU has begun that is not yet handed out whole."""
        return not self._header and self._whole is None and self._pdu_left == 0 and self._at == self._end

    @property
    def full(self) -> bool:
        """Whether what is handed out should be kept no longer: little room is left behind it."""
        return self._end > _BUFFER_BYTES - _LEAST_BYTES

    def room(self, *, anew: bool) -> memoryview:
        """Where to receive into; everything received before must have been taken. ``anew``: none of it is kept."""
        if anew:
            self._at = self._end = 0
        return self._buffer[self._end :]

    def close(self) -> None:
        """Give the buffer back at once; nothing may be received after."""
        self._buffer = memoryview(b"")
        self._at = self._end = 0
        with suppress(BufferError):  # somebody still looks at it: then the collector does it
            self._memory.close()

    def received(self, count: int) -> None:
        """So many bytes lie in `room` now."""
        self._end += count

    def next(self) -> Fragment | Whole | None:
        """What comes next; None when more has to be received. Raises Malformed."""
        while True:
            if self._fragment_left:
                return self._some() if self._at < self._end else None
            if self._whole is not None:
                return self._collected()
            header = self._gather(_PDV if self._pdu_left else _PDU)
            if header is None:
                return None
            if not self._pdu_left:
                self._begin_pdu(*header)
            elif (empty := self._begin_fragment(*header)) is not None:
                return empty

    def _gather(self, header: struct.Struct) -> tuple[int, ...] | None:
        """The numbers of a header; None when more of it has to be received."""
        if not self._header and self._end - self._at >= header.size:
            self._at += header.size
            return header.unpack_from(self._buffer, self._at - header.size)
        take = min(header.size - len(self._header), self._end - self._at)
        self._header += self._buffer[self._at : self._at + take]
        self._at += take
        if len(self._header) < header.size:
            return None
        whole = header.unpack(self._header)
        self._header.clear()
        return whole

    def _begin_pdu(self, kind: int, length: int) -> None:
        if kind not in _KNOWN:
            raise Malformed("PDU of an unknown type")
        if kind == P_DATA_TF:
            if length > self.max_pdu_bytes:
                raise Malformed("P-DATA-TF longer than the maximum length that was negotiated")
            if length < _PDV.size:
                raise Malformed("P-DATA-TF without a fragment")
        else:
            if length > MAX_OTHER_BYTES:
                raise Malformed("PDU longer than any honest one")
            self._whole = bytearray(_PDU.pack(kind, length))
        self._pdu_left = length

    def _begin_fragment(self, length: int, context_id: int, control: int) -> Fragment | None:
        if length < 2 or length + 4 > self._pdu_left:
            raise Malformed("fragment longer than its P-DATA-TF, or shorter than its header")
        self._pdu_left -= length + 4
        if 0 < self._pdu_left < _PDV.size:
            raise Malformed("P-DATA-TF ends within the header of a fragment")
        self._context_id, self._control = context_id, control
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
