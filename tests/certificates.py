"""Certificates for tests, made by the openssl program: an authority, and what it has signed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from peers import HOST, program


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM files."""

    certificate: Path
    key: Path


def _openssl(*arguments: object) -> None:
    subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True)


def authority(folder: Path, name: str) -> Pair:
    """A certification authority of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "3650", "-keyout",
             pair.key, "-out", pair.certificate)  # fmt: skip
    return pair


def issue(ca: Pair, name: str, *, days: int = 365) -> Pair:
    """A certificate for this machine's loopback, signed by the authority."""
    folder = ca.certificate.parent
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName=IP:{HOST}\n")
    _openssl(
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request
    )
    _openssl("x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key, "-CAcreateserial", "-days", days,
             "-extfile", extensions, "-out", pair.certificate)  # fmt: skip
    return pair
