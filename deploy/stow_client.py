"""The sending end of STOW-RS (PS3.18 10.5): one request takes the place of an association.

Its images go out in chunks while they are encoded; the one answer at the end says of each whether it is stored.
"""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.filewriter import dcmwrite

from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.deploy.tally import NO_ANSWER, NO_ASSOCIATION, NOT_ENCODED, Answer

_ANSWER_S = 60.0
_MOST_BYTES = 16 * 1024**2  # of an answer
_PIECE = 256 * 1024  # bytes handed to the socket at once
_JSON = "application/dicom+json"
_STORED, _FAILED = "00081199", "00081198"  # Referenced SOP Sequence, Failed SOP Sequence
_SOP_UID, _FAILURE, _WARNING = "00081155", "00081197", "00081196"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A STOW-RS service."""

    base: str  # http(s)://HOST:PORT/PATH, above /studies
    host: str
    port: int
    path: str
    tls: bool = False
    authorization: str | None = None  # the header's value

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"stow+{self.base}"

    def opened(self, images: Sequence[Dataset], on_sent: Callable[[int], None]) -> Requests:  # noqa: ARG002  as `Node`
        """A new connection; Unavailable when nobody answers. ``on_sent`` is told how many bytes were sent."""
        if self.tls:
            made: HTTPConnection = HTTPSConnection(
                self.host, self.port, timeout=_ANSWER_S, context=ssl.create_default_context()
            )
        else:
            made = HTTPConnection(self.host, self.port, timeout=_ANSWER_S)
        try:
            made.connect()
        except OSError as error:
            why = str(error.reason) if isinstance(error, ssl.SSLError) else f"nobody answers at {self.host}:{self.port}"
            raise Unavailable(Reason.DESTINATION_DOWN, f"{NO_ASSOCIATION}: {why}") from error
        return Requests(self, made, on_sent)


class Requests:
    """A connection that requests are sent over, one after another."""

    def __init__(self, service: Service, connection: HTTPConnection, on_sent: Callable[[int], None]) -> None:
        """Of a connection that is open."""
        self._service = service
        self._connection = connection
        self._on_sent = on_sent
        self._last: Dataset | None = None

    @property
    def alive(self) -> bool:
        """Whether another request can be sent."""
        return self._connection.sock is not None

    def serves(self, images: Sequence[Dataset]) -> bool:  # noqa: ARG002  as `Association`
        """Whether images may be sent over it later: its end is the request's."""
        return False

    def sent(self, images: Sequence[Dataset], stopped: Callable[[], bool]) -> Iterator[Answer]:
        """Send images in one request and wait for its answer; fewer when ``stopped``.

        An image's time runs from its first byte to that answer.
        """
        boundary = secrets.token_hex(16)
        began: list[tuple[str, float | None]] = []  # None: it could not be encoded

        def body() -> Iterator[bytes]:
            for image in images:
                if stopped():
                    break
                self._last = image
                part = _part10(image)
                began.append((str(image.SOPInstanceUID), None if part is None else time.perf_counter()))
                if part is not None:
                    yield from self._told(_head(boundary), *_pieces(part), b"\r\n")
            yield from self._told(f"--{boundary}--\r\n".encode())

        answer = self._requested(boundary, body())
        now = time.perf_counter()
        for sop_uid, begun in began:
            if begun is None:
                yield Answer(None, NOT_ENCODED)
            elif answer is None:
                yield Answer(None, NO_ANSWER)
            else:
                yield answer.of(sop_uid, now - begun)

    def release(self) -> None:
        """Close it; the request has ended already."""
        self._connection.close()

    def abort(self) -> None:
        """Break off in the middle of a further request, with half of the last image."""
        if self._last is not None and (part := _part10(self._last)) is not None:
            boundary = secrets.token_hex(16)
            half = iter(self._told(_head(boundary), part[: len(part) // 2]))
            cut = self._connection
            try:
                cut.putrequest("POST", f"{self._service.path}/studies")
                for name, value in self._headers(boundary).items():
                    cut.putheader(name, value)
                cut.endheaders()
                for piece in half:
                    cut.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            except (OSError, HTTPException):
                pass  # it is gone already, which is what was wanted
        self._connection.close()

    def _headers(self, boundary: str) -> dict[str, str]:
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Transfer-Encoding": "chunked",
            "Accept": _JSON,
        }
        if self._service.authorization:
            headers["Authorization"] = self._service.authorization
        return headers

    def _told(self, *pieces: bytes) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self._on_sent(len(piece))

    def _requested(self, boundary: str, body: Iterator[bytes]) -> _Said | None:
        """What was answered; None when nothing was, and then the connection is closed."""
        connection, headers = self._connection, self._headers(boundary)
        try:
            try:
                connection.request("POST", f"{self._service.path}/studies", body, headers, encode_chunked=True)
            except OSError:
                if connection.sock is None:
                    return None
            response = connection.getresponse()  # also when it came before all was sent, as a refusal may
            text = response.read(_MOST_BYTES)
        except (OSError, HTTPException):
            connection.close()
            return None
        return _Said(response.status, _parsed(text))


@dataclass(frozen=True, slots=True)
class _Said:
    """The answer to a request."""

    status: int
    items: dict[str, tuple[str, int]]  # by SOP Instance UID: sequence and reason

    def of(self, sop_uid: str, seconds: float) -> Answer:
        """What it says of an image."""
        where, reason = self.items.get(sop_uid, ("", 0))
        if where == _STORED:
            return Answer(seconds, warning=f"{reason:04X}" if reason else None)
        if where == _FAILED:
            return Answer(seconds, refusal=f"{reason:04X}")
        return Answer(seconds, refusal=f"HTTP {self.status}" + ("" if self.status >= 300 else ", image not mentioned"))


def _parsed(text: bytes) -> dict[str, tuple[str, int]]:
    """The items of a Store Instances Response (PS3.18 table 10.5.3-2); none when it is no DICOM JSON."""
    found: dict[str, tuple[str, int]] = {}
    try:
        said: Any = json.loads(text)
        said = said[0] if isinstance(said, list) else said
        for where, reason in ((_STORED, _WARNING), (_FAILED, _FAILURE)):
            for item in said.get(where, {}).get("Value", ()):
                (number,) = item.get(reason, {}).get("Value", (0,))
                found[str(item[_SOP_UID]["Value"][0])] = where, int(number)
    except (ValueError, TypeError, AttributeError, LookupError):
        return found
    return found


def _part10(image: Dataset) -> bytes | None:
    """The file (PS3.10); None when it cannot be encoded."""
    written = BytesIO()
    try:
        dcmwrite(written, image, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError):
        return None
    return written.getvalue()


def _head(boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _pieces(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), _PIECE):
        yield content[at : at + _PIECE]
