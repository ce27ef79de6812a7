"""Which series is used for what: geometry, then tags, then words in several languages; and what is never graded."""

from __future__ import annotations

from typing import Any

import pytest
from analytic_spine import T1_TAGS, Spine, axial_block, sagittal, study
from pydicom import Dataset

from cauda.core.domain import Reason, SeriesRole
from cauda.pipeline.exclusions import flags, series_exclusion, study_exclusion
from cauda.pipeline.series import series
from cauda.pipeline.weighting import Weighting, weighting


def _header(**tags: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"EchoTime": 102, "RepetitionTime": 3800}, Weighting.T2),
        ({"EchoTime": 102, "RepetitionTime": 3800, "SeriesDescription": "T1 SAG"}, Weighting.T2),
        ({"EchoTime": 10, "RepetitionTime": 550}, Weighting.T1),
        ({"EchoTime": 9, "RepetitionTime": 2000, "InversionTime": 860}, Weighting.T1),  # T1 FLAIR
        ({"EchoTime": 35, "RepetitionTime": 4000, "InversionTime": 160}, Weighting.STIR),
        ({"EchoTime": 70, "RepetitionTime": 4000, "InversionTime": 160}, Weighting.STIR),
        ({"EchoTime": 30, "RepetitionTime": 2500}, Weighting.PD),
        ({"EchoTime": 0, "SeriesDescription": "t2_tse_tra"}, Weighting.T2),
        ({"SeriesDescription": "Sag T2 FRFSE"}, Weighting.T2),
        ({"SeriesDescription": "T1W_TSE_SAG"}, Weighting.T1),
        ({"SeriesDescription": "SAG T1/T2"}, None),
        ({"SeriesDescription": "t2_tirm_sag"}, Weighting.STIR),
        ({"SeriesDescription": "Т2 САГ"}, Weighting.T2),  # Cyrillic letters
        ({}, None),
    ],
)
def test_weighting_by_timing_then_by_words(tags: dict[str, Any], expected: Weighting | None) -> None:
    assert weighting(_header(**tags)) is expected


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Reason.LOCALIZER),
        ({"SeriesDescription": "3 plane loc"}, Reason.LOCALIZER),
        ({"SeriesDescription": "Lokalisator"}, Reason.LOCALIZER),
        ({"SeriesDescription": "Repérage"}, Reason.LOCALIZER),
        ({"SeriesDescription": "ep2d_diff_b1000"}, Reason.DIFFUSION),
        ({"DiffusionBValue": 800.0}, Reason.DIFFUSION),
        ({"ScanningSequence": "GR"}, Reason.GRADIENT_ECHO),
        ({"SeriesDescription": "t2_medic_tra"}, Reason.GRADIENT_ECHO),
        ({"SeriesDescription": "T2_HASTE_MYELO"}, Reason.MYELOGRAPHY),
        ({"EchoTime": 700.0}, Reason.MYELOGRAPHY),
        ({"SeriesDescription": "AX T1 FS +C"}, Reason.POST_CONTRAST_FAT_SUPPRESSED),
        ({"SeriesDescription": "tra t1 fs nach KM"}, Reason.POST_CONTRAST_FAT_SUPPRESSED),
        ({"ScanOptions": "FS", "ContrastBolusAgent": "Gadovist"}, Reason.POST_CONTRAST_FAT_SUPPRESSED),
        ({"ScanOptions": "FS", "ContrastBolusAgent": "NONE"}, None),
        ({"SeriesDescription": "t2_tse_tra", "ContrastBolusAgent": "Gadovist"}, None),
        ({"SeriesDescription": "T2 Dixon W", "ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]}, None),
        ({"SeriesDescription": "FAT: Ax T2 Flex"}, Reason.DIXON_PART),
        ({"SeriesDescription": "t2_tse_dixon_tra_opp"}, Reason.DIXON_PART),
        ({"SeriesDescription": "T2 AX", "ImageType": ["DERIVED", "PRIMARY", "F", "F", "DERIVED"]}, Reason.DIXON_PART),
        ({"SeriesDescription": "AX T2 FAT SAT"}, None),
        ({"SeriesDescription": "t2_tse_tra opp. L4/5"}, None),
        ({"SeriesDescription": "造影 T1 SAG FatSat"}, Reason.POST_CONTRAST_FAT_SUPPRESSED),
        ({"SeriesDescription": "T1W SPIR с контрастом"}, Reason.POST_CONTRAST_FAT_SUPPRESSED),
        ({"SeriesDescription": "增强 t1_fse_tra 压脂"}, Reason.POST_CONTRAST_FAT_SUPPRESSED),
        ({"SeriesDescription": "非造影 T2 FS"}, None),
        ({"SeriesDescription": "位置決め"}, Reason.LOCALIZER),
        ({"SeriesDescription": "t2_tse_tra_locked"}, None),
        ({}, None),
    ],
)
def test_a_series_that_is_never_graded_says_why(tags: dict[str, Any], reason: Reason | None) -> None:
    assert series_exclusion(_header(**tags)) is reason


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"StudyDescription": "MRT LWS"}, None),
        ({"StudyDescription": "RM COLUMNA LUMBAR"}, None),
        ({"StudyDescription": "IRM du rachis lombaire"}, None),
        ({}, None),
        ({"PatientAge": "017Y"}, Reason.UNDER_18),
        ({"PatientAge": "018Y"}, None),
        ({"PatientAge": "011M"}, Reason.UNDER_18),
        ({"PatientAge": "000Y"}, None),  # how scanners write that they know no age
        ({"PatientAge": "000Y", "PatientBirthDate": "20200101", "StudyDate": "20260101"}, Reason.UNDER_18),
        ({"PatientAge": "000Y", "PatientBirthDate": "19840309", "StudyDate": "20160309"}, None),
        ({"PatientBirthDate": "20080601", "StudyDate": "20260531"}, Reason.UNDER_18),
        ({"PatientBirthDate": "20080531", "StudyDate": "20260531"}, None),
        ({"PatientBirthDate": "", "StudyDate": "20260531"}, None),
        ({"StudyDescription": "MR guided biopsy lumbar spine"}, Reason.INTERVENTIONAL),
        ({"StudyDescription": "MRT Becken"}, Reason.EXAM_DENIED),
        ({"StudyDescription": "MR SI JOINTS", "BodyPartExamined": "LSPINE"}, Reason.EXAM_DENIED),
        ({"BodyPartExamined": "PROSTATE"}, Reason.EXAM_DENIED),
        ({"BodyPartExamined": "PELVIS", "StudyDescription": "MR LUMBAR SPINE"}, None),
        ({"StudyDescription": "MR BRAIN"}, Reason.NOT_LUMBAR),
        ({"StudyDescription": "MRT HWS", "BodyPartExamined": "LSPINE"}, Reason.NOT_LUMBAR),
        ({"StudyDescription": "MR whole spine cervical thoracic lumbar"}, None),
    ],
)
def test_a_study_is_rejected_by_age_intervention_or_exam(tags: dict[str, Any], reason: Reason | None) -> None:
    answer = study_exclusion([_header(**tags)])
    assert (answer[0] if answer else None) is reason


