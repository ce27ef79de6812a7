"""What images state of their patient: only two different stated values conflict (CLINICAL.md 4, 25)."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import pytest
from builders import mr_image

from cauda.core import headers, identity

_STUDY = "1.2"


def stated(**attributes: Any) -> str:
    made = headers.of(mr_image(_STUDY, "1.3", "1.4", **attributes)).stated
    assert made is not None
    return made


@pytest.mark.parametrize("keyword", ["PatientID", "IssuerOfPatientID", "PatientBirthDate"])
@pytest.mark.parametrize("absent", [None, "", "  ", "\0"])
def test_what_one_image_does_not_state_is_unknown(keyword: str, absent: str | None) -> None:
    says = {"PatientID": "P7", "IssuerOfPatientID": "WARD", "PatientBirthDate": "19600101"}
    for one in permutations([stated(**says), stated(**says | {keyword: absent})]):
        assert not identity.conflict(one)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [("PatientID", ("P7", "P8")), ("IssuerOfPatientID", ("A", "B")), ("PatientBirthDate", ("19600101", "19600102"))],
)
def test_two_different_stated_values_conflict_in_any_order(keyword: str, values: tuple[str, str]) -> None:
    """Also with an image between them that states neither."""
    first, second = ({keyword: value} for value in values)
    for one in permutations([stated(**first), stated(**{keyword: None}), stated(**second)]):
        assert identity.conflict(one)


def test_padding_and_the_dots_of_old_dates_are_no_other_value() -> None:
    assert not identity.conflict([stated(PatientID="P7"), stated(PatientID=" P7 ")])
    assert not identity.conflict([stated(PatientBirthDate="19600101"), stated(PatientBirthDate="1960.01.01")])
    assert not identity.conflict([stated(PatientBirthDate="19600101"), stated(PatientBirthDate="00000000")])


def test_other_accession_numbers_names_and_descriptions_are_no_other_patient() -> None:
    for keyword, value in {"AccessionNumber": "A2", "PatientName": "B^C", "StudyDescription": "X"}.items():
        assert not identity.conflict([stated(), stated(**{keyword: value})])


def test_a_header_that_leaves_something_out_says_no_more() -> None:
    """And one that states something new or otherwise does."""
    full = {"PatientName": "A^B", "AccessionNumber": "A1", "IssuerOfPatientID": "WARD"}
    for keyword, gone in product(full, (None, "")):
        assert identity.says_no_more(stated(**full | {keyword: gone}), stated(**full))
        assert not identity.says_no_more(stated(**full), stated(**full | {keyword: gone}))
        assert not identity.says_no_more(stated(**full | {keyword: "OTHER"}), stated(**full))


def test_a_stated_value_is_found_and_an_absent_one_is_not() -> None:
    one = stated(AccessionNumber="A1")
    assert identity.states(one, _STUDY, "AccessionNumber", " A1 ")
    assert not identity.states(one, _STUDY, "AccessionNumber", "A2")
    assert not identity.states(one, "1.9", "AccessionNumber", "A1")
    assert not identity.states(stated(AccessionNumber=None), _STUDY, "AccessionNumber", "")
