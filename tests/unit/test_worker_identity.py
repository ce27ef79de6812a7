"""Whether the archive's study is the one that a result belongs to (CLINICAL.md 25)."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import ImplicitVRLittleEndian

from cauda.worker.identity import Check, Verdict, differences, stated


def attributes(**values: str) -> Dataset:
    made = Dataset()
    given = {"StudyInstanceUID": "1.2.3", "PatientID": "P1", "IssuerOfPatientID": "H", "AccessionNumber": "A1"} | values
    for keyword, value in given.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({}, {}, ()),
        ({}, {"PatientID": "P2"}, ("PatientID",)),
        ({}, {"PatientID": " P1 "}, ()),
        ({}, {"PatientID": ""}, ()),
        ({"PatientID": ""}, {"PatientID": "P1"}, ("PatientID",)),
        ({}, {"IssuerOfPatientID": "OTHER"}, ("IssuerOfPatientID",)),
        ({"IssuerOfPatientID": ""}, {"IssuerOfPatientID": "OTHER"}, ()),
        ({}, {"AccessionNumber": "A2", "StudyInstanceUID": "1.2.4"}, ("StudyInstanceUID", "AccessionNumber")),
        ({"AccessionNumber": ""}, {"AccessionNumber": "A2"}, ()),
    ],
)
def test_what_differs(ours: dict[str, str], theirs: dict[str, str], expected: tuple[str, ...]) -> None:
    assert differences(attributes(**ours), attributes(**theirs)) == expected


@pytest.mark.parametrize(
    ("numbers", "theirs", "expected"),
    [
        ({"A1", "A2"}, "A2", ()),
        ({"A1", "A2"}, "A2 ", ()),
        ({"A1", "A2"}, "A3", ("AccessionNumber",)),
        ({"A1", "A2"}, "", ()),
        ({"A1"}, "A2", ("AccessionNumber",)),
        (set(), "A2", ("AccessionNumber",)),
    ],
)
def test_an_accession_number_is_right_if_it_is_one_of_the_studys(
    numbers: set[str], theirs: str, expected: tuple[str, ...]
) -> None:
    match = attributes(AccessionNumber=theirs)
    assert differences(attributes(), match, lambda: numbers) == expected
    other = attributes(AccessionNumber=theirs, PatientID="P2")
    assert differences(attributes(), other, lambda: numbers) == ("PatientID", *expected)


def test_an_attribute_that_is_not_returned_is_unknown() -> None:
    match = attributes()
    del match.AccessionNumber, match.IssuerOfPatientID
    assert differences(attributes(), match) == ()


def test_the_archives_bytes_survive_the_ledger() -> None:
    match = attributes(PatientID="P2", PatientName="Größe^Ünal")
    match.SpecificCharacterSet = "ISO_IR 100"
    kept = stated(_over_the_wire(match))
    assert kept["PatientName"].encode("latin-1") == "Größe^Ünal".encode("iso-8859-1")
    assert kept["SpecificCharacterSet"] == "ISO_IR 100"
    assert stated(match) == kept  # also when somebody has decoded it


def test_plain_text_brings_no_character_set_of_its_own() -> None:
    match = attributes()
    match.SpecificCharacterSet = "ISO_IR 192"
    assert stated(_over_the_wire(match)) == {
        "StudyInstanceUID": "1.2.3", "PatientID": "P1", "IssuerOfPatientID": "H", "AccessionNumber": "A1"
    }  # fmt: skip


def test_a_check_does_not_print_the_archives_values() -> None:
    check = Check(verdict=Verdict.OTHER, differing=("PatientID",), archive={"PatientID": "SECRET7"})
    assert "SECRET7" not in repr(check)


def _over_the_wire(dataset: Dataset) -> Dataset:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=True, little_endian=True)
    buffer.seek(0)
    read = dcmread(buffer, force=True)
    assert read.original_encoding == (True, True), ImplicitVRLittleEndian
    return read
