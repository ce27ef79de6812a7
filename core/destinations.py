"""Where results go, as a setting: an archive by DICOM or DICOMweb, or a folder."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr, model_validator

from cauda.core.fields import AeTitle, Port, Section


class Destination(Section):
    """Where results go: ``dimse://AET@HOST:PORT``, ``stow+http(s)://HOST:PORT/PATH`` or ``folder:PATH``.

    Options as ``?research=1&shadow=1&test=1``.
    """

    name: str
    kind: Literal["dimse", "stow", "folder"]
    aet: AeTitle | None = None
    host: str | None = None
    port: Port | None = None
    base: str | None = None  # stow: http(s)://HOST:PORT/PATH, above /studies
    authorization: SecretStr | None = None  # stow: the value of the Authorization header
    authorization_file: Path | None = None  # stow: where that value lies; read at each use
    path: Path | None = None
    calling_aet: AeTitle | None = None  # toward this destination; the node's own otherwise
    commitment: bool = False  # dimse: ask for storage commitment; the archive is read back otherwise
    research: bool = False
    shadow: bool = False
    test: bool = False
    sr: bool = True
    demographics: Literal["hold", "archive"] = "hold"

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        if isinstance(value, str):
            return destination_fields(value)
        if isinstance(value, dict) and "url" in value:
            rest = {k: v for k, v in value.items() if k != "url"}
            return destination_fields(str(value["url"])) | rest
        if isinstance(value, dict) and value.get("base"):
            return {"host": urlsplit(str(value["base"])).hostname} | value
        return value

    @model_validator(mode="after")
    def _whole(self) -> Destination:
        if self.kind == "dimse" and not (self.aet and self.host and self.port):
            msg = "a dimse destination needs dimse://AET@HOST:PORT"
            raise ValueError(msg)
        if self.kind == "stow" and not (self.host and str(self.base).startswith(("http://", "https://"))):
            msg = "a stow destination needs stow+http://HOST:PORT/PATH or stow+https://HOST/PATH"
            raise ValueError(msg)
        if self.kind != "dimse" and self.commitment:
            msg = "commitment is for dimse destinations; others are read back"
            raise ValueError(msg)
        if self.kind == "folder" and self.path is None:
            msg = "a folder destination needs folder:PATH"
            raise ValueError(msg)
        return self

    @property
    def local(self) -> bool:
        """Loopback host or folder: counts as research and as test (CLINICAL.md 16)."""
        return self.kind == "folder" or is_loopback(self.host or "")

    @property
    def live(self) -> bool:
        """Whether results of a non-clinical bundle are sent there rather than only made."""
        return not self.shadow and (self.research or self.local)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def destination_fields(url: str) -> dict[str, Any]:
    """A destination's fields from its URL form; the name is the URL without its options."""
    parts = urlsplit(url)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    name = url.split("?", 1)[0]
    if parts.scheme == "folder":
        return {"name": name, "kind": "folder", "path": unquote(parts.path or parts.netloc)} | options
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{parts.scheme}://...: the port is not a number up to 65535") from error
    if parts.scheme in {"stow+http", "stow+https"}:
        if "@" in parts.netloc:
            raise ValueError("no password in a stow URL, it would be shown; set authorization or authorization_file")
        return {
            "name": name, "kind": "stow", "host": parts.hostname, "port": port, "base": name.removeprefix("stow+"),
        } | options  # fmt: skip
    if parts.scheme == "dimse":
        if parts.password is not None:
            raise ValueError("dimse://AET@HOST:PORT has no password, it would be shown")
        return {
            "name": name,
            "kind": "dimse",
            # urlsplit lower-cases nothing in the user part, and AE titles are case-sensitive
            "aet": unquote(parts.username or ""),
            "host": parts.hostname,
            "port": port,
        } | options
    raise ValueError(f"{name!r}: allowed are dimse://AET@HOST:PORT, stow+http(s)://HOST:PORT/PATH and folder:PATH")
