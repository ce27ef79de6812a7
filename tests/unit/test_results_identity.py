"""Whose study it is: copied from the images to the byte, or taken from the archive."""

from __future__ import annotations

from io import BytesIO

import builders_results as given
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results.secondary_capture import secondary_capture
from cauda.pipeline.results.structured_report import structured_report

STUDY_LEVEL = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "SpecificCharacterSet",
)  # fmt: skip

TEXTS = [
    ("ISO_IR 100", "Müller^Jörg"),
    ("ISO_IR 192", "Ångström^Zoë=王^小東"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO_IR 144", "Люкceмбypг"),
    ("GB18030", "Wang^XiaoDong=王^小东"),
]


def value_bytes(dataset: Dataset, keyword: str) -> bytes:
    """The value as it lies on the wire, from an encoder of its own."""
    one = Dataset()
    one[keyword] = dataset[keyword]
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, one, dataset.get("SpecificCharacterSet", "ISO_IR 6"))
    return buffer.getvalue()[8:]


def on_disk(dataset: Dataset) -> Dataset:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def results(sources: list[Dataset], **changes: object) -> list[Dataset]:
    context = given.context(**changes)
    made = (
        structured_report(given.no_bundle(), sources, context),
        secondary_capture(given.no_bundle(), Pictures(), sources, context),
    )
    return [on_disk(one) for one in made]


@pytest.mark.parametrize(("charset", "name"), TEXTS)
def test_text_leaves_with_the_images_character_set_and_bytes(charset: str | list[str], name: str) -> None:
    sources = given.sources(SpecificCharacterSet=charset, PatientName=name)
    raw = sources[0].get_item("PatientName").value
    for made in results(sources):
        assert made.get_item("PatientName").value == raw
        assert made.SpecificCharacterSet == sources[0].SpecificCharacterSet
        assert str(made.PatientName) == str(sources[0].PatientName)


def test_bytes_that_no_character_set_explains_are_passed_on_as_they_are() -> None:
    """Latin-1 bytes without a declared set: not ours to repair, and the archive knows them this way."""
    sources = given.sources(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    for source in sources:
        del source.SpecificCharacterSet
    for made in results(sources):
        assert made.get_item("PatientName").value.rstrip() == "Müller^Jörg".encode("latin-1")
        assert "SpecificCharacterSet" not in made


def test_study_level_attributes_are_the_images_to_the_byte() -> None:
    sources = given.sources(SpecificCharacterSet="ISO_IR 100")
    for made in results(sources):
        for keyword in STUDY_LEVEL:
            assert value_bytes(made, keyword) == value_bytes(sources[0], keyword), keyword


def test_what_the_images_lack_is_empty_and_nothing_is_invented() -> None:
    for made in results(given.poor_sources()):
        assert made.PatientID == given.PATIENT_ID
        for keyword in ("PatientName", "PatientBirthDate", "StudyDate", "AccessionNumber", "ReferringPhysicianName"):
            assert made[keyword].is_empty, keyword
        assert "PatientAge" not in made
        assert "StudyDescription" not in made


def test_the_archives_identity_replaces_the_images() -> None:
    archive = {
        "PatientID": "NEW-1", "IssuerOfPatientID": "HOSP", "PatientName": "Archivist^Ada", "AccessionNumber": "A-9",
        "StudyInstanceUID": "1.2.3.4",
    }  # fmt: skip
    for made in results(given.sources(), identity=archive):
        for keyword, value in archive.items():
            assert made[keyword].value == value
        assert made.PatientBirthDate == "19640229"
    assert results(given.sources())[0].PatientID == given.PATIENT_ID


def test_a_name_that_the_images_character_set_cannot_spell_moves_the_object_to_unicode() -> None:
    sources = given.sources(SpecificCharacterSet="ISO_IR 100", StudyDescription="Rückenschmerz")
    for made in results(sources, identity={"PatientName": "山田^太郎"}):
        assert made.SpecificCharacterSet == "ISO_IR 192"
        assert made.PatientName == "山田^太郎"
        assert made.StudyDescription == "Rückenschmerz"


@pytest.mark.parametrize("name", ["Wang^XiaoDong=\u738b^\u5c0f\u6771=", "M\u00fcller^J\u00f6rg^^^ ", "A^B==  "])
def test_a_name_is_not_tidied_up(name: str) -> None:
    """Empty groups and blanks at its end are the archive's key to the patient as much as the rest."""
    raw = name.encode()
    raw += b" " * (len(raw) % 2)
    sources = given.sources(SpecificCharacterSet="ISO_IR 192")
    for source in sources:
        source["PatientName"] = sources[0].get_item("PatientName")._replace(value=raw, length=len(raw))
    for made in results(sources):
        assert made.get_item("PatientName").value == raw


def test_text_within_sequences_moves_to_unicode_with_the_rest() -> None:
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator, procedure.CodeMeaning = "M1", "99HOUSE", "Wirbels\u00e4ule"
    sources = given.sources(SpecificCharacterSet="ISO_IR 100", ProcedureCodeSequence=[procedure])
    for made in results(sources, identity={"PatientName": "\u5c71\u7530^\u592a\u90ce"}):
        assert made.ProcedureCodeSequence[0].CodeMeaning == "Wirbels\u00e4ule"


def test_the_archives_bytes_are_written_as_they_came() -> None:
    archive = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg".encode("latin-1")}
    for made in results(given.sources(), identity=archive):
        assert made.get_item("PatientName").value.rstrip() == archive["PatientName"]
        assert made.PatientName == "Müller^Jörg"


@pytest.mark.parametrize("keyword", ["PatientBirthDate", "IssuerOfPatientID", "AccessionNumber", "PatientID"])
@pytest.mark.parametrize("absent", [None, ""])
def test_what_the_first_image_does_not_state_comes_from_one_that_does(keyword: str, absent: str | None) -> None:
    """One series of a study may leave out what another states."""
    value = {"PatientBirthDate": "19640229", "IssuerOfPatientID": "WARD7"}.get(keyword, "X17")
    first = given.undecoded(given.header(given.AXIAL, 7, 1, **{keyword: absent}))
    second = given.undecoded(given.header(given.SAGITTAL, 4, 1, **{keyword: value}))
    for made in results([first, second]):
        assert made.get(keyword) == value
