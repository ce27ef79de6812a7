"""A multipart/related body split into its parts as it comes (RFC 2046 5.1, RFC 2387).

Content is handed out while its part is still arriving; what is held back is less than a delimiter, and nothing grows
with what a peer sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from enum import Enum, auto

MAX_PREAMBLE_BYTES = 4096
MAX_HEADER_BYTES = 8192
MAX_PADDING_BYTES = 256  # white space between a delimiter and the end of its line
# RFC 2046 5.1.1 allows 70 characters; Orthanc's boundaries have 73
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,199}[0-9A-Za-z'()+_,\-./:=?]")


class Malformed(Exception):
    """The body is not what its Content-Type says. The text names no value."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A part begins; its media type in lower case, empty when it does not say."""

    media_type: str


@dataclass(frozen=True, slots=True)
class Content:
    """The next bytes of the part."""

    content: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The part is whole: the delimiter after it was seen."""


class _Where(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()
    HEADER = auto()
    CONTENT = auto()
    EPILOGUE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """A Content-Type: the type in lower case, and of its parameters those that matter here."""

    name: str
    root_type: str  # multipart/related's "type", in lower case
    boundary: str


def media_type(header: str) -> MediaType:
    """A Content-Type header's value; Malformed when its boundary is none."""
    message = Message()
    message["Content-Type"] = header.replace("\r", "").replace("\n", "")
    boundary = str(message.get_boundary(""))
    if boundary and not _BOUNDARY.fullmatch(boundary):
        raise Malformed("the boundary is not 1 to 200 characters of those that RFC 2046 allows")
    root = message.get_param("type", "")
    name = header.split(";", 1)[0].strip().lower()
    return MediaType(name=name, root_type=str(root).lower(), boundary=boundary)


class Splitter:
    """Where in a body we stand."""

    def __init__(self, boundary: str) -> None:
        """``boundary`` as `media_type` gives it."""
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._held = bytearray(b"\r\n")  # the first delimiter needs no line end before it
        self._where = _Where.PREAMBLE
        self._skipped = 0
        self._fresh = True  # no content of the part was handed out yet

    @property
    def complete(self) -> bool:
        """Whether the closing delimiter was seen."""
        return self._where is _Where.EPILOGUE

    def feed(self, content: bytes) -> Iterator[Begin | Content | End]:
        """What the next bytes of the body bring. Raises Malformed."""
        self._held += content
        while True:
            before = self._where, len(self._held)
            match self._where:
                case _Where.PREAMBLE:
                    self._preamble()
                case _Where.DELIMITER:
                    self._after_delimiter()
                case _Where.HEADER:
                    yield from self._header()
                case _Where.CONTENT:
                    yield from self._content()
                case _Where.EPILOGUE:
                    self._held.clear()
            if (self._where, len(self._held)) == before:
                return

    def _preamble(self) -> None:
        at = self._held.find(self._delimiter)
        self._skipped += self._until_delimiter(at)
        if self._skipped > MAX_PREAMBLE_BYTES:
            raise Malformed("the body does not begin with its boundary")
        if at >= 0:
            self._where = _Where.DELIMITER

    def _until_delimiter(self, at: int) -> int:
        """Forget what lies before a delimiter at a place, and itself; or all that cannot be part of one (-1)."""
        gone = at + len(self._delimiter) if at >= 0 else max(len(self._held) - len(self._delimiter) + 1, 0)
        del self._held[:gone]
        return gone

    def _after_delimiter(self) -> None:
        if self._held[:2] == b"--":
            self._where = _Where.EPILOGUE
            return
        line = self._held.find(b"\r\n")
        padding = self._held[: line if line >= 0 else len(self._held)]
        if len(padding) > MAX_PADDING_BYTES or (line >= 0 and padding.strip(b" \t")):
            raise Malformed("a boundary is followed by something else on its line")
        if line >= 0:
            del self._held[:line]  # its line end may be the one before an empty header
            self._where = _Where.HEADER

    def _header(self) -> Iterator[Begin]:
        end = self._held.find(b"\r\n\r\n")
        if max(end, len(self._held) if end < 0 else 0) > MAX_HEADER_BYTES:
            raise Malformed("a part's header is longer than any honest one")
        if end < 0:
            return
        found = ""
        for line in bytes(self._held[:end]).split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon and name.strip().lower() == b"content-type":
                found = value.split(b";", 1)[0].strip().lower().decode("ascii", "replace")
        del self._held[: end + 2]  # the delimiter after an empty part begins with the header's last line end
        self._where = _Where.CONTENT
        self._fresh = True
        yield Begin(found)

    def _content(self) -> Iterator[Content | End]:
        at = self._held.find(self._delimiter)
        stop = at if at >= 0 else max(len(self._held) - len(self._delimiter) + 1, 0)
        skip = 2 if self._fresh else 0  # the header's last line end
        if at >= 0 or stop > skip:
            if stop > skip:
                yield Content(bytes(memoryview(self._held)[skip:stop]))
            self._fresh = False
            self._until_delimiter(at)
        if at >= 0:
            self._where = _Where.DELIMITER
            yield End()
