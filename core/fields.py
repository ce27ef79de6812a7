"""Kinds of values in settings, each checked where it is written."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _aet(text: str) -> str:
    if not 1 <= len(text.strip()) <= 16 or not text.isascii() or "\\" in text or not text.isprintable():
        msg = "an AE title has 1 to 16 printable ASCII characters without backslash (PS3.5 AE)"
        raise ValueError(msg)
    return text.strip()


def _network(text: str) -> str:
    ipaddress.ip_network(text, strict=False)
    return text


def _proxy_network(text: str) -> str:
    if ipaddress.ip_network(text, strict=False).prefixlen == 0:
        raise ValueError("names everybody: name the proxy's address, such as 127.0.0.1")
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError("not a name of the IANA time zone database, such as Europe/Berlin") from error
    return text


def _page_modality(text: str) -> str:
    """MR would count as a series of the scanner's when the archive is asked what a study should hold."""
    if not 2 <= len(text) <= 16 or not (text.isascii() and text.isalpha() and text.isupper()) or text in {"MR", "SR"}:
        raise ValueError('a DICOM modality in capitals, such as "OT" or "XC"; not MR or SR, which are other series')
    return text


AeTitle = Annotated[str, AfterValidator(_aet)]
Network = Annotated[str, AfterValidator(_network)]
ProxyNetwork = Annotated[str, AfterValidator(_proxy_network)]
PageModality = Annotated[str, AfterValidator(_page_modality)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A part of the settings: frozen, and without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