def test_a_sites_own_words_deny_even_a_lumbar_exam() -> None:
    header = _header(StudyDescription="MR lumbar plexus protocol")
    assert study_exclusion([header]) is None
    answer = study_exclusion([header], denied=["plexus"])
    assert answer is not None
    assert answer[0] is Reason.EXAM_DENIED


def test_contrast_upright_and_low_field_are_stated_and_so_is_what_is_not_detected() -> None:
    said = " ".join(
        flags([_header(ContrastBolusAgent="Gadovist", MagneticFieldStrength=0.5, StudyDescription="upright")])
    )
    for word in ("contrast", "Upright", "below 1 T", "Not detected"):
        assert word in said
    assert len(flags([_header()])) == 1


def test_roles_come_from_geometry_and_timing_without_any_description() -> None:
    images = study(Spine(), SeriesDescription=None)
    roles = {one.uid: one.role for one in series(images)}
    assert roles == {
        "1.2.3.1": SeriesRole.SAGITTAL_T2,
        "1.2.3.2": SeriesRole.AXIAL_T2,
        "1.2.3.3": SeriesRole.SAGITTAL_T1,
    }


def test_an_axial_t1_and_a_three_plane_series_are_not_candidates() -> None:
    spine = Spine()
    three = [*sagittal(spine, "9")[:3], *axial_block(spine, 1, "9")[:3]]
    found = series([*axial_block(spine, 0, "8", **T1_TAGS), *three])
    assert {one.uid: one.reason for one in found} == {"8": Reason.NOT_T2, "9": Reason.LOCALIZER}


def test_the_later_of_two_equal_series_is_preferred_and_a_reformatted_one_comes_last() -> None:
    spine = Spine()
    images = [
        *axial_block(spine, 0, "1", SeriesTime="100000"),
        *axial_block(spine, 0, "2", SeriesTime="101500"),
        *axial_block(spine, 0, "3", SeriesTime="103000", ImageType=["DERIVED", "SECONDARY", "MPR"]),
    ]
    assert [one.uid for one in series(images)] == ["2", "1", "3"]
