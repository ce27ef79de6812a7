"""The ledger's migrations form one line: two that follow the same one stop every start."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory

from cauda.core import ledger


def test_there_is_one_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(ledger.__file__).with_name("migrations")))
    assert len(scripts.get_heads()) == 1
