"""Who gets results: no live archive gets research results or phantoms unless somebody said so."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.core.settings import Destination
from cauda.worker.addressees import addressees, is_phantom

LIVE = "dimse://PACS@192.0.2.1:104"


@pytest.mark.parametrize(
    ("url", "research", "phantom", "parked"),
    [
        (LIVE, False, False, None),
        (LIVE, True, False, Reason.NOT_RESEARCH),
        (f"{LIVE}?research=1", True, False, None),
        (f"{LIVE}?shadow=1", False, False, Reason.SHADOW),
        (f"{LIVE}?research=1&shadow=1", True, False, Reason.SHADOW),
        (f"{LIVE}?research=1", True, True, Reason.PHANTOM_NOT_LIVE),
        (f"{LIVE}?research=1&test=1", True, True, None),
        ("dimse://PACS@127.0.0.1:104", True, True, None),
        ("dimse://PACS@localhost:104?shadow=1", True, True, Reason.SHADOW),
        ("folder:/results", True, True, None),
    ],
)
def test_why_nothing_is_sent(url: str, research: bool, phantom: bool, parked: Reason | None) -> None:
    (made,) = addressees([Destination.model_validate(url)], research=research, phantom=phantom)
    assert made.parked == parked


def test_an_archive_that_takes_no_sr_is_remembered() -> None:
    (made,) = addressees([Destination.model_validate(f"{LIVE}?sr=0")], research=False, phantom=False)
    assert not made.sr


@pytest.mark.parametrize(
    ("name", "patient", "expected"),
    [
        ("PHANTOM^CAUDA", "X1", True),
        ("Doe^Jane", "CAUDA-TEST-7", True),
        ("Phantom^Cauda", "", True),
        ("Phantom^Head", "CAUDA", False),
        ("", "", False),
    ],
)
def test_phantoms_are_known_by_name_or_number(name: str, patient: str, expected: bool) -> None:
    header = Dataset()
    header.PatientName, header.PatientID = name, patient
    assert is_phantom(header) is expected
