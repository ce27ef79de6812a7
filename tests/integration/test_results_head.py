"""Who speaks, on page and in report: the scale, the bundle however it is called, and the slice with its frame."""

from __future__ import annotations

from dataclasses import replace

import builders_results as given
import pytest
import sr_mistakes
from analytic_spine import Spine, axial_block, multi_frame, parts, sagittal
from drawn import texts_drawn

from cauda.core.domain import GradeScale, Level, Report
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results.heat_page import render_heat_page
from cauda.pipeline.results.page import render_page
from cauda.pipeline.results.secondary_capture import secondary_capture
from cauda.pipeline.results.structured_report import structured_report


def drawn(report: Report, pictures: Pictures | None = None) -> list[str]:
    with texts_drawn() as said:
        render_page(report, pictures or given.pictures(), given.context())
    return said


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (GradeScale.RSNA_3, "RSNA 3-grade \u00b7 starter 0.3"),
        (GradeScale.SCHIZAS_4, "Schizas 4-grade \u00b7 starter 0.3"),
        (GradeScale.SCHIZAS_7, "Schizas 7-grade \u00b7 starter 0.3"),
    ],
)
def test_the_head_names_scale_and_bundle(scale: GradeScale, said: str) -> None:
    findings = tuple(given.graded(level, scale.grades[-1], probabilities={}) for level in Level)
    texts = drawn(given.report(*findings, bundle=given.bundle(scale)))
    assert texts.index("CAUDA AI canal, UNVERIFIED") < texts.index(said) < texts.index("L1/L2")


LONG = "lumbar-canal-of-eleven-hospitals-in-three-countries-with-every-field-strength-" * 3


@pytest.mark.parametrize("heat_map", [False, True])
@pytest.mark.parametrize("name", [LONG, LONG.replace("-", " ")], ids=["one word", "words"])
def test_a_long_name_ends_in_its_column_and_keeps_its_version(name: str, heat_map: bool) -> None:
    """Of the head's 1024 pixels OHIF covers the middle, so nothing is written between 386 and 638."""
    report = given.report(bundle=replace(given.bundle(), name=name, version="0.3.1"))
    with texts_drawn() as said:
        if heat_map:
            page = render_heat_page(report, given.pictures(), {}, given.context())
        else:
            page = render_page(report, given.pictures(), given.context())
    assert (page[36:120, 387:637] == page[40, 500]).all()
    (line,) = (text for text in said if text.startswith("RSNA 3-grade"))
    assert line.startswith("RSNA 3-grade \u00b7 lumbar")
    assert line.endswith("... 0.3.1")
    sr = structured_report(report, given.sources(), given.context())
    whole = sr_mistakes.children(sr_mistakes.of_template(sr, "1410")[0], "111001")
    assert [item.TextValue for item in whole] == [name], "the report has it whole"


FOREIGN = "Universit\u00e4t \u0141\u00f3d\u017a \u2013 \u201eR\u00f8ntgen\u201c, stra\u00dfe; \u00c7a va"
ASCII = 'Universitat Lodz - "Rontgen", strasse; Ca va'


def test_a_bundles_letters_are_spelt_in_ascii_and_none_becomes_a_question_mark() -> None:
    """CLINICAL.md 30: our own text is ASCII under every character set; nor has the page's typeface others."""
    bundle = replace(given.bundle(), name=FOREIGN, footer=FOREIGN, calibration=FOREIGN)
    report = given.report(bundle=bundle)
    for charset in (None, "ISO_IR 100", "ISO_IR 192", "ISO_IR 144"):
        sources = given.sources(SpecificCharacterSet=charset)
        sr = structured_report(report, sources, given.context())
        texts = [item.TextValue for item in sr_mistakes.walk(sr) if item.get("ValueType") == "TEXT"]
        assert {ASCII, f"calibration {ASCII}"} <= set(texts)
        assert not [text for text in texts if "?" in text or not text.isascii()]
        assert sr.get("SpecificCharacterSet") == charset
    said = drawn(report)
    assert not [text for text in said if not text.replace("\u00b7", "").isascii()]
    assert ASCII in said
    assert any(text.startswith("RSNA 3-grade \u00b7 Universitat") for text in said)


def test_letters_that_are_not_latin_are_written_as_they_sound() -> None:
    report = given.report(bundle=replace(given.bundle(), name="\u041f\u043e\u0437\u0432\u043e\u043d\u043e\u043a 2"))
    sr = structured_report(report, given.sources(SpecificCharacterSet="ISO_IR 144"), given.context())
    assert "Pozvonok 2" in [item.TextValue for item in sr_mistakes.walk(sr) if item.get("ValueType") == "TEXT"]
    assert any(text.startswith("RSNA 3-grade \u00b7 Pozvonok 2") for text in drawn(report))


def test_a_slice_of_a_multi_frame_image_is_found_by_its_frame() -> None:
    """CLINICAL.md 19, from an Enhanced MR image to the page: row and tile name the frame that was graded."""
    spine = Spine(dark={1: 0.1})
    classic = [image for i, disc in enumerate((4, 3, 2, 1, 0)) for image in axial_block(spine, disc, start=1 + 5 * i)]
    axial = multi_frame(classic)
    axial.header.SeriesNumber, axial.header.InstanceNumber = 8, 3
    images = [*sagittal(spine), axial]
    analysis = analyse_study("1.2.3", images, parts())
    frames = {one.level: one.axial.frame for one in analysis.report.findings if one.axial}
    assert all(5 * place < frame <= 5 * place + 5 for place, frame in enumerate(frames.values())), "a block each"
    assert len(frames) == len(Level)
    said = drawn(analysis.report, analysis.pictures)
    named = [text for text in said if text.startswith("Se 8")]
    assert named == [f"Se 8 Im 3 Fr {frame}" for frame in frames.values()] * 2
    page = secondary_capture(analysis.report, analysis.pictures, [one.header for one in images], given.context())
    shown = {item.get("ReferencedFrameNumber") for item in page.SourceImageSequence}
    assert shown - {None} == set(frames.values())


def test_an_image_of_one_frame_names_none() -> None:
    assert [text for text in drawn(given.report()) if "Fr" in text] == []
