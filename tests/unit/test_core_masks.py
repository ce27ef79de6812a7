"""No secret is shown: in settings, in URLs, in the words of what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import command
import pytest

from cauda.core import settings
from cauda.core.errors import Misconfigured
from cauda.core.masks import masked, secrets_of

SECRETS = ["hunter2-hunter2", "pa/ss@w0rd", "t0ken-t0ken-t0ken-t0ken", "Basic c2VjcmV0"]


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://cauda:hunter2-hunter2@db:5432/cauda", "redis://:hunter2-hunter2@10.0.0.7:6379/0",
        "redis://hunter2-hunter2@host/0", "rediss://user:pa/ss@w0rd@host/0",
        "dicomweb+https://me:hunter2-hunter2@pacs/dicom-web?token=t0ken-t0ken-t0ken-t0ken&x=1",
        "https://pacs/dicom-web;key=t0ken-t0ken-t0ken-t0ken?a=b", "dimse://AET:hunter2-hunter2@pacs:104",
        'connection to "postgresql://u:hunter2-hunter2@h/x" failed', "password=hunter2-hunter2 host=db",
        "Error: redis://:hunter2-hunter2@h refused, then redis://u:pa/ss@w0rd@h",
    ],
)  # fmt: skip
def test_passwords_and_tokens_in_urls_are_masked(text: str) -> None:
    assert not any(secret in masked(text) for secret in SECRETS)


@pytest.mark.parametrize("text", ["dimse://ORTHANC@127.0.0.1:4242", "folder:/srv/results", "https://pacs/dicom-web"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    given = settings.load(environ={}, overrides={
        "ledger_url": "postgresql://cauda:hunter2-hunter2@db/cauda", "broker_url": "redis://:p%2Fss%40word@h/0",
        "dicomweb": {"token": "t0ken-t0ken-t0ken-t0ken"},
    })  # fmt: skip
    secrets = secrets_of(given)
    for one in ("hunter2-hunter2", "p/ss@word", "p%2Fss%40word", "t0ken-t0ken-t0ken-t0ken"):
        assert one not in masked(f"could not use {one!r} there", secrets)


def _config(tmp_path: Path) -> Path:
    path = tmp_path / "cauda.toml"
    path.write_text(f"""
data = "{tmp_path / "data"}"
ledger_url = "postgresql://cauda:hunter2-hunter2@127.0.0.1:1/cauda"
broker_url = "redis://:hunter2-hunter2@127.0.0.1:1/0"
[source]
url = "dicomweb+https://pacs.example/dicom-web"
authorization = "Basic c2VjcmV0"
[dicomweb]
token = "t0ken-t0ken-t0ken-t0ken"
[[destinations]]
url = "stow+https://127.0.0.1:1/dicom-web"
authorization = "Basic c2VjcmV0"
shadow = true
""")
    return path


@pytest.mark.parametrize("words", [("config", "show"), ("config", "check"), ("doctor",), ("doctor", "--json")], ids=str)
def test_no_command_shows_a_secret(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = command.cauda(*words, "--config", _config(tmp_path))
    assert done.stdout
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"ledger_url": "postgresql://cauda:x@db:pa/ss@w0rd/cauda"}, {"ledger_url": "hunter2-hunter2"},
        {"broker_url": "redis://:pa/ss@w0rd@host:6379/0"}, {"source": {"url": "gopher://me:hunter2-hunter2@pacs/"}},
        {"source": {"url": "dicomweb+https://me:hunter2-hunter2@pacs/dicom-web"}},
        {"source": {"url": "dicomweb+https://pacs/x?token=t0ken-t0ken-t0ken-t0ken"}},
        {"destinations": ["stow+https://me:hunter2-hunter2@pacs/dicom-web"]},
        {"destinations": ["dimse://PACS:hunter2-hunter2@pacs:104"]},
        {"destinations": ["ftp://me:hunter2-hunter2@pacs/"]},
        {"dicomweb": {"token": "hunter2-hunter2"}},
    ],
    ids=str,
)  # fmt: skip
def test_the_words_of_what_is_refused_repeat_no_secret(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as refused:
        settings.load(environ={}, overrides=wrong)
    assert not any(secret in str(refused.value) for secret in SECRETS)
    assert next(iter(wrong)) in str(refused.value)
