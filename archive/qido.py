"""QIDO-RS as a client (PS3.18 10.6): the same questions as C-FIND, answered with the same data sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
from pydicom import Dataset

from cauda.archive.http_client import DICOM_JSON, MALFORMED, raise_if_away, send

_Parameters = list[tuple[str, str | int | float | bool | None]]


def find(client: httpx.Client, base: str, question: Dataset) -> list[Dataset] | None:
    """The matches of a question as for C-FIND; None where the archive cannot answer it.

    Unavailable where an administrator has to let us in, or the archive is not there.
    """
    keys = {element.keyword: str(element.value) for element in question if element.value not in ("", None)}
    fields = [element.keyword for element in question if element.value in ("", None)]
    path, below = _resource(keys)
    parameters: _Parameters = [*keys.items(), *(("includefield", keyword) for keyword in fields)]
    request = client.build_request("GET", f"{base}/{path}", params=parameters, headers={"Accept": DICOM_JSON})
    status, body = send(client, request)
    if status == httpx.codes.NO_CONTENT or (status == httpx.codes.OK and not body.strip()):
        return []
    if status == httpx.codes.NOT_FOUND and below:
        return []
    if status != httpx.codes.OK:
        raise_if_away(status, body)
        return None
    try:
        return [_match(one, question) for one in json.loads(body)]
    except MALFORMED:
        return None


def _resource(keys: dict[str, str]) -> tuple[str, bool]:
    """The path of a question, whose keys it takes out; and whether it lies below a study, which may not be there.

    All series of a study and all images of a series have paths that every archive knows; other questions are keys.
    """
    level = keys.pop("QueryRetrieveLevel")
    if level == "SERIES" and "SeriesInstanceUID" not in keys and "StudyInstanceUID" in keys:
        return f"studies/{keys.pop('StudyInstanceUID')}/series", True
    if level == "IMAGE" and "SOPInstanceUID" not in keys and {"StudyInstanceUID", "SeriesInstanceUID"} <= set(keys):
        return f"studies/{keys.pop('StudyInstanceUID')}/series/{keys.pop('SeriesInstanceUID')}/instances", True
    return {"STUDY": "studies", "SERIES": "series", "IMAGE": "instances"}[level], False


def _match(one: Mapping[str, Any], question: Dataset) -> Dataset:
    """What was asked for of a match: what else comes along may be malformed."""
    asked = [f"{element.tag:08X}" for element in question]
    found = Dataset.from_json({tag: one[tag] for tag in asked if tag in one})
    found.SpecificCharacterSet = "ISO_IR 192"  # JSON is UTF-8, whatever the images were
    return found
