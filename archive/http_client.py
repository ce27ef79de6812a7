"""HTTP with an archive: bounded answers, no proxy, no redirect; what a status means for the next attempt."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.settings import Destination

DICOM_JSON = "application/dicom+json"
# What a peer's nonsense makes of json and of pydicom's reading of it.
MALFORMED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

_MOST_BYTES = 16 * 1024**2
_MOST_CONNECT_S = 10.0
_ANSWER_TIMEOUTS = 4  # an answer may take as many times the time that one part of it may take


@contextmanager
def open_client(to: Destination, *, timeout_s: float) -> Iterator[httpx.Client]:
    """A client that names us as the settings have it; nothing is asked yet."""
    headers = {}
    if (authorization := _authorization(to)) is not None:
        headers["Authorization"] = authorization
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _MOST_CONNECT_S))
    # an archive is no web site: no proxy, and no answer sends patient data elsewhere
    with httpx.Client(
        verify=ssl.create_default_context(), trust_env=False, follow_redirects=False, timeout=timeout, headers=headers
    ) as client:
        yield client


def send(client: httpx.Client, request: httpx.Request) -> tuple[int, bytes]:
    """Status and body, which is bounded in size and time."""
    try:
        answer = client.send(request, stream=True)
        until = time.monotonic() + _ANSWER_TIMEOUTS * (client.timeout.read or 0.0)
        try:
            body = b""
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES or time.monotonic() > until:
                    raise Unavailable(Reason.DESTINATION_BUSY, "the answer does not end")
        finally:
            answer.close()
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unavailable(Reason.DESTINATION_DOWN, f"no answer: {type(error).__name__}") from None
    except httpx.HTTPError as error:
        raise Unavailable(Reason.DESTINATION_BUSY, f"broke off: {type(error).__name__}") from None
    return answer.status_code, body


def raise_if_away(status: int, body: bytes) -> None:
    """What an administrator has to mend, and what passes; anything else is about the request."""
    words = status_words(status, body)
    if status in {401, 403, 404, 407} or 300 <= status < 400:
        raise Unavailable(Reason.DESTINATION_REFUSED, words)
    if status in {408, 425, 429} or status >= 500:
        raise Unavailable(Reason.DESTINATION_BUSY, words)


def status_words(status: int, body: bytes) -> str:
    """The status and what a plain text answer says; markup tells nobody anything."""
    text = body[:300].decode("utf-8", "replace").strip()
    return f"HTTP {status}" + ("" if not text or text[0] in "<[{" else f": {text}")


def _authorization(to: Destination) -> str | None:
    if to.authorization_file is None:
        return to.authorization.get_secret_value() if to.authorization else None
    try:
        return to.authorization_file.read_text().strip()
    except OSError as error:
        raise Misconfigured(
            f"destinations {to.name}: authorization_file {to.authorization_file} cannot be read ({error.strerror})"
        ) from error
