"""The HTTP door: what watches a node learns the truth, and nobody learns a patient."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import builders
import pytest
from listener_house import House, listener, store
from peers import HOST, until
from sqlalchemy import update

from cauda.core import schema
from cauda.listener.http import DEAF_AFTER_S

pytestmark = pytest.mark.peers


def get(house: House, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{house.ports.http}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def reasons(house: House) -> list[str]:
    status, body = get(house, "/readyz")
    found = json.loads(body)
    assert found["ready"] is (status == 200) is (not found["reasons"])
    return list(found["reasons"])


def test_a_study_that_nobody_grades_makes_the_node_unready(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        assert get(house, "/healthz")[0] == 200
        assert reasons(house) == []
        store(house.ports.dimse, builders.mr_study(31))
        until(lambda: house.rows(schema.revision), what="a revision")
        assert reasons(house) == []  # a worker may still be on its way
        with house.book.write() as conn:
            conn.execute(update(schema.revision).values(not_before=time.time() - DEAF_AFTER_S - 5))
        assert any("studies are due" in reason for reason in reasons(house))


def test_results_that_nobody_sends_make_the_node_unready(tmp_path: Path) -> None:
    folder = f"folder:{tmp_path / 'out'}"
    with listener(tmp_path / "data", destinations=(folder,)) as house:
        store(house.ports.dimse, builders.mr_study(32))
        until(lambda: house.rows(schema.revision), what="a revision")
        study = builders.mr_study(32)[0].StudyInstanceUID
        with house.book.write() as conn:  # as a worker leaves it
            conn.execute(update(schema.revision).values(state="reported"))
            conn.execute(
                schema.result.insert().values(
                    revision_id=1,
                    study_uid=study,
                    kind="sr",
                    sop_class_uid="1",
                    sop_uid="1.9",
                    series_uid="1.8",
                    path="x",
                    sha256="x",
                    made_at=0.0,
                )
            )
            conn.execute(schema.delivery.insert().values(result_id=1, study_uid=study, destination=folder, state="due",
                                                         not_before=time.time(), created_at=0.0))  # fmt: skip
        assert reasons(house) == []
        with house.book.write() as conn:
            conn.execute(update(schema.delivery).values(not_before=time.time() - DEAF_AFTER_S - 5))
        assert any("results are due" in reason for reason in reasons(house))


def test_metrics_and_the_page_count_studies_and_name_no_patient(tmp_path: Path) -> None:
    secret = {"PatientName": "Zebrafink^Ottokar", "PatientID": "ZFK4711", "AccessionNumber": "ACCZFK"}
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, builders.mr_study(33, **secret))
        until(lambda: house.rows(schema.revision), what="a revision")
        _, metrics = get(house, "/metrics")
        _, page = get(house, "/")
        assert 'cauda_studies{state="complete"} 1.0' in metrics
        assert 'cauda_revisions{state="due"} 1.0' in metrics
        assert builders.mr_study(33)[0].StudyInstanceUID in page
        assert "released for 0 s: 5 axial T2-possible, 5 sagittal T2-possible" in page
        store(house.ports.dimse, builders.mr_study(34, sagittal=0, **secret))
        until(lambda: "waits: sagittal and axial T2 are not both there" in get(house, "/")[1], what="why it waits")
        for text in (metrics, page, get(house, "/readyz")[1]):
            for value in ("Zebrafink", "Ottokar", "ZFK4711", "ACCZFK", "19600102"):
                assert value not in text
