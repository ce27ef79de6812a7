"""Migrations: any number of processes may start at once, and what they make is what the code means."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from ledgers import House
from sqlalchemy import inspect, text

from cauda.core import migrations, schema
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.ledger import Ledger, migrate, open_ledger

pytestmark = pytest.mark.peers

_MIGRATE = """
import sys
from cauda.core.ledger import migrate, open_ledger
ledger = open_ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
migrate(ledger)
"""


def test_processes_that_start_at_once_all_find_the_same_tables(empty_url: str) -> None:
    argv = [sys.executable, "-c", _MIGRATE, empty_url]
    processes = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait(60) == 0, said
    ledger = open_ledger(empty_url)
    assert set(inspect(ledger.engine).get_table_names()) == {*schema.metadata.tables, "alembic_version"}
    migrate(ledger)  # and once more, harmlessly
    ledger.engine.dispose()


def test_the_migrations_make_exactly_the_tables_of_the_code(house: House) -> None:
    with house.ledger.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, schema.metadata) == []


def _rows(ledger: Ledger) -> set[tuple[str, ...]]:
    with ledger.read() as conn:
        return {tuple(row) for row in conn.execute(text("SELECT aet, address, why, count FROM refused_peer"))}


def _step(ledger: Ledger, go: Callable[[Config, str], None], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with ledger.engine.connect().execution_options(cauda_write=True) as conn:
        config.attributes["connection"] = conn
        go(config, revision)
        conn.commit()


def test_refused_callers_outlive_the_change_of_their_key_in_both_directions(empty_url: str) -> None:
    """Before, a caller had one row and the newest reason."""
    ledger = open_ledger(empty_url)
    _step(ledger, command.upgrade, "0012")
    insert = "INSERT INTO refused_peer (aet, address, why, count, last_at) VALUES ('CT1', '10.1.0.7', '{}', {}, {})"
    with ledger.write() as conn:
        conn.execute(text(insert.format("too_slow", 3, 10.0)))
    migrate(ledger)
    assert _rows(ledger) == {("CT1", "10.1.0.7", "too_slow", 3)}
    with ledger.write() as conn:
        conn.execute(text(insert.format("called_ae_unknown", 1, 20.0)))
    assert len(_rows(ledger)) == 2
    _step(ledger, command.downgrade, "0012")
    assert _rows(ledger) == {("CT1", "10.1.0.7", "called_ae_unknown", 1)}
    migrate(ledger)
    assert _rows(ledger) == {("CT1", "10.1.0.7", "called_ae_unknown", 1)}
    ledger.engine.dispose()


def test_sqlite_does_not_live_on_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"server:/export {tmp_path} nfs4 rw 0 0\nnone / ext4 rw 0 0\n"
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, *a, **k: mounts if str(self) == "/proc/self/mounts" else real(self, *a, **k)
    )
    with pytest.raises(Misconfigured, match="nfs4"):
        open_ledger(f"sqlite:///{tmp_path}/x/ledger.sqlite")
    open_ledger(f"sqlite:///{tmp_path.parent}/ledger.sqlite").engine.dispose()


@pytest.mark.parametrize("url", ["mysql://x/y", "oracle://x", "redis://x"])
def test_a_database_that_is_not_known_is_told(url: str) -> None:
    with pytest.raises(Misconfigured, match="ledger_url"):
        open_ledger(url)


def test_sqlite_is_durable_at_every_commit(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    with ledger.read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    ledger.engine.dispose()


def test_a_database_that_is_away_is_unavailable_and_no_bug() -> None:
    ledger = open_ledger("postgresql://cauda@127.0.0.1:1/cauda")
    with pytest.raises(Unavailable) as away, ledger.read():
        pass
    assert away.value.reason is Reason.LEDGER_DOWN
