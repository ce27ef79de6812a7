"""What every test may ask for. Peers are started once a session; each test gets a fresh corner of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; as cauda itself sets it

pytest.register_assert_rewrite("harness", "ledgers", "peers")

from needs import absent  # noqa: E402  after peers is registered
from peers import Postgres, postgres, program  # noqa: E402

_NEEDED = ("storescu", "Orthanc", "redis-server", "initdb", "strace")


def _is_there(name: str) -> bool:
    try:
        return bool(program(name))
    except AssertionError:
        return False


@pytest.fixture(autouse=True)
def _requirements(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("peers") and (missing := [name for name in _NEEDED if not _is_there(name)]):
        absent(f"not installed: {', '.join(missing)}; run .ci/peers")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real data that is not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CAUDA_REALDATA") or beside)
    if not folder.is_dir():
        absent(f"no real data at {folder}; set CAUDA_REALDATA")
    return folder


@pytest.fixture(scope="session")
def scanner_study(realdata: Path) -> Path:
    """A real lumbar MRI as a scanner pushes it: a folder of folders of files."""
    return realdata / "rsna-sample" / "scanner"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for the whole session."""
    with postgres() as server:
        yield server
