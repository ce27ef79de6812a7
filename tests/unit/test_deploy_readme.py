"""What the README tells people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cauda.deploy.cli import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def typed() -> list[str]:
    """Indented command lines, continued ones joined, comments cut."""
    joined = TEXT.replace("\\\n", " ")
    lines = re.findall(r"(?m)^    ((?:cauda|make) .*)$", joined) + re.findall(r"`(cauda [a-z][^`]*)`", joined)
    return [re.sub(r"\s+#.*", "", line) for line in lines]


@pytest.mark.parametrize("line", [line for line in typed() if line.startswith("cauda ")])
def test_a_command_parses(line: str) -> None:
    """Every option and argument is known to the command."""
    words = shlex.split(line)[1:]
    command: Any = get_command(app)
    context = command.make_context("cauda", list(words))
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, list(words))
        if not words:  # only named, not typed
            return
        context = command.make_context(name, list(words), parent=context)


def helps(command: Any) -> list[str]:
    """Every text of a command and those below it."""
    below = [text for one in getattr(command, "commands", {}).values() for text in helps(one)]
    return [command.help or "", *(getattr(one, "help", None) or "" for one in command.params), *below]


def test_no_help_holds_what_is_taken_for_markup_and_left_out() -> None:
    texts = helps(get_command(app))
    assert len(texts) > 100
    assert not [text for text in texts if re.search(r"\[[a-z#/@]", text)]


@pytest.mark.parametrize("line", [line for line in typed() if line.startswith("make ")])
def test_a_target_exists(line: str) -> None:
    assert re.search(rf"(?m)^{line.split()[1]}:", MAKEFILE)


@pytest.mark.parametrize("target", ["install", "demo", "test", "lint", "bench", "models", "soak", "dist", "help"])
def test_every_promised_target_is_there_and_phony(target: str) -> None:
    assert re.search(rf"(?m)^{target}:", MAKEFILE)
    assert re.search(rf"(?m)^\.PHONY:.*\b{target}\b", MAKEFILE)


def test_every_folder_is_on_the_map() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == set(re.findall(r"(?m)^\| `(\w+)/`", TEXT)) - {"tests"}


def test_what_must_be_said_once_is_said() -> None:
    """CLINICAL.md, "Said once", and 3."""
    plain = " ".join(TEXT.replace(">", " ").replace("*", "").split())
    for sentence in (
        "Not a medical device: no CE mark, no FDA clearance.",
        "Evaluation and research only; not for diagnosis, triage or treatment.",
        "A hospital that puts it into service may become its manufacturer under local law.",
        "Logs, versions, human oversight and retraction are provided; conformity is not claimed.",
        "Feed Cauda from the PACS or router after the technologist's check, where you can.",
        "There is no folder named `cauda`",
    ):
        assert sentence in plain


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design-notes.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_places_where_changes_belong_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for place in re.findall(r"`((?:core|pipeline|models|worker|listener|deploy|tests)/[\w/.*]*)`", text):
        assert list(ROOT.glob(place.rstrip("/"))), place
