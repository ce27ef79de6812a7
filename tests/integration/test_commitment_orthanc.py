"""An Orthanc that is asked for commitment reports on an association of its own to our listener (CLINICAL.md 28)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import builders
import pytest
from dicom_peers import Orthanc, orthanc
from hospital import MINUTE, Hospital, opened
from peers import until

from cauda.core import schema

pytestmark = pytest.mark.peers


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    with opened(tmp_path / "data", monkeypatch) as made:
        yield made


def failed_reports(pacs: Orthanc) -> int:
    jobs = pacs.get("/jobs?expand")
    return len([one for one in jobs if (one["Type"], one["State"]) == ("StorageCommitmentScp", "Failure")])


@pytest.mark.parametrize("reachable", [True, False])
def test_results_are_committed_by_the_report_that_orthanc_brings(
    tmp_path: Path, hospital: Hospital, reachable: bool
) -> None:
    """The control: while Orthanc reports to a door that is shut, they stay accepted."""
    images = builders.mr_study("committed")
    with orthanc() as pacs:
        shut = pacs.http  # no DICOM is spoken there
        pacs.know("cauda", "CAUDA", hospital.house.ports.dimse if reachable else shut)
        pacs.store(builders.write(images, tmp_path / "images"))
        hospital.sends(images)
        hospital.passes(11 * MINUTE)
        hospital.works({"name": "pacs", "url": pacs.dimse, "commitment": True, "calling_aet": "CAUDA"})
        hospital.works({"name": "pacs", "url": pacs.dimse, "commitment": True, "calling_aet": "CAUDA"})
        deliveries = hospital.house.rows(schema.delivery)
        assert len({row["transaction_uid"] for row in deliveries} - {None}) == 2, "one question each"
        if not reachable:
            until(lambda: failed_reports(pacs) == 2, what="Orthanc's reports fail")
            assert {row["state"] for row in hospital.house.rows(schema.delivery)} == {"accepted"}
            return
        until(lambda: {row["state"] for row in hospital.house.rows(schema.delivery)} == {"committed"},
              what="both reports")  # fmt: skip
    assert {row["confirmed_by"] for row in hospital.house.rows(schema.delivery)} == {"commitment"}
    assert "ORTHANC" in {row["calling_aet"] for row in hospital.house.rows(schema.association)}
