"""Fixtures of tests with one real peer each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import listener_house
import pytest
from ledgers import House
from peers import Postgres

from cauda.core.ledger import migrate, open_ledger


@pytest.fixture(params=listener_house.DATA_PATHS)
def data_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How every listener of the test receives C-STORE; the test runs once on each path."""
    monkeypatch.setattr(listener_house, "chosen", request.param)
    return str(request.param)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "ledger.sqlite"
    ledger = open_ledger(f"sqlite:///{path}")
    migrate(ledger)
    ledger.engine.dispose()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: Postgres) -> str:
    """The name of a migrated database, to be used as a template."""
    url = postgres_server.database()
    ledger = open_ledger(url)
    migrate(ledger)
    ledger.engine.dispose()
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Which database."""
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database without tables."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture
def house(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """A fresh migrated ledger."""
    if backend == "sqlite":
        template: Path = request.getfixturevalue("migrated_sqlite")
        shutil.copy(template, tmp_path / "ledger.sqlite")
        url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    else:
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.database(template=request.getfixturevalue("migrated_postgres"))
    made = House(url=url)
    yield made
    made.ledger.engine.dispose()
