"""An archive spoken to in DICOMweb: QIDO-RS to see whose study it is, STOW-RS to send (PS3.18 10.5, 10.6)."""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Rejected, Unavailable
from cauda.core.settings import Destination
from cauda.worker.dimse import Meaning, meaning

_MOST_BYTES = 16 * 1024**2
_JSON = "application/dicom+json"
_LEVELS = {"STUDY": "studies", "SERIES": "series", "IMAGE": "instances"}
# What a peer's nonsense makes of json and of pydicom's reading of it.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


@dataclass(frozen=True, slots=True)
class WebArchive:
    """An archive at its base URL; every method raises as `dimse.Peer`'s do."""

    client: httpx.Client
    base: str

    @property
    def can_find(self) -> bool:
        """Only asking shows it."""
        return True

    @property
    def takes(self) -> None:
        """STOW-RS negotiates nothing."""

    def find(self, question: Dataset) -> list[Dataset] | None:
        """The matches of a question as for C-FIND; None where the archive cannot answer it."""
        match_on = {element.keyword: str(element.value) for element in question if element.value not in ("", None)}
        level = match_on.pop("QueryRetrieveLevel")
        wanted = [element.keyword for element in question if element.value in ("", None)]
        parameters: list[tuple[str, str | int | float | bool | None]] = [
            *match_on.items(),
            *(("includefield", keyword) for keyword in wanted),
        ]
        request = self.client.build_request(
            "GET", f"{self.base}/{_LEVELS[level]}", params=parameters, headers={"Accept": _JSON}
        )
        status, body = self._sent(request)
        if status == httpx.codes.NO_CONTENT or (status == httpx.codes.OK and not body.strip()):
            return []
        if status != httpx.codes.OK:
            _raise_if_away(status, body)
            return None
        try:
            return [_match(one) for one in json.loads(body)]
        except _MALFORMED:
            return None

    def store(self, result: Dataset, content: bytes) -> str:
        """Send one Part 10 file; returns the archive's words beside a plain success."""
        boundary = secrets.token_hex(16)
        body = (
            f"--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        request = self.client.build_request(
            "POST", f"{self.base}/studies", content=body, headers={"Content-Type": kind, "Accept": _JSON}
        )
        return _stored(*self._sent(request), str(result.SOPInstanceUID))

    def _sent(self, request: httpx.Request) -> tuple[int, bytes]:
        """Status and body, at most `_MOST_BYTES`."""
        try:
            answer = self.client.send(request, stream=True)
            try:
                body = b""
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise Unavailable(Reason.DESTINATION_BUSY, "the answer does not end")
            finally:
                answer.close()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(Reason.DESTINATION_DOWN, f"no answer: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise Unavailable(Reason.DESTINATION_BUSY, f"broke off: {type(error).__name__}") from None
        return answer.status_code, body


def _match(one: Mapping[str, Any]) -> Dataset:
    found = Dataset.from_json(dict(one))
    found.SpecificCharacterSet = "ISO_IR 192"  # JSON is UTF-8, whatever the images were
    return found


def _raise_if_away(status: int, body: bytes) -> None:
    """What an administrator has to mend, and what passes; anything else is about the request."""
    words = _words(status, body)
    if status in {401, 403, 404, 407} or 300 <= status < 400:
        raise Unavailable(Reason.DESTINATION_REFUSED, words)
    if status in {408, 425, 429} or status >= 500:
        raise Unavailable(Reason.DESTINATION_BUSY, words)


def _words(status: int, body: bytes) -> str:
    """The status and what a plain text answer says; markup tells nobody anything."""
    text = body[:300].decode("utf-8", "replace").strip()
    return f"HTTP {status}" + ("" if not text or text[0] in "<[{" else f": {text}")


def _stored(status: int, body: bytes, sop_uid: str) -> str:
    """What the answer to STOW-RS means for one instance (PS3.18 10.5.3)."""
    answer = _answer(body)
    code, detail = _code(answer, sop_uid)
    if code is None:
        if 200 <= status < 300:
            return "" if status == 200 else _words(status, body)
        _raise_if_away(status, body)
        raise Rejected(Reason.DESTINATION_REFUSED, _words(status, body))
    said = f"status {code:04X}" + (f": {detail}" if detail else "")
    match meaning(code):
        case Meaning.ACCEPTED:
            return said
        case Meaning.PASSING:
            raise Unavailable(Reason.DESTINATION_BUSY, said)
        case Meaning.REFUSED:
            raise Rejected(Reason.DESTINATION_REFUSED, said)


def _answer(body: bytes) -> Dataset:
    try:
        said = json.loads(body)
        return Dataset.from_json(said[0] if isinstance(said, list) else said)
    except _MALFORMED:
        return Dataset()


def _code(answer: Dataset, sop_uid: str) -> tuple[int | None, str]:
    """Failure or warning reason of the instance, with the archive's comment; None where the answer gives none."""
    try:
        for keyword, reason in (("FailedSOPSequence", "FailureReason"), ("ReferencedSOPSequence", "WarningReason")):
            for item in answer.get(keyword) or ():
                if item.get("ReferencedSOPInstanceUID", sop_uid) == sop_uid and reason in item:
                    return int(item[reason].value), str(item.get("ErrorComment") or answer.get("ErrorComment") or "")
    except _MALFORMED:
        return None, ""
    return None, ""


@contextmanager
def open_web(to: Destination, *, timeout_s: float) -> Iterator[WebArchive]:
    """A client for the archive; nothing is asked yet."""
    headers = {}
    if (authorization := _authorization(to)) is not None:
        headers["Authorization"] = authorization
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10))
    # an archive is no web site: no proxy, and nobody sends a result elsewhere
    with httpx.Client(
        verify=ssl.create_default_context(), trust_env=False, follow_redirects=False, timeout=timeout, headers=headers
    ) as client:
        yield WebArchive(client, str(to.base).rstrip("/"))


def _authorization(to: Destination) -> str | None:
    if to.authorization_file is None:
        return to.authorization.get_secret_value() if to.authorization else None
    try:
        return to.authorization_file.read_text().strip()
    except OSError as error:
        raise Misconfigured(
            f"destinations {to.name}: authorization_file {to.authorization_file} cannot be read ({error.strerror})"
        ) from error
