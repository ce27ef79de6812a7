"""The ledger of a node that has run before, for commands that ask it or act on it."""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from cauda.core import ledger
from cauda.core.errors import Misconfigured
from cauda.core.ledger import Ledger
from cauda.core.settings import Settings


def open_existing(settings: Settings) -> Ledger:
    """The ledger of a node that has run before; Misconfigured where there is none, or one of another version."""
    url = make_url(settings.ledger)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise Misconfigured(f"data: no ledger in {settings.data.resolve()}; is --data or --config right?")
    opened = ledger.open_ledger(settings.ledger)
    with opened.read() as conn:
        there, ours = migration(conn)
    if there != ours:
        raise Misconfigured(f"ledger_url: its tables are at {there}, this version's at {ours}; start Cauda once")
    return opened


def migration(conn: Connection) -> tuple[str | None, str | None]:
    """The ledger's migration, and this version's."""
    return MigrationContext.configure(conn).get_current_revision(), ScriptDirectory(
        str(Path(ledger.__file__).with_name("migrations"))
    ).get_current_head()
