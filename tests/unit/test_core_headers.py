"""What a header alone says an image may be used for (CLINICAL.md 1, 3, 6), on data sets made by hand."""

from __future__ import annotations

import random
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from builders import (
    COMPREHENSIVE_SR,
    CORONAL,
    KEY_OBJECT,
    SAGITTAL,
    SECONDARY_CAPTURE,
    foreign_result,
    mr_image,
    part10,
)
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cauda.core import headers
from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.core.headers import Role

_CAUDA = Dataset()
_CAUDA.Manufacturer, _CAUDA.DeviceUID = "Cauda", "2.25.1"

POOR: dict[str, Any] = {"EchoTime": None, "RepetitionTime": None, "ScanningSequence": None, "SeriesDescription": ""}

ROLES: list[tuple[str, dict[str, Any], Role]] = [
    ("axial T2", {}, Role.AXIAL),
    ("sagittal T2", {"ImageOrientationPatient": SAGITTAL}, Role.SAGITTAL),
    ("sagittal T2, the other way round", {"ImageOrientationPatient": [0, -1, 0, 0, 0, -1]}, Role.SAGITTAL),
    ("axial, angled 25 degrees to the disc", {"ImageOrientationPatient": [1, 0, 0, 0, 0.906, 0.423]}, Role.AXIAL),
    ("header that says nothing, axial", POOR, Role.AXIAL),
    ("header that says nothing, sagittal", POOR | {"ImageOrientationPatient": SAGITTAL}, Role.SAGITTAL),
    ("sagittal T1 by times", {"ImageOrientationPatient": SAGITTAL, "EchoTime": 10, "RepetitionTime": 550,
                              "SeriesDescription": "SAG"}, Role.SAGITTAL_T1),
    ("sagittal T1 by words", POOR | {"ImageOrientationPatient": SAGITTAL, "SeriesDescription": "t1_tse_sag"},
     Role.SAGITTAL_T1),
    ("sagittal STIR: short echo, long repetition", {"ImageOrientationPatient": SAGITTAL, "EchoTime": 35,
     "RepetitionTime": 4000, "SeriesDescription": "STIR SAG"}, Role.SAGITTAL),
    ("axial T1", {"EchoTime": 10, "RepetitionTime": 550, "SeriesDescription": "T1 TRA"}, Role.MR_OTHER),
    ("coronal", {"ImageOrientationPatient": CORONAL}, Role.MR_OTHER),
    ("axial, angled 50 degrees to a steep L5/S1", {"ImageOrientationPatient": [1, 0, 0, 0, 0.643, 0.766]}, Role.AXIAL),
    ("coronal, leaning 20 degrees", {"ImageOrientationPatient": [1, 0, 0, 0, 0.342, -0.94]}, Role.MR_OTHER),
    ("the exam's protocol: myelography", {"ProtocolName": "L-SPINE ROUTINE + MYELO"}, Role.AXIAL),
    ("the exam's protocol: diffusion", {"ProtocolName": "LUMBAR W/WO DWI", "ImageOrientationPatient": SAGITTAL},
     Role.SAGITTAL),
    ("the exam's protocol, no description", POOR | {"ProtocolName": "WS LWS MERGE OPTIONAL"}, Role.AXIAL),
    ("sagittal T1 by the protocol's name, no description",
     POOR | {"ProtocolName": "t1_tse_sag", "ImageOrientationPatient": SAGITTAL}, Role.SAGITTAL_T1),
    ("localiser by image type", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Role.MR_OTHER),
    ("localiser by words", {"SeriesDescription": "3-pl loc"}, Role.MR_OTHER),
    ("diffusion map", {"ImageType": ["DERIVED", "PRIMARY", "ADC"]}, Role.MR_OTHER),
    ("diffusion by words", {"SeriesDescription": "ep2d_diff_b1000"}, Role.MR_OTHER),
    ("gradient echo by tag", {"ScanningSequence": "GR"}, Role.MR_OTHER),
    ("gradient echo by words", {"SeriesDescription": "t2_medic_tra"}, Role.MR_OTHER),
    ("myelography", {"SeriesDescription": "HASTE MYELO"}, Role.MR_OTHER),
    ("no orientation", {"ImageOrientationPatient": None}, Role.MR_OTHER),
    ("orientation of zeros", {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, Role.MR_OTHER),
    ("orientation of three numbers", {"ImageOrientationPatient": [1, 0, 0]}, Role.MR_OTHER),
    ("DERIVED alone excludes nothing", {"ImageType": ["DERIVED", "SECONDARY", "M", "DIS2D"]}, Role.AXIAL),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "expected"), [r[1:] for r in ROLES], ids=[r[0] for r in ROLES])
def test_the_role_of_an_image(attributes: dict[str, Any], expected: Role) -> None:
    assert headers.role(mr_image("1.2", "1.3", "1.4", **attributes)) is expected


@pytest.mark.parametrize("kind", [SECONDARY_CAPTURE, COMPREHENSIVE_SR, KEY_OBJECT])
def test_what_is_no_mr_image_is_inert(kind: str) -> None:
    assert headers.role(foreign_result(mr_image("1.2", "1.3", "1.4"), "1.5", kind)) is Role.INERT


def test_an_enhanced_image_carries_its_orientation_in_the_functional_groups() -> None:
    plane, groups = Dataset(), Dataset()
    plane.ImageOrientationPatient = SAGITTAL
    groups.PlaneOrientationSequence = Items([plane])
    enhanced = mr_image(
        "1.2", "1.3", "1.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", ImageOrientationPatient=None,
        SharedFunctionalGroupsSequence=Items([groups]),
    )  # fmt: skip
    assert headers.role(enhanced) is Role.SAGITTAL


