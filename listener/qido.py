"""What an archive holds, asked by DICOMweb: QIDO-RS for series and images (PS3.18 10.6)."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.listener.cfind import Listed, listed, text

MOST_BYTES = 16 * 1024**2
_IMAGE_FIELDS = ("00080016", "00080018")  # SOP Class, SOP Instance UID
_FIELDS = ("00080060", "0008103E", "0020000E", "00201209")  # Modality, description, Series UID, number of images

_NONE: Mapping[str, str] = MappingProxyType({})

# What a peer's nonsense makes of json and of pydicom's reading of it.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


def series(base: str, study_uid: str, *, authorization: str | None, timeout_s: float) -> list[Listed]:
    """The series of a study at ``base`` (http or https); none when it is not known there.

    Unavailable when the archive does not say.
    """
    matches = _matches(f"{base.rstrip('/')}/studies/{study_uid}/series", _FIELDS, authorization, timeout_s)
    return [one for match in matches if (one := listed(match, study_uid)) is not None]


def images(
    base: str, *, authorization: str | None, timeout_s: float, study_uid: str = "", series_uid: str = "",
    sop_uid: str = "",
) -> dict[str, str]:  # fmt: skip
    """SOP Instance UID to SOP Class UID (empty where it is not said) of a series, or of one image by itself."""
    base = base.rstrip("/")
    url = f"{base}/studies/{study_uid}/series/{series_uid}/instances" if study_uid else f"{base}/instances"
    matches = _matches(url, _IMAGE_FIELDS, authorization, timeout_s, {"SOPInstanceUID": sop_uid} if sop_uid else {})
    found = {text(one, "SOPInstanceUID"): text(one, "SOPClassUID") for one in matches}
    return {uid: kind for uid, kind in found.items() if uid and sop_uid in {"", uid}}


def _matches(
    url: str, fields: Sequence[str], authorization: str | None, timeout_s: float, keys: Mapping[str, str] = _NONE,
) -> Iterator[Dataset]:  # fmt: skip
    query = urllib.parse.urlencode([*keys.items(), *(("includefield", field) for field in fields)])
    request = urllib.request.Request(  # noqa: S310  the settings allow http and https alone
        f"{url}?{query}", headers={"Accept": "application/dicom+json"}
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
            return
        raise Unavailable(Reason.DESTINATION_BUSY, f"QIDO-RS answered {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(Reason.DESTINATION_DOWN, f"QIDO-RS: {type(error).__name__}") from None
    if status == http.HTTPStatus.NO_CONTENT or not body.strip():
        return
    if len(body) > MOST_BYTES:
        raise Unavailable(Reason.DESTINATION_BUSY, "the answer to QIDO-RS does not end")
    yield from _parsed(body, fields)


def _parsed(body: bytes, fields: Sequence[str]) -> Iterator[Dataset]:
    try:
        matches: Any = json.loads(body)
        for match in matches:
            yield Dataset.from_json({field: match[field] for field in fields if field in match})
    except _MALFORMED:
        raise Unavailable(Reason.DESTINATION_BUSY, "QIDO-RS: the answer is not DICOM JSON") from None
