"""The example configuration is the manual: every key is in it, with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from cauda.core import passwords
from cauda.core.errors import Misconfigured
from cauda.core.settings import Destination, Settings, load
from cauda.deploy import bootstrap, cli_config
from cauda.deploy.options import Options

EXAMPLE = Path(__file__).parents[2] / "deploy" / "cauda.example.toml"


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= keys(type(field.default), f"{prefix}{name}.")
        else:
            found[prefix + name] = field.default
    return found


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_the_example_as_shipped_keeps_a_server_from_old_studies_and_changes_nothing_else() -> None:
    """An admin who copies it starts from the defaults, and no migrated archive is graded (CLINICAL.md 29)."""
    example, default = load(EXAMPLE, environ={}), load(None, environ={})
    assert example.completeness.max_study_age_days == 14
    assert default.completeness.max_study_age_days is None
    unlimited = example.completeness.model_copy(update={"max_study_age_days": None})
    assert example.model_copy(update={"completeness": unlimited}) == default


def test_the_example_has_every_key() -> None:
    """Also those without a default, commented out under their section."""
    shown = set(flat(tomllib.loads(EXAMPLE.read_text())))
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        header = re.match(r"(?:# )?\[+([a-z_]+)\]+", line)
        section = f"{header[1]}." if header else section
        commented = re.match(r"# ([a-z_]+) = ", line)
        if commented:
            shown.add(section + commented[1])
    known = set(keys(Settings)) - {"destinations"} | {f"destinations.{name}" for name in Destination.model_fields}
    assert shown - {"destinations.url"} == known


def test_the_example_with_every_line_uncommented_is_valid() -> None:
    """What a comment says can be written is allowed."""
    text = re.sub(r"(?m)^# (?=[a-z_]+ = |\[\[)", "", EXAMPLE.read_text())
    tree = tomllib.loads(text)
    tree["destinations"][0].pop("url")
    made = Settings.model_validate(tree)
    assert made.destinations[0].name == "pacs"
    assert made.site.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[node]\naet = "FAR TOO LONG A TITLE"', "node.aet"),
        ("[node]\nport = 70000", "65535"),
        ('[log]\nlevel = "loud"', "'debug', 'info', 'warning' or 'error'"),
        ("[nodes]\nport = 1", "allowed are data, ledger_url"),
        ("[node]\nprot = 1", "allowed are aet, host, port"),
        ("[site]\ntimezone = 'Mars/Olympus'", "site.timezone"),
        ('[[destinations]]\nurl = "ftp://x"', "dimse://AET@HOST:PORT"),
        ("data = 1 2", "line 1"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "cauda.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured) as caught:
        load(path, environ={})
    assert told in caught.value.message


def test_secrets_are_never_shown() -> None:
    """Neither in what holds, nor in a complaint about the value."""
    made = load(
        None, environ={"CAUDA_LEDGER_URL": "postgresql://u:hunter2@h/d", "CAUDA_BROKER_URL": "redis://:hunter2@h"}
    )
    assert "hunter2" not in str(made.model_dump(mode="json"))
    assert "hunter2" not in repr(made)


def test_options_go_before_the_environment_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cauda.toml"
    path.write_text('[node]\naet = "FILE"\nport = 1\n[grading]\nbundle = "/b"\nlease_s = 7\n')
    monkeypatch.setenv("CAUDA_NODE__AET", "ENV")
    assert Options(config=path).settings().node.aet == "ENV"
    made = Options(
        config=path, aet="OPT", bundle="none", http="10.0.0.1:9", allow=("X@10.0.0.0/8", "10.1.0.0/16")
    ).settings()
    assert (made.node.aet, made.node.port) == ("OPT", 1)
    assert bootstrap.with_bundle(made).grading.bundle is None
    assert made.grading.lease_s == 7
    assert (made.http.host, made.http.port) == ("10.0.0.1", 9)
    assert [(p.aet, p.network) for p in made.peers] == [("X", "10.0.0.0/8"), ("*", "10.1.0.0/16")]


def test_a_childs_command_line_makes_the_same_settings(tmp_path: Path) -> None:
    """The supervisor hands its options on; a worker that understood others would grade into another folder."""
    options = Options(data=tmp_path, send_to=("folder:/a?shadow=1", "dimse://X@h:104"), bundle="none", aet="Y", port=0,
                      http="[::1]:81", allow=("Z@10.0.0.0/8",))  # fmt: skip
    words = options.arguments()
    again: dict[str, Any] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        again.setdefault(name.removeprefix("--").replace("-", "_"), []).append(value)
    made = Options(
        data=Path(again["data"][0]), send_to=tuple(again["send_to"]), bundle=again["bundle"][0], aet=again["aet"][0],
        port=int(again["port"][0]), http=again["http"][0], allow=tuple(again["allow"]),
    )  # fmt: skip
    assert made.settings() == options.settings()


def test_the_entry_of_a_user_is_what_the_settings_take(tmp_path: Path) -> None:
    """Pasted under [http] as it is printed; and a password in the clear is refused."""
    made = CliRunner().invoke(cli_config.app, ["user", "it"], input="correct horse battery\ncorrect horse battery\n")
    entry = next(line for line in made.output.splitlines() if line.startswith("{"))
    config = tmp_path / "cauda.toml"
    config.write_text(f"[http]\nusers = [{entry}]\n")
    (user,) = load(config, environ={}).http.users
    assert passwords.verified("correct horse battery", user.hash.get_secret_value())
    assert entry not in str(user)
    config.write_text('[http]\nusers = [{name = "it", hash = "correct horse battery"}]\n')
    with pytest.raises(Misconfigured, match="config user"):
        load(config, environ={})
