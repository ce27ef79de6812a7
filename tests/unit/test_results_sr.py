"""The Structured Report, read by code that knows nothing of how it was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import builders_results as given
import highdicom
import pydicom
import pytest
import sr_mistakes as read
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from cauda.core.domain import AxialEvidence, GradeScale, Level, Reason, Report
from cauda.pipeline.results.context import Reference
from cauda.pipeline.results.structured_report import SR_CLASSES, structured_report


@pytest.fixture(autouse=True)
def _misspelled_keywords_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydicom.config, "INVALID_KEYWORD_BEHAVIOR", "RAISE")


def written(sr: Dataset) -> bytes:
    buffer = BytesIO()
    sr.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def reread(sr: Dataset) -> Dataset:
    return dcmread(BytesIO(written(sr)))


def made(report: Report | None = None, **changes: object) -> Dataset:
    """As a receiver has it: written and read again."""
    return reread(structured_report(report or given.report(), given.sources(), given.context(**changes)))


REPORTS: dict[str, Callable[[], Report]] = {
    "mixed": given.report,
    "graded": lambda: given.report(*given.all_graded()),
    "no bundle": given.no_bundle,
    "doubt": lambda: given.report(level_doubt=Reason.TRANSITIONAL),
}


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("sop_class", SR_CLASSES)
def test_none_of_the_mistakes_that_validators_miss(kind: str, sop_class: str) -> None:
    sr = structured_report(REPORTS[kind](), given.sources(), given.context(), sop_class)
    assert read.mistakes(reread(sr), given.sources()) == set()
    assert sr.SOPClassUID == sop_class


def _said(item: Dataset) -> object:
    """An item and all below it, as far as a reader sees it."""
    values = [
        value
        for keyword in ("TextValue", "UID", "GraphicData", "ReferencedSOPSequence", "MeasuredValueSequence")
        if (value := item.get(keyword))
    ]
    codes = [read.value(item)] if "ConceptCodeSequence" in item else []
    below = [_said(child) for child in item.get("ContentSequence") or []]
    return (item.get("RelationshipType"), item.ValueType, read.name(item), str(values), codes, below)


@pytest.mark.parametrize("kind", REPORTS)
def test_the_lesser_classes_say_the_same(kind: str) -> None:
    """An archive that takes no Comprehensive 3D SR gets no poorer report."""
    one, *others = (
        reread(structured_report(REPORTS[kind](), given.sources(), given.context(), sop_class))
        for sop_class in SR_CLASSES
    )
    assert all(_said(other) == _said(one) for other in others)


def _drop(item: Dataset, code: str) -> None:
    item.ContentSequence = [child for child in item.ContentSequence if read.name(child) != code]


def _each_group(code: str) -> Callable[[Dataset], None]:
    def drop(sr: Dataset) -> None:
        for group in read.of_template(sr, "1501"):
            _drop(group, code)

    return drop


def _region(sr: Dataset) -> Dataset:
    return read.children(read.of_template(sr, "1410")[0], "111030")[0]


def _open(sr: Dataset) -> None:
    _region(sr).GraphicData = [*list(_region(sr).GraphicData)[:-2], 3.0, 3.0]


def _outside(sr: Dataset) -> None:
    _region(sr).GraphicData = [each + 200 for each in _region(sr).GraphicData]


def _mean_otherwise(sr: Dataset) -> None:
    read.children(read.of_template(sr, "1410")[0], "246112005")[0].ConceptNameCodeSequence[0].CodeMeaning = "Size"


@pytest.mark.parametrize(
    ("mistake", "make"),
    [
        ("no tracking UID", _each_group("112040")),
        ("no tracking identifier", _each_group("112039")),
        ("no procedure reported", lambda sr: _drop(sr, "121058")),
        ("no image region", lambda sr: _drop(read.of_template(sr, "1410")[0], "111030")),
        ("polyline not closed", _open),
        ("outside the image", _outside),
        ("wrong meaning", _mean_otherwise),
    ],
)
def test_each_mistake_is_seen_when_it_is_made(mistake: str, make: Callable[[Dataset], None]) -> None:
    sr = made()
    make(sr)
    assert read.mistakes(sr, given.sources()) == {mistake}


def of_findings(sr: Dataset) -> list[Dataset]:
    """The groups that say what was found at a level, by their severity."""
    return [group for group in read.of_template(sr, "1501") if read.children(group, "246112005")]


def of_quality(sr: Dataset) -> list[Dataset]:
    return [group for group in read.of_template(sr, "1501") if not read.children(group, "246112005")]


def test_a_levels_region_and_numbers_stand_in_groups_of_their_own_under_one_tracking_uid() -> None:
    """Region and numbers in one group would not become a measurement in OHIF."""
    sr = made()
    regions = read.of_template(sr, "1410")
    assert len(regions) == 4
    assert not [item for group in regions for item in group.ContentSequence if item.ValueType == "NUM"]
    uids = {level: uid for level, uid in given.context().tracking_uids.items() if level is not Level.L1_L2}
    for groups in (regions, of_findings(sr), of_quality(sr)):
        said = {read.children(g, "112040")[0].UID: read.children(g, "112039")[0].TextValue for g in groups}
        assert list(said) == list(uids.values())
        assert said[uids[Level.L4_L5]] == "AI unverified L4/L5 canal: Severe"


@pytest.mark.parametrize("kind", REPORTS)
def test_every_tracked_thing_has_a_region_since_a_viewer_fails_on_one_without(kind: str) -> None:
    """OHIF 3.13.2 merges groups by Tracking UID and reads the first coordinate of each, or shows no SR at all."""
    groups = read.groups(made(REPORTS[kind]()))
    tracked = {str(read.children(group, "112040")[0].UID) for group in groups}
    regions = [group for group in groups if any(item.get("ValueType") == "SCOORD" for item in read.walk(group))]
    assert {str(read.children(group, "112040")[0].UID) for group in regions} == tracked
    assert bool(tracked) == (kind != "no bundle")


def test_a_level_that_no_slice_shows_is_said_among_the_evaluations_with_its_level_and_disc() -> None:
    (evaluations,) = read.children(made(), "C0034375")
    (severity,) = read.children(evaluations, "246112005")
    assert read.value(severity) == "373068000"
    assert read.children(severity, "LEVEL")[0].TextValue == "L1/L2"
    assert [read.value(site) for site in read.children(severity, "363698007")] == ["61853006", "80064006"]
    assert read.value(read.children(evaluations, "NOT_GRADED")[0]) == "NOT_IMAGED"


def test_the_region_is_the_box_on_the_slice_that_gave_the_grade() -> None:
    """Pixel 77 begins at 77 and its centre is 77.5 in image coordinates (PS3.3 C.18.6)."""
    region = _region(made())
    assert list(region.GraphicData) == [77.5, 69.5, 179.5, 69.5, 179.5, 171.5, 77.5, 171.5, 77.5, 69.5]
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == f"{given.AXIAL}.11"
    assert "ReferencedFrameNumber" not in reference


def test_a_box_over_the_edge_is_cut_at_the_edge() -> None:
    axial = AxialEvidence(
        sop_instance_uid=f"{given.AXIAL}.4", frame=1, center_px=(5.0, 250.0), box_px=(-46.0, 199.0, 56.0, 301.0)
    )
    findings = (given.graded(Level.L1_L2, "Severe", axial=axial), *given.all_graded()[1:])
    points = list(_region(made(given.report(*findings))).GraphicData)
    assert points == [0, 199.5, 56.5, 199.5, 56.5, 256, 0, 256, 0, 199.5]


def test_a_multi_frame_image_is_referenced_by_frame() -> None:
    sources = given.sources(NumberOfFrames="40")
    finding = given.graded(Level.L1_L2, "Severe")
    assert finding.axial
    finding = replace(finding, axial=replace(finding.axial, frame=23))
    sr = structured_report(given.report(finding, *given.all_graded()[1:]), sources, given.context())
    assert _region(sr).ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == 23


def _findings_of(sr: Dataset) -> dict[str, set[str]]:
    """Tracking identifier -> findings, of all groups on levels."""
    found: dict[str, set[str]] = {}
    for group in read.groups(sr):
        text = read.children(group, "112039")[0].TextValue
        found.setdefault(text, set()).update(read.value(item) for item in read.children(group, "121071"))
    return found


def test_stenosis_is_a_finding_only_where_it_was_found() -> None:
    """An importer that reads only Finding must not see stenosis on a normal level, nor on one that was not graded."""
    found = _findings_of(made())
    with_stenosis = {text for text, codes in found.items() if "415582006" in codes}
    assert with_stenosis == {"AI unverified L3/L4 canal: Moderate", "AI unverified L4/L5 canal: Severe"}
    assert all("CANAL_ASSESSMENT" in codes for codes in found.values())
    first = [read.children(group, "121071")[0] for group in read.of_template(made(), "1410")]
    assert {read.value(item) for item in first} == {"CANAL_ASSESSMENT"}


def test_grades_have_the_codes_of_the_scale_and_normal_mild_is_one_grade() -> None:
    severities = [read.value(read.children(group, "246112005")[0]) for group in of_findings(made())]
    assert severities == ["NORMAL_MILD", "6736007", "24484000", "373068000"]
    schizas = tuple(
        given.graded(level, grade, probabilities={"A": 0.1, "B": 0.2, "C": 0.3, "D": 0.4})
        for level, grade in zip(Level, "ABCDA", strict=True)
    )
    sr = made(given.report(*schizas, bundle=given.bundle(GradeScale.SCHIZAS_4)))
    severities = [read.value(read.children(group, "246112005")[0]) for group in read.of_template(sr, "1410")]
    assert severities == ["SCHIZAS_A", "SCHIZAS_B", "SCHIZAS_C", "SCHIZAS_D", "SCHIZAS_A"]
    assert [text for text, codes in _findings_of(sr).items() if "415582006" not in codes] == [
        "AI unverified L1/L2 canal: Schizas A", "AI unverified L5/S1 canal: Schizas A",
    ]  # fmt: skip


def test_every_probability_is_a_number_with_its_grade_and_none_stands_in_a_text() -> None:
    group = of_findings(made())[2]
    said = {
        read.value(item.ContentSequence[0]): float(item.MeasuredValueSequence[0].NumericValue)
        for item in read.children(group, "122157")
    }
    assert said == {"NORMAL_MILD": 0.21, "6736007": 0.30, "24484000": 0.49}
    texts = [item.TextValue for item in read.walk(made()) if item.get("ValueType") == "TEXT"]
    assert not [text for text in texts if "%" in text or "0.49" in text or "0.21" in text]


def test_a_level_that_was_not_graded_is_undetermined_with_its_reason_and_no_number() -> None:
    group = of_findings(made())[3]
    assert read.value(read.children(group, "246112005")[0]) == "373068000"
    reason = read.children(group, "NOT_GRADED")[0].ConceptCodeSequence[0]
    assert (reason.CodeValue, reason.CodeMeaning) == ("MOTION", "motion. Severe stenosis not excluded")
    assert not [item for item in group.ContentSequence if item.ValueType in {"NUM", "SCOORD"}]


def test_while_numbering_is_in_doubt_no_level_name_and_no_disc_code_leaves() -> None:
    sr = made(
        given.report(level_doubt=Reason.SACRUM_NOT_SHOWN, flags=("Metal near L3/L4.",)),
        revision=2,
        change_text="replaces revision 1: L4/L5 was Moderate",
    )
    everything = sr.to_json()
    assert not [level.value for level in Level if level.value in everything]
    discs = {"80064006", "67459009", "62551000", "84020006", "715056000"}
    assert not [code for code in discs if code in everything]
    texts = [read.children(group, "112039")[0].TextValue for group in of_findings(sr)]
    assert texts[2] == "AI unverified 2nd from lowest canal: Severe"
    assert "NUMBERING UNCERTAIN: sacrum not shown" in everything
    assert "84020006" in made().to_json()  # the guard above can fail


def test_a_sacrum_that_is_not_shown_is_not_what_discs_are_counted_from() -> None:
    """The lowest disc of a cut-off picture stands above nothing that anybody has seen."""
    said = made(given.report(level_doubt=Reason.SACRUM_NOT_SHOWN)).to_json()
    assert "Discs counted from the lowest one shown" in said
    assert "above the sacrum" not in said
    assert (
        "Discs counted from the first one above the sacrum"
        in made(given.report(level_doubt=Reason.TRANSITIONAL)).to_json()
    )


def test_the_counting_and_the_limits_are_always_stated() -> None:
    texts = {item.TextValue for item in read.walk(made()) if item.get("ValueType") == "TEXT"}
    assert "Levels counted up from the sacrum, assuming five lumbar vertebrae; check against your own count." in texts
    assert any(text.startswith("Central canal only.") for text in texts)
    assert "RESEARCH: NOT FOR DIAGNOSIS" in texts


@pytest.mark.parametrize(
    ("report", "flag", "description"),
    [
        (given.report(), "PARTIAL", "Not graded: L5/S1 (motion)"),
        (given.report(*given.all_graded()), "COMPLETE", None),
        (given.report(given.not_graded(Level.L1_L2, Reason.NOT_IMAGED), *given.all_graded()[1:]), "COMPLETE", None),
        (given.no_bundle(), "PARTIAL", "Not graded: all levels (no_bundle)"),
        (given.report(level_doubt=Reason.TRANSITIONAL), "PARTIAL", "Not graded: lowest disc (motion)"),
    ],
)
def test_partial_means_that_something_gradable_is_missing(report: Report, flag: str, description: str | None) -> None:
    sr = made(report)
    assert (sr.CompletionFlag, sr.get("CompletionFlagDescription")) == (flag, description)
    assert (sr.VerificationFlag, sr.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_the_longest_description_fits_its_field() -> None:
    reasons = (Reason.OUT_OF_DISTRIBUTION, Reason.LOW_QUALITY, Reason.CORD_ON_SLICE, Reason.POSTOPERATIVE)
    missing = tuple(given.not_graded(level, reason) for level, reason in zip(Level, reasons, strict=False))
    sr = made(given.report(*missing, given.graded(Level.L5_S1, "Severe")))
    assert sr.CompletionFlagDescription == "Not graded: L1/L2, L2/L3, L3/L4, L4/L5"


def test_what_made_the_result_stands_in_the_algorithm_and_the_equipment() -> None:
    bundle = replace(given.bundle(), calibration="site, 80 levels")
    sr = made(given.report(bundle=bundle), completeness="counts matched")
    texts = [item.TextValue for item in read.children(read.of_template(sr, "1410")[0], "111002")]
    assert texts == [
        f"bundle digest {'ab' * 32}", "calibration site, 80 levels", f"configuration {'cd' * 32}", "code 0.1.0",
        "complete because counts matched",
    ]  # fmt: skip
    equipment = sr.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (equipment.Manufacturer, equipment.DeviceUID) == ("Cauda", given.context().device_uid)


def test_a_slices_quality_has_a_group_with_its_measures_and_image_and_is_summed_up() -> None:
    """The level's tracking UID is its own, too: a viewer that finds no region under one shows no report."""
    sr = made()
    groups = of_quality(sr)
    assert [read.value(item) for group in groups for item in read.children(group, "121071")] == ["IMAGE_QUALITY"] * 4
    noise = [read.children(group, "NOISE_SSIM")[0].MeasuredValueSequence[0].NumericValue for group in groups]
    assert noise == [0.91, 0.91, 0.91, 0.51]
    shown = [read.children(group, "121112")[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for group in groups]
    assert shown == [f"{given.AXIAL}.{given.LEVEL_SLICES[level]}" for level in list(Level)[1:]]
    (evaluations,) = read.children(sr, "C0034375")
    assert read.value(read.children(evaluations, "130550")[0]) == "RID13"  # one level of four failed


def test_a_revision_names_the_document_it_replaces_but_not_the_picture() -> None:
    old = Reference(sop_class_uid=Comprehensive3DSRStorage, sop_instance_uid="1.2.1", series_instance_uid="1.2")
    page = Reference(sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_instance_uid="1.3.1", series_instance_uid="1.3")
    sr = made(previous=(old, page), revision=2, change_text="replaces revision 1: L4/L5 was Moderate")
    study = sr.PredecessorDocumentsSequence[0]
    assert study.StudyInstanceUID == given.STUDY
    assert [s.SeriesInstanceUID for s in study.ReferencedSeriesSequence] == ["1.2"]
    assert "PredecessorDocumentsSequence" not in made()


def test_the_same_arguments_give_the_same_bytes() -> None:
    first, second = (structured_report(given.report(), given.sources(), given.context()) for _ in range(2))
    assert written(first) == written(second)


def test_evidence_is_every_image_of_the_series_that_were_used() -> None:
    evidence = made().CurrentRequestedProcedureEvidenceSequence
    assert [study.StudyInstanceUID for study in evidence] == [given.STUDY]
    counts = {s.SeriesInstanceUID: len(s.ReferencedSOPSequence) for s in evidence[0].ReferencedSeriesSequence}
    assert counts == {given.AXIAL: 40, given.SAGITTAL: 11}


def test_an_image_that_the_study_does_not_have_is_a_bug_and_not_a_reference() -> None:
    with pytest.raises(ValueError, match="not among the sources"):
        structured_report(given.report(), given.sources()[:3], given.context())


def test_a_report_that_lacks_a_level_is_a_bug() -> None:
    with pytest.raises(ValueError, match="one canal finding per level"):
        structured_report(given.report(*given.all_graded()[:4]), given.sources(), given.context())


def test_highdicom_reads_the_tree_as_a_measurement_report() -> None:
    """An independent reader of TID 1500 finds the groups, their regions and evaluations."""
    document = highdicom.sr.Comprehensive3DSR.from_dataset(made())
    planar = document.content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in planar] == [
        "AI unverified L2/L3 canal: Normal/Mild", "AI unverified L3/L4 canal: Moderate",
        "AI unverified L4/L5 canal: Severe",
        "AI unverified L5/S1 canal: NOT GRADED: motion. Severe stenosis not excluded",
    ]  # fmt: skip
    assert [site.value.value for site in planar[2].finding_sites] == ["61853006", "84020006"]
    assert planar[2].roi.value.shape == (5, 2)
    numbers = document.content.get_image_measurement_groups()
    assert [m.value for m in numbers[2].get_measurements()] == [0.21, 0.30, 0.49]


def test_series_number_and_description_do_not_disturb_hanging() -> None:
    sr = made()
    assert (sr.SeriesNumber, sr.SeriesDescription) == (9901, "RESEARCH CAUDA AI canal unverified")
    assert made(research=False).SeriesDescription == "CAUDA AI canal unverified"
    assert "FrameOfReferenceUID" not in sr
