"""Whose images one study has: what some do not state is unknown, and the order in which they come decides nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from builders import mr_image
from ledgers import House, current_of, sha

from cauda.core import doubles, headers, intake, schema
from cauda.core.domain import Reason
from cauda.core.intake import Filed, Outcome

pytestmark = pytest.mark.peers

_BASE = {"PatientID": "P7", "IssuerOfPatientID": "WARD", "PatientBirthDate": "19600101", "AccessionNumber": "A1"}


def file(house: House, study: str, images: Sequence[tuple[int, dict[str, Any]]]) -> list[Outcome]:
    """File images, each a number and what it states, one after the other."""
    outcomes = []
    for number, attributes in images:
        with house.ledger.write() as conn:
            sop = f"{study}.9.{number}"
            header = headers.of(mr_image(study, f"{study}.{number % 2}", sop, **_BASE | attributes))
            kept = intake.versions(conn, study, sop)
            version = len(kept) + 1
            content = sha(repr((study, number, sorted(attributes.items(), key=str))))
            same = True if version > 1 else None
            filed = Filed(header=header, path=f"{sop}.v{version}", version=version, sha256=content,
                          dataset_sha256=content, bytes=1, association_id=None, source="MR",
                          compared=current_of(kept), same_picture=same)  # fmt: skip
            outcomes.append(intake.file_instance(house.ledger, conn, filed))
    return outcomes


def is_mixed(images: Sequence[tuple[int, dict[str, Any]]]) -> bool:
    """The rule in other words: some attribute has two values that are not empty."""
    for keyword in ("PatientID", "IssuerOfPatientID", "PatientBirthDate"):
        values = {str((_BASE | attributes)[keyword] or "").strip() for _, attributes in images} - {""}
        if len(values) > 1:
            return True
    return False


@pytest.mark.parametrize("keyword", ["PatientID", "IssuerOfPatientID", "PatientBirthDate", "AccessionNumber"])
def test_a_series_that_leaves_an_attribute_out_does_not_hold_its_study(house: House, keyword: str) -> None:
    """Nor do two accession numbers: a study may be done for two orders."""
    for turn, order in enumerate(permutations([(1, {}), (2, {keyword: None}), (3, {keyword: ""})])):
        file(house, f"1.{turn}", order)
        assert house.study(f"1.{turn}").hold is None
    file(house, "1.77", [(1, {}), (2, {"AccessionNumber": "A2"})])
    assert house.study("1.77").hold is None


def test_any_order_of_the_images_gives_the_same_verdict(house: House) -> None:
    draw = random.Random(7)
    verdicts = set()
    for case in range(12):
        images = [
            (
                number,
                {
                    "PatientID": draw.choice(["P7", "P7", None, *(["P8"] if case % 2 else [])]),
                    "IssuerOfPatientID": draw.choice(["WARD", None, ""]),
                    "PatientBirthDate": draw.choice(["19600101", None, *(["19610101"] if case % 3 == 0 else [])]),
                },
            )
            for number in range(4)
        ]
        for turn in range(4):
            draw.shuffle(images)
            file(house, f"1.{case}.{turn}", images)
            held = house.study(f"1.{case}.{turn}").hold
            assert (held == Reason.IDENTITY_MIXED) is is_mixed(images)
            verdicts.add(held)
    assert len(verdicts) == 2


def test_an_image_that_states_nothing_does_not_end_a_hold(house: House) -> None:
    file(house, "1.1", [(1, {}), (2, {"PatientID": "P8"})])
    file(house, "1.1", [(3, {"PatientID": None})])
    assert house.study().hold == Reason.IDENTITY_MIXED


def test_a_resend_that_leaves_something_out_is_no_correction(house: House) -> None:
    """One that states something new is: results gain it."""
    file(house, "1.1", [(1, {}), (2, {})])
    assert file(house, "1.1", [(1, {"PatientBirthDate": None})]) == [Outcome.VARIANT]
    assert house.study().corrected_at is None
    assert file(house, "1.1", [(2, {"PatientName": "New^Name"})]) == [Outcome.CORRECTION]
    assert house.study().corrected_at is not None


def test_images_filed_before_statements_were_kept_still_hold_for_another_patient(house: House) -> None:
    house.arrive(sop="1.1.1.0")
    house.arrive(sop="1.1.1.1")
    assert house.study().hold is None
    house.arrive(sop="1.1.1.2", identity="other")
    assert house.study().hold == Reason.IDENTITY_MIXED


def test_an_operators_release_of_another_hold_does_not_mix_patients(house: House) -> None:
    file(house, "1.1", [(1, {}), (2, {"PatientID": "P8"})])
    with house.ledger.write() as conn:
        assert intake.hold(house.ledger, conn, "1.1", Reason.OPERATOR, "wait")
        released = doubles.release(house.ledger, conn, "1.1")
    assert released is not None
    assert released.held_for == Reason.IDENTITY_MIXED
    assert house.study().hold == Reason.IDENTITY_MIXED
    with house.ledger.write() as conn:
        doubles.release(house.ledger, conn, "1.1")
    assert house.study().hold is None


def test_no_patient_attribute_stands_in_the_ledger(house: House) -> None:
    file(house, "1.1", [(1, {"PatientID": "SECRETID", "AccessionNumber": "SECRETACC", "PatientBirthDate": "19331231"})])
    row = str(house.rows(schema.instance)[0]._mapping)
    assert not any(value in row for value in ("SECRETID", "SECRETACC", "19331231", "WARD"))
