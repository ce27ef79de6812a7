"""`cauda doctor` against real peers: each trouble is one FAIL, and says what to do."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import orthanc
from key_ignoring_archive import key_ignoring
from peers import HOST, Postgres, free_port, redis_server

from cauda.core import ledger
from cauda.core.settings import Settings
from cauda.deploy import doctor

pytestmark = pytest.mark.peers


def settings(data: Path, **tree: Any) -> Settings:
    base = {"data": data, "node": {"port": 0}, "http": {"port": 0}, "limits": {"min_free_bytes": 0}}
    return Settings.model_validate(base | tree)


def failed(made: Settings) -> dict[str, str]:
    """The words of every check that failed."""
    return {line.name: line.words for line in doctor.examine(made) if not line.ok}


def test_a_node_before_its_first_start_is_well(tmp_path: Path) -> None:
    assert failed(settings(tmp_path / "new")) == {}
    assert not (tmp_path / "new").exists()  # looking changes nothing


def test_a_ledger_at_head_is_well_and_one_behind_is_not(tmp_path: Path) -> None:
    opened = ledger.open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate(opened)
    assert failed(settings(tmp_path)) == {}
    with opened.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = 'v0000'")
    assert "start this version" in failed(settings(tmp_path))["ledger"]


def test_a_file_in_the_place_of_the_data_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert "is a file" in failed(settings(tmp_path / "data"))["data"]


def test_no_room_is_named(tmp_path: Path) -> None:
    said = failed(settings(tmp_path, limits={"min_free_bytes": 1 << 60}))["room"]
    assert "no room" in said
    assert "lower limits.min_free_bytes" in said


def test_a_database_is_reached_or_named(tmp_path: Path, postgres_server: Postgres) -> None:
    assert failed(settings(tmp_path, ledger_url=postgres_server.database())) == {}
    nowhere = settings(tmp_path, ledger_url=f"postgresql://cauda@{HOST}:{free_port()}/cauda")
    assert set(failed(nowhere)) == {"ledger", "clock"}


def test_a_broker_is_reached_or_named(tmp_path: Path) -> None:
    with redis_server() as redis:
        made = settings(tmp_path, broker_url=redis.url)
        assert failed(made) == {}
        redis.stop()
        assert "start Redis" in failed(made)["broker"]


def test_a_live_archive_needs_the_sites_timezone(tmp_path: Path) -> None:
    """CLINICAL.md 30: dates in results are local."""
    with orthanc("PACS") as archive:
        live = settings(tmp_path, destinations=[archive.dimse])
        assert "site.timezone" in failed(live)["timezone"]
        assert failed(settings(tmp_path, destinations=[archive.dimse], site={"timezone": "Europe/Berlin"})) == {}
        shadow = settings(tmp_path, destinations=[f"{archive.dimse}?shadow=1"])
        assert failed(shadow) == {}


def test_an_archive_that_is_away_or_does_not_know_us_is_named(tmp_path: Path) -> None:
    site = {"timezone": "Europe/Berlin"}
    away = f"dimse://PACS@{HOST}:{free_port()}"
    assert "is it running" in failed(settings(tmp_path, destinations=[away], site=site))[f"to {away}"]
    with orthanc("PACS", DicomCheckCalledAet=True) as archive:
        wrong = archive.dimse.replace("PACS@", "OTHER@")
        assert "turns us away" in failed(settings(tmp_path, destinations=[wrong], site=site))[f"to {wrong}"]


@pytest.mark.parametrize("how", ["ignores", "echoes"])
@pytest.mark.parametrize("protocol", ["dimse", "stow"])
def test_an_archive_that_finds_what_nobody_has_is_named(tmp_path: Path, protocol: str, how: str) -> None:
    """It does not look at the UID asked, and answers with other studies: nothing is sent on its word."""
    site = {"timezone": "Europe/Berlin"}
    with key_ignoring(protocol) as pacs:
        pacs.images = builders.mr_study("doctor", axial=1, sagittal=0)
        source = pacs.url.replace("stow+http", "dicomweb+http")
        made = settings(tmp_path, destinations=[f"{pacs.url}?shadow=1"], source={"url": source}, site=site)
        assert failed(made) == {}
        pacs.ignores = frozenset({"StudyInstanceUID"})
        pacs.echoes = frozenset({"StudyInstanceUID"}) if how == "echoes" else frozenset()
        words = failed(made)
    assert set(words) == {f"to {pacs.url}", "source"}
    assert all("does not look at StudyInstanceUID" in one for one in words.values())


def test_an_archive_that_cannot_be_asked_is_no_trouble(tmp_path: Path) -> None:
    """It takes results only; the page then says that the identity was not checked."""
    with key_ignoring("dimse", find=False) as pacs:
        made = settings(tmp_path, destinations=[f"{pacs.url}?shadow=1"])
        words = {line.name: line.words for line in doctor.examine(made) if line.name.startswith("to ")}
        assert failed(made) == {}
    assert "cannot be asked about studies" in next(iter(words.values()))


def test_a_results_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    made = settings(tmp_path, destinations=[f"folder:{tmp_path / 'results'}"])
    assert set(failed(made)) == {f"to folder:{tmp_path / 'results'}"}


def test_a_port_taken_by_another_dicom_node_is_named(tmp_path: Path) -> None:
    """Answering C-ECHO is not enough: it must be a Cauda."""
    with orthanc("CAUDA") as other:
        made = settings(tmp_path, node={"port": other.port, "host": HOST})
        assert "another DICOM node" in failed(made)["dicom port"]


def test_a_port_taken_by_something_else_is_named(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as mute:
        port = mute.getsockname()[1]
        assert "/healthz" in failed(settings(tmp_path, http={"port": port, "host": HOST}))["http port"]
