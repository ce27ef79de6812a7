"""A peer's bytes split into PDUs, and P-DATA-TF into fragments, as they come (PS3.8 sections 9.3 and E.2).

Fragments are handed out while their PDU is still arriving: nothing grows with what a peer claims. Those of a data set
that is collected are put behind one another: a large one is received where it belongs, but for what came with the bytes
before it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cauda.core.domain import Reason
from cauda.core.draft import LEAST_BYTES, Draft

P_DATA_TF = 0x04
KNOWN = frozenset(range(0x01, 0x08))
_TLS_HANDSHAKE = 0x16  # the first byte of a TLS record (RFC 8446 5.1)
MAX_OTHER_BYTES = 1 << 20  # an A-ASSOCIATE-RQ with 128 contexts of all transfer syntaxes has a fifth of it
SLOWEST_BYTES_S = 1024  # a message that comes slower on the whole is no honest one
_DESK_BYTES = LEAST_BYTES  # what lies there always finds room in a draft that is not full
_LARGE_BYTES = 1 << 15  # of a fragment; smaller ones are received many at a time
_PDU = struct.Struct(">BxI")
_PDV = struct.Struct(">IBB")
_BOTH = struct.Struct(">BxIIBB")  # as they mostly come
_COMMAND, _LAST = 0x01, 0x02
_NOTHING = memoryview(b"")


class Malformed(Exception):
    """The peer's bytes are no DICOM: the association is aborted. The text is for the log and names no value."""

    def __init__(self, text: str, reason: Reason = Reason.PDU_UNREADABLE) -> None:
        super().__init__(text)
        self.reason = reason


def reason_of(kind: int) -> Reason:
    """What a first byte that begins no PDU means."""
    return Reason.TLS_ON_PLAIN_PORT if kind == _TLS_HANDSHAKE else Reason.NOT_DICOM


@dataclass(slots=True)
class Fragment:
    """Part of a command or data set; ``last`` with the final bytes of it.

    The view lasts until more is received. Of a data set that is collected only the last one is handed out, and those
    that leave the draft full, all with an empty view.
    """

    context_id: int
    command: bool
    last: bool
    content: memoryview


@dataclass(slots=True)
class Whole:
    """A PDU other than P-DATA-TF, with its header."""

    content: bytes


class Stream:
    """What was received of one association and where in a PDU it stands."""

    def __init__(self, max_pdu_bytes: int) -> None:
        """``max_pdu_bytes`` is what we announce as our Maximum Length (PS3.8 D.1), if it is not lowered."""
        self.max_pdu_bytes = max_pdu_bytes
        self._desk = memoryview(bytearray(_DESK_BYTES))
        self._on_desk, self._headers = (self._desk,), self._desk[: _BOTH.size]
        self._at = self._end = 0  # of what lies there
        self._header = bytearray()  # of a PDU or a fragment, as far as it has come
        self._whole: bytearray | None = None
        self._pdu_left = self._fragment_left = 0
        self._context_id = self._control = 0
        self._draft: Draft | None = None
        self._collected_id = 0
        self._into: Draft | None = None  # where this fragment goes
        self._large = False
        self._due = False  # what `fill` put there is to be told of

    @property
    def between(self) -> bool:
        """Whether no PDU has begun that is not yet handed out whole."""
        begun = self._header or self._whole is not None or self._pdu_left or self._fragment_left
        return not begun and self._at == self._end

    def collect(self, draft: Draft, context_id: int) -> None:
        """Put the data set that comes next, in this context, into ``draft``; whoever finds that full makes room."""
        self._draft, self._collected_id = draft, context_id

    def hand_out(self) -> None:
        """Collect no more."""
        self._draft = self._into = None

    def fill(self, receive: Callable[[Sequence[memoryview]], int | None]) -> int | None:
        """Let ``receive`` fill memory, one piece after the other; returns what it does: the bytes that came, or None.

        Everything that came before must have been taken.
        """
        self._at = self._end = 0
        if self._into is None or not (self._large and self._fragment_left):
            count = receive(self._on_desk)
            self._end = count or 0
            return count
        place = self._into.room(self._fragment_left)
        count = receive((place, self._headers))  # and what says where the next fragment belongs
        if count:
            placed = min(count, len(place))
            self._end = count - placed
            self._fragment_left -= placed
            self._due = self._into.grow(placed) or self._ended
        return count

    def next(self) -> Fragment | Whole | None:
        """What comes next; None when more has to be received. Raises Malformed."""
        while True:
            if self._due:
                self._due = False
                return self._fragment(_NOTHING)
            begun = self._pdu_left or self._header
            if self._fragment_left:
                if self._at == self._end:
                    return None
                part = self._some()
            elif self._whole is not None:
                return self._other()
            elif not begun and self._end - self._at >= _BOTH.size and self._desk[self._at] == P_DATA_TF:
                kind, whole, length, context_id, control = _BOTH.unpack_from(self._desk, self._at)
                self._at += _BOTH.size
                self._begin_pdu(kind, whole)
                part = self._begin_fragment(length, context_id, control)
            else:
                header = self._gather(_PDV if self._pdu_left else _PDU)
                if header is None:
                    return None
                if self._pdu_left:
                    part = self._begin_fragment(*header)
                else:
                    self._begin_pdu(*header)
                    continue
            if part is not None:
                return part

    @property
    def _ended(self) -> bool:
        """Whether the command or data set has."""
        return self._fragment_left == 0 and bool(self._control & _LAST)

    def _gather(self, header: struct.Struct) -> tuple[int, ...] | None:
        """The numbers of a header; None when more of it has to be received."""
        if not self._header and self._end - self._at >= header.size:
            self._at += header.size
            return header.unpack_from(self._desk, self._at - header.size)
        take = min(header.size - len(self._header), self._end - self._at)
        self._header += self._desk[self._at : self._at + take]
        self._at += take
        if len(self._header) < header.size:
            return None
        whole = header.unpack(self._header)
        self._header.clear()
        return whole

    def _begin_pdu(self, kind: int, length: int) -> None:
        if kind not in KNOWN:
            raise Malformed("PDU of an unknown type", reason_of(kind))
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
        self._large = self._fragment_left >= _LARGE_BYTES
        self._into = None if control & _COMMAND else self._draft
        if self._into is not None and context_id != self._collected_id:
            raise Malformed("a data set that belongs to no command")
        return None if self._fragment_left else self._some()

    def _some(self) -> Fragment | None:
        take = min(self._fragment_left, self._end - self._at)
        content = self._desk[self._at : self._at + take]
        self._at += take
        self._fragment_left -= take
        if self._into is None:
            return self._fragment(content)
        return self._fragment(_NOTHING) if self._into.add(content) or self._ended else None

    def _fragment(self, content: memoryview) -> Fragment:
        return Fragment(self._context_id, bool(self._control & _COMMAND), self._ended, content)

    def _other(self) -> Whole | None:
        whole = self._whole if self._whole is not None else bytearray()
        take = min(self._pdu_left, self._end - self._at)
        whole += self._desk[self._at : self._at + take]
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
