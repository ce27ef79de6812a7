"""What happened, in a database: SQLite on one host, PostgreSQL for several. The broker is only a doorbell.

Each transition is ``UPDATE ... WHERE id=? AND state=? AND attempt=?`` with one row changed and its event row, in
one transaction. SQLite takes its write lock at the start of every writing transaction (BEGIN IMMEDIATE).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event, func, insert, literal, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.steady_clock import SteadyClock

_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "lustre"}
_BUSY_TIMEOUT_S = 30
_MIGRATION_LOCK = 0x43415544  # any number, the same for all who migrate

Clock = Callable[[], ColumnElement[float]]


@dataclass(frozen=True, slots=True)
class Ledger:
    """An open ledger. ``now`` is its time as an SQL expression (`steady_clock`); tests put simulated time there."""

    engine: Engine
    now: Clock

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A writing transaction; Unavailable when the database is away."""
        with _as_unavailable(), self.engine.connect().execution_options(cauda_write=True) as conn, conn.begin():
            self._observe_clock(conn)
            yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A reading transaction on one snapshot; Unavailable when the database is away."""
        with _as_unavailable(), self.engine.connect() as conn, conn.begin():
            self._observe_clock(conn)
            yield conn

    def _observe_clock(self, conn: Connection) -> None:
        if isinstance(self.now, SteadyClock):
            self.now.observe(conn)

    def time(self, conn: Connection) -> float:
        """The ledger's time now, seconds since 1970."""
        return float(conn.execute(select(self.now())).scalar_one())

    def database_time(self, conn: Connection) -> float:
        """The database's own clock, seconds since 1970: the ledger's time but for what was corrected."""
        return self.time(conn) if not isinstance(self.now, SteadyClock) else self.now.database_seconds(conn)


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise Unavailable(Reason.LEDGER_DOWN, f"ledger: {type(error.__cause__ or error).__name__}") from error
    except DatabaseError as error:
        if error.connection_invalidated:  # PostgreSQL says goodbye with more than one class of error
            raise Unavailable(Reason.LEDGER_DOWN, "ledger: connection lost") from error
        raise


def open_ledger(url: str, *, clock: Clock | None = None) -> Ledger:
    """Open (and for SQLite create) the database; no tables are made: see `migrate`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        _refuse_network(path.parent)
        engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return Ledger(engine, clock or SteadyClock(_SQLITE_NOW))
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_timeout=10,
            connect_args={
                "connect_timeout": 5,
                "options": "-c statement_timeout=60000 -c idle_in_transaction_session_timeout=120000",
                # a server that vanished without a word must not hold a thread for ever
                "tcp_user_timeout": 20000,
            },
        )
        return Ledger(engine, clock or SteadyClock(_POSTGRES_NOW))
    raise Misconfigured("ledger_url: allowed are sqlite:///PATH and postgresql://USER@HOST/NAME")


_SQLITE_NOW: ColumnElement[float] = (func.julianday("now") - 2440587.5) * 86400.0
_POSTGRES_NOW: ColumnElement[float] = func.extract("epoch", func.clock_timestamp()).cast(schema.study.c.first_at.type)


def fixed_clock(read: Callable[[], float]) -> Clock:
    """A clock outside the database, for simulated time."""
    return lambda: literal(read(), type_=schema.study.c.first_at.type)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    immediate = conn.get_execution_options().get("cauda_write", False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _refuse_network(folder: Path) -> None:
    """SQLite's locks and WAL do not work over a network file system."""
    best, kind = "", ""
    target = str(folder.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, fs, *_ = line.split()
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fs
    if kind in _NETWORK_FILE_SYSTEMS:
        raise Misconfigured(f"ledger_url: SQLite cannot live on {kind} ({best}); use a local disk or PostgreSQL")


def migrate(ledger: Ledger) -> None:
    """Bring the tables to this version's schema; safe when several processes start at once."""
    config = Config()
    config.set_main_option("script_location", str(files("cauda.core").joinpath("migrations")))
    with (
        _as_unavailable(),
        _migration_lock(ledger.engine),
        ledger.engine.connect().execution_options(cauda_write=True) as conn,
    ):
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        conn.commit()


@contextmanager
def _migration_lock(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        fd = os.open(f"{engine.url.database}.migrating", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
    else:
        with engine.connect() as conn:
            conn.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            try:
                yield
            finally:
                conn.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})


def record(
    ledger: Ledger,
    conn: Connection,
    kind: str,
    *,
    study_uid: str | None = None,
    revision_id: int | None = None,
    delivery_id: int | None = None,
    **detail: Any,
) -> None:
    """Add an event row; ``detail`` holds identifiers and reasons, never patient data."""
    conn.execute(
        insert(schema.event).values(
            at=ledger.now(),
            kind=kind,
            study_uid=study_uid,
            revision_id=revision_id,
            delivery_id=delivery_id,
            detail=detail,
        )
    )
