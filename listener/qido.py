"""What an archive holds of a study, asked by DICOMweb: QIDO-RS for its series (PS3.18 10.6)."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.listener.cfind import Listed, listed

MOST_BYTES = 16 * 1024**2
_FIELDS = ("00080060", "0008103E", "0020000E", "00201209")  # Modality, description, Series UID, number of images

# What a peer's nonsense makes of json and of pydicom's reading of it.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


def series(base: str, study_uid: str, *, authorization: str | None, timeout_s: float) -> list[Listed]:
    """The series of a study at ``base`` (http or https); none when it is not known there.

    Unavailable when the archive does not say.
    """
    fields = "&".join(f"includefield={field}" for field in _FIELDS)
    request = urllib.request.Request(  # noqa: S310  the settings allow http and https alone
        f"{base.rstrip('/')}/studies/{study_uid}/series?{fields}", headers={"Accept": "application/dicom+json"}
    )
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # an archive is no web site
        with opener.open(request, timeout=timeout_s) as answer:
            body = answer.read(MOST_BYTES + 1)
            status = answer.status
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.NOT_FOUND:
            return []
        raise Unavailable(Reason.DESTINATION_BUSY, f"QIDO-RS answered {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(Reason.DESTINATION_DOWN, f"QIDO-RS: {type(error).__name__}") from None
    if status == http.HTTPStatus.NO_CONTENT or not body.strip():
        return []
    if len(body) > MOST_BYTES:
        raise Unavailable(Reason.DESTINATION_BUSY, "the answer to QIDO-RS does not end")
    return list(_parsed(body, study_uid))


def _parsed(body: bytes, study_uid: str) -> Iterator[Listed]:
    try:
        matches: Any = json.loads(body)
        for match in matches:
            one = listed(Dataset.from_json({field: match[field] for field in _FIELDS if field in match}), study_uid)
            if one is not None:
                yield one
    except _MALFORMED:
        raise Unavailable(Reason.DESTINATION_BUSY, "QIDO-RS: the answer is not DICOM JSON") from None
