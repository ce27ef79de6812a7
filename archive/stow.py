"""STOW-RS as a client (PS3.18 10.5): one Part 10 file a request."""

from __future__ import annotations

import json
import secrets

import httpx
from pydicom import Dataset

from cauda.archive.http_client import DICOM_JSON, MALFORMED, raise_if_away, send, status_words
from cauda.archive.store_status import Meaning, meaning
from cauda.core.domain import Reason
from cauda.core.errors import Rejected, Unavailable


def store(client: httpx.Client, base: str, sop_uid: str, content: bytes) -> str:
    """Send one Part 10 file; returns the archive's words beside a plain success.

    Rejected when it will never be taken, Unavailable when not now.
    """
    boundary = secrets.token_hex(16)
    body = (
        f"--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    request = client.build_request(
        "POST", f"{base}/studies", content=body, headers={"Content-Type": kind, "Accept": DICOM_JSON}
    )
    return _stored(*send(client, request), sop_uid)


def _stored(status: int, body: bytes, sop_uid: str) -> str:
    """What the answer to STOW-RS means for one instance (PS3.18 10.5.3)."""
    code, detail = _code(_answer(body), sop_uid)
    if code is None:
        if 200 <= status < 300:
            return "" if status == 200 else status_words(status, body)
        raise_if_away(status, body)
        raise Rejected(Reason.DESTINATION_REFUSED, status_words(status, body))
    words = f"status {code:04X}" + (f": {detail}" if detail else "")
    match meaning(code):
        case Meaning.ACCEPTED:
            return words
        case Meaning.PASSING:
            raise Unavailable(Reason.DESTINATION_BUSY, words)
        case Meaning.REFUSED:
            raise Rejected(Reason.DESTINATION_REFUSED, words)


def _answer(body: bytes) -> Dataset:
    try:
        answer = json.loads(body)
        return Dataset.from_json(answer[0] if isinstance(answer, list) else answer)
    except MALFORMED:
        return Dataset()


def _code(answer: Dataset, sop_uid: str) -> tuple[int | None, str]:
    """Failure or warning reason of the instance, with the archive's comment; None where the answer gives none."""
    try:
        for keyword, reason in (("FailedSOPSequence", "FailureReason"), ("ReferencedSOPSequence", "WarningReason")):
            for item in answer.get(keyword) or ():
                if item.get("ReferencedSOPInstanceUID", sop_uid) == sop_uid and reason in item:
                    return int(item[reason].value), str(item.get("ErrorComment") or answer.get("ErrorComment") or "")
    except MALFORMED:
        return None, ""
    return None, ""
