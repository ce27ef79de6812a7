"""A wrong setting is told by its key and by what is allowed, and a secret is never repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cauda.core.errors import Misconfigured
from cauda.core.settings import Destination, load

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"node": {"aet": "A" * 17}}, "node.aet"),
    ({"node": {"aet": ""}}, "node.aet"),
    ({"node": {"aet": "A\\B"}}, "node.aet"),
    ({"node": {"port": 70000}}, "node.port"),
    ({"node": {"prot": 1}}, "node.prot"),
    ({"http": {"port": -1}}, "http.port"),
    ({"peers": ({"network": "10.0.0.0/40"},)}, "peers.0.network"),
    ({"limits": {"max_associations": 0}}, "limits.max_associations"),
    ({"completeness": {"quiet_s": 0}}, "completeness.quiet_s"),
    ({"grading": {"max_deaths": 0}}, "grading.max_deaths"),
    ({"grading": {"page_modality": "MR"}}, "grading.page_modality"),
    ({"grading": {"page_modality": "xc"}}, "grading.page_modality"),
    ({"site": {"timezone": "Mars/Olympus"}}, "site.timezone"),
    ({"destinations": ("http://x",)}, "destinations.0"),
    ({"destinations": ("dimse://PACS@host",)}, "destinations.0"),
    ({"destinations": ("dimse://PACS@host:99999",)}, "destinations.0"),
    ({"destinations": ("folder:/a", "folder:/a")}, "destinations"),
    ({"log": {"level": "loud"}}, "log.level"),
]


@pytest.mark.parametrize(("overrides", "key"), WRONG, ids=lambda v: str(v)[:60])
def test_an_error_names_the_key(overrides: dict[str, Any], key: str) -> None:
    with pytest.raises(Misconfigured) as wrong:
        load(environ={}, overrides=overrides)
    assert key in wrong.value.message


def test_environment_goes_before_file_and_the_command_line_before_both(tmp_path: Path) -> None:
    config = tmp_path / "cauda.toml"
    config.write_text('[node]\naet = "FILE"\nport = 1\n[http]\nport = 2\n')
    environ = {"CAUDA_NODE__AET": "ENV", "CAUDA_HTTP__PORT": "3"}
    settings = load(config, environ=environ, overrides={"http": {"port": 4}})
    assert (settings.node.aet, settings.node.port, settings.http.port) == ("ENV", 1, 4)


def test_a_misspelt_key_in_the_file_is_told(tmp_path: Path) -> None:
    config = tmp_path / "cauda.toml"
    config.write_text('[node]\ntitle = "X"\n')
    with pytest.raises(Misconfigured, match=r"node\.title"):
        load(config, environ={})


def test_a_file_that_is_no_toml_is_told_with_its_name(tmp_path: Path) -> None:
    config = tmp_path / "cauda.toml"
    config.write_text("[node\n")
    with pytest.raises(Misconfigured, match=r"cauda\.toml"):
        load(config, environ={})


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="not there"):
        load(tmp_path / "none.toml", environ={})


def test_a_secret_lies_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "cauda_ledger_url").write_text("postgresql://u:s3cret@db/cauda\n")
    settings = load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.ledger == "postgresql://u:s3cret@db/cauda"
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in settings.model_dump_json()


def test_without_a_url_the_ledger_lies_in_the_data_folder(tmp_path: Path) -> None:
    assert load(environ={}, overrides={"data": tmp_path}).ledger == f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.mark.parametrize(
    ("url", "live"),
    [
        ("dimse://PACS@127.0.0.1:104", True),
        ("dimse://PACS@localhost:104", True),
        ("dimse://PACS@[::1]:104", True),
        ("folder:/srv/out", True),
        ("dimse://PACS@10.0.0.7:104", False),
        ("dimse://PACS@localhost.evil.example:104", False),
        ("dimse://PACS@10.0.0.7:104?research=1", True),
        ("dimse://PACS@127.0.0.1:104?shadow=1", False),
        ("folder:/srv/out?shadow=1", False),
    ],
)
def test_a_result_of_a_research_bundle_leaves_only_to_loopback_folder_or_research(url: str, live: bool) -> None:
    """CLINICAL.md 16."""
    assert Destination.model_validate(url).live is live


def test_the_case_of_an_ae_title_is_kept() -> None:
    """AE titles are case-sensitive (PS3.5 6.2)."""
    assert Destination.model_validate("dimse://PacsOne@pacs:104").aet == "PacsOne"
