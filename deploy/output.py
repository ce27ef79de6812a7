"""How commands speak: one line for an error, a table for a person, JSON for a script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cauda.core.domain import Reason, level_shown
from cauda.core.plain_text import plain

OK = 0
FAILED = 1
MISCONFIGURED = 2  # also a wrong command line
NO = 3  # rejected, held, or not there
INTERRUPTED = 130  # by Ctrl-C, as shells say it

EXIT_CODES = """Exit codes: 0 done · 1 failed or a service is away · 2 wrong command line or configuration
· 3 rejected, held, or no such thing."""

AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]


def say(text: str) -> None:
    """A line, or several, for the person at the terminal."""
    Console(highlight=False, soft_wrap=True).print(as_text(text))


def complain(text: str) -> None:
    """A line on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(as_text(f"cauda: {text}"))


def show_json(value: Any) -> None:
    """Machine-readable; what is not ASCII as JSON spells it."""
    say(json.dumps(value, indent=2, default=str).replace("\x7f", "\\u007f"))


def as_text(text: str) -> Text:
    """Text as it is: no markup of rich's, nothing that a terminal obeys; it may have come from outside."""
    return Text(plain(text, lines=True))


def show_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Rows as a table with titles for the keys shown; nothing is cut where output is piped."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns.values():
        table.add_column(title, overflow="fold", no_wrap=not console.is_terminal)
    for row in rows:
        table.add_row(*(Text(plain(cell(row.get(key)))) for key in columns))
    if not console.is_terminal:
        console.width = 1000
    console.print(table)


def _not_graded(code: str | None) -> str:
    """As the page says it: a level that was not imaged is no alarm."""
    reason = Reason(code) if code else None
    return f"{'Not imaged' if reason is Reason.NOT_IMAGED else 'NOT GRADED'}: {reason.text if reason else ''}"


def show_report(report: Mapping[str, Any]) -> None:
    """A report.json as a line on the study and a line a level."""
    bundle = report["bundle"]
    by = f" by {bundle['name']} {bundle['version']}" if bundle else ""
    say(f"{report['status']}{by}" + (f": {report['reason_text']}" if report["reason_text"] else ""))
    if report["level_doubt"]:
        say(f"NUMBERING UNCERTAIN: {Reason(report['level_doubt']).text}")
    rows = [
        {
            "level": level_shown(one["level"]),
            "grade": one["grade"] or _not_graded(one["abstained"]),
            "possible": ", ".join(grade for grade in one["possible"] if grade != one["grade"]),
            "axial": f"{one['axial']['center_px'][0]:.0f}, {one['axial']['center_px'][1]:.0f}"
            if one["axial"]
            else None,
        }
        for one in report["findings"]
    ]
    if rows:
        titles = {"level": "LEVEL", "grade": "CANAL, UNVERIFIED", "possible": "ALSO POSSIBLE", "axial": "AT PIXEL"}
        show_table(rows, titles)


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return str(value)
