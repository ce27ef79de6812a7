"""An archive whose rule forwards whatever it stores to us, our own results too (CLINICAL.md 1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import builders
import pytest
from dicom_peers import orthanc
from hospital import MINUTE, Hospital, opened
from peers import until

from cauda.core import schema

pytestmark = pytest.mark.peers

RULE = "function OnStoredInstance(id, tags, metadata, origin)\n  SendToModality(id, 'cauda')\nend\n"


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    with opened(tmp_path / "data", monkeypatch) as made:
        yield made


def came(hospital: Hospital, count: int) -> bool:
    return len(hospital.house.rows(schema.instance)) >= count


def test_ten_minutes_of_forwarding_everything_end_with_one_sr_and_one_sc(tmp_path: Path, hospital: Hospital) -> None:
    """Also when it sends all it has again each minute, results among them."""
    rule = tmp_path / "forward.lua"
    rule.write_text(RULE)
    images = builders.mr_study("forwarded")
    with orthanc(LuaScripts=[str(rule)]) as pacs:
        pacs.know("cauda", "CAUDA", hospital.house.ports.dimse)
        pacs.store(builders.write(images, tmp_path / "images"))
        until(lambda: came(hospital, len(images)), what="the rule forwards the images")
        hospital.passes(11 * MINUTE)
        hospital.works(pacs.dimse)
        until(lambda: came(hospital, len(images) + 2), what="the rule forwards our results")
        for _ in range(10):
            hospital.passes(MINUTE)
            pacs.send("cauda", [one["id"] for one in pacs.instances()])
            hospital.works(pacs.dimse)
        hospital.passes(100 * MINUTE)
        hospital.works(pacs.dimse)
        results = pacs.results(str(images[0].StudyInstanceUID))
    assert sorted(one["modality"] for one in results) == ["OT", "SR"]
    assert [row["state"] for row in hospital.revisions()] == ["reported"]
    back = [row for row in hospital.house.rows(schema.instance) if row["ours"]]
    assert {(row["sop_uid"], row["role"]) for row in back} == {(one["sop_uid"], "inert") for one in results}
    assert len(hospital.house.rows(schema.instance)) == len(images) + 2
