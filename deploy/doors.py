"""Where `cauda simulate` sends to: a DIMSE node or a STOW-RS service, from how a person names it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from cauda.core.errors import Misconfigured
from cauda.core.settings import Destination, is_loopback
from cauda.deploy import storage_scu, stow_client
from cauda.deploy.simulate import Door

_FORMS = "HOST:PORT, dimse://AET@HOST:PORT or stow+http(s)://HOST:PORT/PATH"
_PORTS = {"http": 80, "https": 443}


def door(
    to: str, *, yes: bool, aet: str = "CAUDA", calling: str = "SIMULATOR", authorization: Path | None = None
) -> Door:
    """The node to send to; Misconfigured for another machine without ``yes`` (CLINICAL.md 33).

    ``aet`` is called where the address names none; ``authorization`` is a file with an HTTP header's value.
    """
    if to.startswith("stow+"):
        found: Door
        host, found = _service(to, authorization)
    else:
        host, found = _node(to, aet, calling)
        if authorization is not None:
            raise Misconfigured("--authorization is for stow+http(s)://")
    if not is_loopback(host) and not yes:
        raise Misconfigured(f"--to: {host} is not this machine; add --yes to send test studies there")
    return found


def _node(to: str, aet: str, calling: str) -> tuple[str, storage_scu.Node]:
    url = to if "://" in to else f"dimse://{quote(aet)}@{to}"
    try:
        found = Destination.model_validate({"url": url, "calling_aet": calling})
    except ValueError as error:
        raise Misconfigured(f"--to: {to} is none of {_FORMS}, or an AE title is none") from error
    if found.kind != "dimse":
        raise Misconfigured(f"--to: {to} is none of {_FORMS}")
    host = found.host or ""
    return host, storage_scu.Node(host=host, port=found.port or 0, aet=found.aet or "", calling_aet=calling)


def _service(to: str, authorization: Path | None) -> tuple[str, stow_client.Service]:
    try:
        parts: SplitResult = urlsplit(to.removeprefix("stow+"))
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise Misconfigured(f"--to: {to} is none of {_FORMS}") from error
    if not host or parts.query or parts.fragment:
        raise Misconfigured(f"--to: {to} is none of {_FORMS}")
    if "@" in parts.netloc:
        raise Misconfigured("--to: no password in the address, others would see it; give a file with --authorization")
    path = parts.path.rstrip("/").removesuffix("/studies")
    value = _read(authorization) if authorization is not None else None
    base = f"{parts.scheme}://{parts.netloc}{path}"
    tls = parts.scheme == "https"
    return host, stow_client.Service(base=base, host=host, port=port, path=path, tls=tls, authorization=value)


def _read(file: Path) -> str:
    try:
        value = file.read_text().strip()
    except (OSError, ValueError) as error:
        raise Misconfigured(f"--authorization: {file} cannot be read") from error
    if not value or not value.isprintable() or not value.isascii():
        raise Misconfigured(f"--authorization: {file} does not hold one line, as Bearer TOKEN or Basic BASE64")
    return value