def test_an_enhanced_image_carries_its_weighting_there_too() -> None:
    """Nothing is said in words: a T1 is told by its times, a localiser by its gradient echo."""
    echo, timing, groups = Dataset(), Dataset(), Dataset()
    echo.EffectiveEchoTime, timing.RepetitionTime = 11.0, 560
    groups.MREchoSequence, groups.MRTimingAndRelatedParametersSequence = Items([echo]), Items([timing])
    enhanced = mr_image(
        "1.2", "1.3", "1.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", SharedFunctionalGroupsSequence=Items([groups]),
        **POOR,
    )  # fmt: skip
    assert headers.role(enhanced) is Role.MR_OTHER
    timing.RepetitionTime = 4000
    assert headers.role(enhanced) is Role.AXIAL
    enhanced.EchoPulseSequence = "GRADIENT"
    assert headers.role(enhanced) is Role.MR_OTHER


def test_only_our_own_device_makes_an_object_ours() -> None:
    """CLINICAL.md 1: our DeviceUID in Contributing Equipment; the maker's name alone is no proof."""
    image = mr_image("1.2", "1.3", "1.4")
    assert not headers.is_ours(image)
    equipment = Dataset()
    equipment.Manufacturer = "Cauda"
    image.ContributingEquipmentSequence = Items([equipment])
    assert not headers.is_ours(image)
    equipment.DeviceUID = "2.25.7"
    assert headers.is_ours(image)
    equipment.Manufacturer = "Somebody"
    assert not headers.is_ours(image)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("value", ["", "../../evil", "1..2"])
def test_a_missing_or_wrong_uid_is_named(keyword: str, value: str) -> None:
    image = mr_image("1.2", "1.3", "1.4")
    image[keyword].value = value
    with pytest.raises(Rejected, match=keyword) as refused:
        headers.of(image)
    assert refused.value.reason is Reason.UID_INVALID


def test_identity_is_patient_id_with_issuer_and_birth_date_and_not_the_spelling_of_the_name() -> None:
    """CLINICAL.md 4."""

    def of(**attributes: Any) -> headers.Header:
        return headers.of(mr_image("1.2", "1.3", "1.4", **attributes))

    one = of()
    assert of(PatientName="TEST^STUDY").identity == one.identity
    assert of(PatientID=" PID1 ").identity == one.identity
    assert of(PatientName="TEST^STUDY").demographics != one.demographics
    assert of(AccessionNumber="ACC2").demographics != one.demographics
    assert of(AccessionNumber="ACC2").identity == one.identity
    for other in ({"PatientID": "PID2"}, {"PatientBirthDate": "19600103"}, {"IssuerOfPatientID": "SITE2"}):
        assert of(**other).identity != one.identity
    assert of(SeriesDescription="T2 again").demographics == one.demographics


_LIKE_ITS_NEIGHBOUR: list[dict[str, Any]] = [
    {}, {"PatientName": "Other^Name"}, {"PatientID": "PID2"}, {"PatientBirthDate": ""}, {"IssuerOfPatientID": "SITE2"},
    {"AccessionNumber": "ACC2"}, {"StudyDate": "20250315"}, {"StudyDate": None}, {"ReferringPhysicianName": "Who"},
    {"ImageOrientationPatient": SAGITTAL}, {"ImageOrientationPatient": None}, {"EchoTime": 9, "RepetitionTime": 500},
    {"SeriesDescription": "localizer"}, {"ImageType": ["DERIVED", "PRIMARY", "ADC"]}, {"ScanningSequence": "GR"},
    {"SOPClassUID": SECONDARY_CAPTURE}, {"StudyInstanceUID": "1.5"}, {"SeriesInstanceUID": "1.6"},
    {"SpecificCharacterSet": "ISO_IR 192"}, {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "M\u00fcller"},
    {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "M\u00fcller"}, {"SpecificCharacterSet": None},
    {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"},
    {"StudyDescription": "x" * 5000}, {"ContributingEquipmentSequence": Items([_CAUDA])},
]  # fmt: skip


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_each_image_of_a_burst_is_read_as_if_it_came_alone(syntax: str) -> None:
    """What was read of the image before is used again only for what both say with the same bytes."""
    for number, attributes in enumerate((one for one in _LIKE_ITS_NEIGHBOUR for _ in range(2)), start=1):
        image = mr_image("1.2", "1.3", f"1.4.{number}", **attributes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, about a description that is too long
            header, meta = headers.read(BytesIO(part10(image, syntax)))
            assert header == headers.of(image), attributes
        assert meta.TransferSyntaxUID == syntax


def test_a_header_holds_no_patient_attribute() -> None:
    marked = {"PatientName": "MARKED^NAME", "PatientID": "MARKEDID", "AccessionNumber": "MARKEDACC"}
    assert "MARKED" not in repr(headers.of(mr_image("1.2", "1.3", "1.4", **marked)))


def test_a_damaged_header_is_rejected_with_a_reason_and_never_breaks_the_reader(tmp_path: Path) -> None:
    """Bytes overwritten, removed or doubled at places drawn from a seed: a header comes out, or Rejected."""
    draw = random.Random(20260102)
    whole = part10(mr_image("1.2", "1.3", "1.4"))
    header = len(whole) - 2048
    rejected = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about what we broke
        for _ in range(600):
            broken = bytearray(whole)
            for _ in range(draw.randint(1, 6)):
                at, length = draw.randrange(header), draw.randint(1, 8)
                broken[at : at + length] = draw.choice([b"", draw.randbytes(length), bytes(length), b"\xff" * length])
            file = tmp_path / "image.dcm"
            file.write_bytes(broken[: draw.choice([len(broken), draw.randrange(len(broken))])])
            try:
                headers.read(file)
            except Rejected:
                rejected += 1
    assert 100 < rejected < 600
