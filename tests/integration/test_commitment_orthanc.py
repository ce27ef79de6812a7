"""An Orthanc that is asked for commitment reports on an association of its own to our listener (CLINICAL.md 28)."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest
from dicom_peers import Orthanc, orthanc
from hospital import MINUTE, opened
from peers import until

from cauda.core import schema

pytestmark = pytest.mark.peers


def failed_reports(pacs: Orthanc) -> int:
    jobs = pacs.get("/jobs?expand")
    return len([one for one in jobs if (one["Type"], one["State"]) == ("StorageCommitmentScp", "Failure")])


@pytest.mark.parametrize(("title", "reachable"), [("CAUDA", True), ("CAUDA_RES", True), ("CAUDA", False)])
def test_results_are_committed_by_the_report_that_orthanc_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, reachable: bool
) -> None:
    """To the title that asked it. The control: while it reports to a door that is shut, they stay accepted."""
    images = builders.mr_study("committed")
    with orthanc() as pacs:
        to = {"name": "pacs", "url": pacs.dimse, "commitment": True, "calling_aet": title}
        pacs.store(builders.write(images, tmp_path / "images"))
        with opened(tmp_path / "data", monkeypatch, destinations=[to]) as hospital:
            shut = pacs.http  # no DICOM is spoken there
            pacs.know("cauda", title, hospital.house.ports.dimse if reachable else shut)
            hospital.sends(images)
            hospital.passes(11 * MINUTE)
            hospital.works(to)
            hospital.works(to)
            deliveries = hospital.house.rows(schema.delivery)
            assert len({row["transaction_uid"] for row in deliveries} - {None}) == 2, "one question each"
            if not reachable:
                until(lambda: failed_reports(pacs) == 2, what="Orthanc's reports fail")
                assert {row["state"] for row in hospital.house.rows(schema.delivery)} == {"accepted"}
                return
            until(lambda: {row["state"] for row in hospital.house.rows(schema.delivery)} == {"committed"},
                  what="both reports")  # fmt: skip
            assert {row["confirmed_by"] for row in hospital.house.rows(schema.delivery)} == {"commitment"}
            calls = {(row["calling_aet"], row["called_aet"]) for row in hospital.house.rows(schema.association)}
            assert ("ORTHANC", title) in calls
