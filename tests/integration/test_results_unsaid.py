"""What no result says (CLINICAL.md 9, 14, 18, 26): a measurement, an L-name in doubt, a probability in words, a plane.

Texts are taken where Pillow draws them and where they stand in the file, whichever page or report it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import builders_results as given
import numpy as np
import pytest
import sr_mistakes
from analytic_spine import Spine, parts, study
from drawn import texts_drawn
from pydicom import Dataset, dcmread
from worker_house import house

from cauda.core.domain import Level, Measurement, Reason, Report, Status
from cauda.pipeline.occlusion import HeatMap
from cauda.pipeline.results import secondary_capture as pages
from cauda.pipeline.results.context import ObjectIds, ResultContext
from cauda.pipeline.results.structured_report import structured_report
from cauda.worker.grade import grade_next

LENGTH = re.compile(r"\d\s?(mm|cm|ml|µl)|\bmm2?\b|\bcm2?\b|diameter|\barea of\b|square", re.IGNORECASE)
SCALE_BAR, BLUR = "20 mm", "8 mm blur"  # the bar beside a picture, and how the heat map is made
UNIT = "no units"
MEASURES = {"122157", "NOISE_SSIM", "CONTINUITY_SSIM", "TEMPLATE_SSIM"}  # all numbers that an SR has
SENTINELS = (
    Measurement(name="canal AP diameter", value=13.37, unit="mm", uncertainty=3.21, evidence="sagittal mask"),
    Measurement(name="dural sac area", value=87.65, unit="mm2", uncertainty=9.43, evidence="axial mask"),
)


def reported(**changes: object) -> Report:
    """The mixed report with two measurements a level and probabilities that are told from all other numbers."""
    found = tuple(
        replace(one, measurements=SENTINELS, probabilities={"Normal/Mild": 0.137, "Moderate": 0.245, "Severe": 0.618})
        for one in given.mixed()
    )
    bundle = replace(given.bundle(), version="7")
    return given.report(*found, **{"bundle": bundle, **changes})


def context(**changes: object) -> ResultContext:
    ids = ObjectIds(sop_instance_uid="1.2.9.1", series_instance_uid="1.2.9", series_number=9903)
    return given.context(**{"heat_map": ids, "code_version": "9", **changes})


def graded(report: Report, about: ResultContext) -> Dataset:
    return pages.secondary_capture(report, given.pictures(), given.sources(), about)


def revised(report: Report, about: ResultContext) -> Dataset:
    change = "replaces revision 1: L4/L5 Severe, was L4/L5 Moderate (images came later)"
    return graded(report, replace(about, revision=2, change_text=change))


def heat(report: Report, about: ResultContext) -> Dataset:
    effect = np.linspace(-0.4, 0.4, 128**2, dtype=np.float32).reshape(128, 128)
    map_ = HeatMap(crop=given.axial_picture(0.4, 3), effect=effect)
    return pages.heat_map(report, given.pictures(), {Level.L4_L5: map_}, given.sources(), about)


def not_analysed(report: Report, about: ResultContext) -> Dataset:
    text = "no axial T2 found; found: sagittal T2 (15 slices), all of L4-L5; needed: axial T2 of the lumbar spine"
    rejected = replace(report, status=Status.REJECTED, reason=Reason.NO_AXIAL_T2, reason_text=text)
    return pages.not_analysed(rejected, given.sources(), about)


def retracted(report: Report, about: ResultContext) -> Dataset:
    return pages.retracted(report, given.sources(), about, "wrong level or grade")


PAGES = (graded, revised, heat, not_analysed, retracted)
each_page = pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
Make = Callable[[Report, ResultContext], Dataset]


def drawn(make: Make, report: Report, about: ResultContext) -> tuple[Dataset, list[str]]:
    with texts_drawn() as said:
        made = make(report, about)
    assert len(said) > 8
    return made, said


def stated(dataset: Dataset) -> Iterator[str]:
    """Every value that is text, in whatever depth."""
    for element in dataset.iterall():
        if element.VR in {"LO", "SH", "ST", "LT", "UT", "UC", "CS"}:
            yield from map(str, element.value if isinstance(element.value, list | tuple) else [element.value])


def lengths(texts: list[str]) -> list[str]:
    """Lengths and areas in the texts, but for the bar's and the blur's; a text may go over several lines."""
    whole = " ".join(text for text in texts if text != SCALE_BAR).replace(BLUR, "")
    return [found[0] for found in LENGTH.finditer(whole)]


@each_page
def test_no_page_shows_a_measurement(make: Make) -> None:
    made, said = drawn(make, reported(), context())
    texts = [*said, *stated(made)]
    assert lengths(texts) == []
    for one in SENTINELS:
        for number in (one.value, one.uncertainty):
            shown = {f"{number:.{digits}f}".lstrip("0") for digits in (1, 2)}
            assert not [text for text in texts for form in shown if form in text]
        assert not [text for text in texts if one.name in text or one.evidence in text]


def test_no_measurement_stands_in_the_report() -> None:
    sr = structured_report(reported(), given.sources(), context())
    assert lengths(list(stated(sr))) == []
    numbers = [item for item in sr_mistakes.walk(sr) if item.get("ValueType") == "NUM"]
    assert {sr_mistakes.name(item) for item in numbers} == MEASURES
    values = {float(item.MeasuredValueSequence[0].NumericValue) for item in numbers}
    assert not values & {number for one in SENTINELS for number in (one.value, one.uncertainty)}
    units = {item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeMeaning for item in numbers}
    assert units == {UNIT}


def test_what_a_worker_measured_stands_in_report_json_alone(tmp_path: Path) -> None:
    """From images to the files that leave, heat map page and all."""
    at = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    at.complete([image.read() for image in study(Spine(dark={1: 0.1}))])
    grading = at.settings.grading.model_copy(update={"heat_map_page": True})
    with texts_drawn() as said:
        assert grade_next(replace(at.post(grading=grading), parts=parts()))
    (revision,) = at.rows("revision")
    report = revision["report"]
    measured = [one for finding in report["findings"] for one in finding["measurements"]]
    assert {one["unit"] for one in measured} == {"mm"}
    sr, *others = (dcmread(at.data / row["path"]) for row in at.rows("result"))
    assert len(others) == 2
    assert SCALE_BAR in said
    assert lengths([*said, *(text for one in (sr, *others) for text in stated(one))]) == []
    assert {sr_mistakes.name(one) for one in sr_mistakes.walk(sr) if one.get("ValueType") == "NUM"} <= MEASURES


@each_page
def test_no_page_shows_a_per_cent_or_a_probability(make: Make) -> None:
    made, said = drawn(make, reported(), context())
    for text in (*said, *stated(made)):
        assert not re.search(r"%|per ?cent|probab|likel|confiden|(?<![\d.])\d*[.,]\d+(?![\d.])", text, re.IGNORECASE), (
            text
        )
        assert not re.search(r"\b(14|24|25|62)\b", re.sub(r"Se \d+ Im \d+", "", text)), text


@each_page
def test_no_page_has_a_place_in_the_patient_or_a_size(make: Make) -> None:
    """CLINICAL.md 26, DICOM.md: a viewer that found one would draw reference lines and measure on a montage."""
    (source, *_) = given.sources()
    assert {"ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "PixelSpacing"} <= set(
        source.dir()
    )
    made = make(reported(), context())
    present = {element.keyword for element in made.iterall()}
    planes = {
        "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "PositionReferenceIndicator",
        "SliceLocation", "SliceThickness", "SpacingBetweenSlices", "PixelSpacing", "ImagerPixelSpacing",
        "NominalScannedPixelSpacing", "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence",
    }  # fmt: skip
    assert present & planes == set()


L_NAME = re.compile(r"(?<![a-z0-9])L ?[1-6](?![0-9])", re.IGNORECASE)
NAMED = "Only L4/L5, L3-L4, L2-3 and L5-S1 were tried; the sacrum and L5 were not."
UNNAMED = (
    "Only 2nd from lowest, 3rd from lowest, 4th from lowest and lowest disc were tried; the sacrum and L? were not."
)


def doubted(**changes: object) -> Report:
    """A bundle that names levels wherever it may speak, and a flag that does."""
    bundle = replace(given.bundle(), name="canal-L4L5", version="7", footer=NAMED, calibration=NAMED)
    return reported(bundle=bundle, flags=(NAMED,), **changes)


@each_page
@pytest.mark.parametrize("doubt", [Reason.TRANSITIONAL, Reason.SACRUM_NOT_SHOWN])
def test_no_page_names_a_level_while_the_count_is_in_doubt(make: Make, doubt: Reason) -> None:
    _, plainly = drawn(make, doubted(), context())
    assert [text for text in plainly if L_NAME.search(text)], "the words do name levels where nothing is in doubt"
    assert "Only L4/L5, L3-L4, L2-3 and L5-S1" in " ".join(plainly)
    made, said = drawn(make, doubted(level_doubt=doubt), context())
    assert [text for text in (*said, *stated(made)) if L_NAME.search(text)] == []
    assert " ".join(said).count(UNNAMED) == 2, "footer and flag"


def test_no_report_names_a_level_while_the_count_is_in_doubt() -> None:
    change = "replaces revision 1: 2nd from lowest Severe, was L4/L5 Severe (sacrum not shown)"
    about = context(revision=2, change_text=change)
    plainly = list(stated(structured_report(doubted(), given.sources(), about)))
    assert {NAMED, "canal-L4L5", f"calibration {NAMED}", "L1/L2 disc"} <= set(plainly)
    said = list(stated(structured_report(doubted(level_doubt=Reason.SERIES_DISAGREE), given.sources(), about)))
    assert [text for text in said if L_NAME.search(text)] == []
    assert {UNNAMED, "canal-2nd from lowest", f"calibration {UNNAMED}"} <= set(said)
