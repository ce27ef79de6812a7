"""What came from outside is shown as text: on a terminal, in a log, on a page."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import pytest
import structlog
from rich.errors import MarkupError
from rich.text import Text

from cauda.core import log
from cauda.core.plain_text import plain
from cauda.deploy import output
from cauda.listener import pages

HOSTILE = [
    "[/x]", "[bold red]x", "[link=http://evil]y[/link]", "\x1b[2J\x1b]0;title\x07", "\x9b31m", "a\rb", "a\x08b",
    "\u202egnp.exe", "zero\u200bwidth", "a\u2028b", "\ud800", "\x00", "\x7f", "{event} %s %(x)s",
]  # fmt: skip
OBEYED = set("\x1b\x9b\x07\x08\r\x00\x7f\u202e\u200b\u2028\u2029\ud800")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_that_is_obeyed_or_hidden_is_left_and_the_rest_is_unchanged(text: str) -> None:
    shown = plain(text)
    assert not OBEYED & set(shown)
    assert shown == text or set(text) & OBEYED
    assert plain(f"Müller-王 {text}").startswith("Müller-王 ")


def test_ends_of_lines_are_kept_only_where_a_text_has_several() -> None:
    assert plain("a\nb") == "a\\x0ab"
    assert plain("a\nb", lines=True) == "a\nb"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_commands_print_it_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No markup is read in a line, an error or a table, and no such text ends a command."""
    output.say(text)
    output.complain(text)
    output.show_table([{"a": text, "b": {"c": 1}}], {"a": "A", "b": "B"})
    printed = capsys.readouterr()
    assert printed.out.count(plain(text)) == 2
    assert plain(text) in printed.err
    assert not OBEYED & set(printed.out + printed.err)


def test_rich_would_choke_on_it() -> None:
    """The test above tests something: what rich does with such a text that it takes for markup."""
    with pytest.raises(MarkupError):
        Text.from_markup("[/x]")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_stays_json_and_ascii(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.show_json({"title": text})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert not OBEYED & set(printed)


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("text", [*HOSTILE, "one\n2026-01-01 [info] forged"], ids=ascii)
def test_a_log_line_is_one_line_of_text(form: str, text: str) -> None:
    root, stream = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    try:
        log.configure(form=form, stream=stream)
        log.get("dimse").warning("peer_refused", aet=text, many=[text])
        logging.getLogger("elsewhere").warning("it said %s", text)
        log.get("dimse").warning("it_failed", exc_info=ValueError(text))
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.reset_defaults()
    written = stream.getvalue()
    ours = re.sub(r"\x1b\[[0-9;]*m", "", written) if form == "console" else written  # our own colours
    assert not (OBEYED - {"\x7f"}) & set(ours)
    first, second, *_ = written.splitlines()
    assert "peer_refused" in first
    assert "it said" in second


def test_pages_show_it_as_text() -> None:
    template = pages._ENVIRONMENT.from_string("<p>{{ title }}</p>")
    for text in HOSTILE:
        assert not OBEYED & set(template.render(title=text))
    assert template.render(title="<b>&") == "<p>&lt;b&gt;&amp;</p>"


def test_no_command_prints_past_the_one_helper() -> None:
    """Nothing of `deploy` but `output` and `progress` prints, and those two print `Text` alone."""
    folder = Path(output.__file__).parent
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path.name not in {"output.py", "progress.py"}:
            assert "rich.console" not in source, path.name
            assert "typer.echo" not in source, path.name
