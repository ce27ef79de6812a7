"""What only decorates a result never stops it: attributes that are not written as DICOM asks count as not stated."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import builders_results as given
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from cauda.pipeline.results.instance import _OPTIONAL, _REQUIRED
from cauda.pipeline.results.secondary_capture import not_analysed, secondary_capture
from cauda.pipeline.results.structured_report import structured_report

pytestmark = pytest.mark.peers

BINDING = {"PatientID", "IssuerOfPatientID", "AccessionNumber", "PatientName"}  # leave as they are
OTHERS = (
    "TimezoneOffsetFromUTC", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime", "ContentDate",
    "ContentTime", "QualityControlImage", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", "InstitutionName", "SeriesDescription", "SeriesNumber", "InstanceNumber",
    "SpecificCharacterSet", "PerformedProcedureStepDescription", "BodyPartExamined",
    "WindowCenter", "WindowWidth", "MagneticFieldStrength", "ContrastBolusAgent",
)  # fmt: skip
COPIED = [keyword for keyword in (*_REQUIRED, *_OPTIONAL, *OTHERS) if keyword not in BINDING]
HOSTILE = {  # bytes, and the VR that says what they are; None leaves the attribute its own
    "over-long": (b"x" * 200, None),
    "many values": (b"1\\2\\3\\4", None),
    "digits beyond reason": (b"99999999999999999999", None),
    "no number": (b"abc", None),
    "control characters": (b"a\x00b\x07\x1b", None),
    "not its character set": (b"\xff\xfe\x80\x81", None),
    "dates that are none": (b"20250231", None),
    "times that are none": (b"256199", None),
    "exponents": (b"1e400", None),
    "binary": (b"\x01\x02\x03", "OB"),
    "unsigned": (b"\x01\x02", "US"),
    "an empty sequence": (b"", "SQ"),
    "markup": (b"<b>&[/x]", None),
    "lower case": (b"yes", None),
    "not a number": (b"nan", None),
}


def spoilt(image: Dataset, keyword: str, content: bytes, vr: str | None) -> None:
    """The attribute as raw bytes, as a file would hold them."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    padded = content if len(content) % 2 == 0 else content + b" "
    image[tag] = RawDataElement(tag, vr or dictionary_VR(tag), len(padded), padded, 0, False, True)


def results(sources: list[Dataset]) -> dict[str, Dataset]:
    report, context = given.report(), given.context()
    rejected = given.report(status="REJECTED")
    return {
        "sr": structured_report(report, sources, context),
        "sc": secondary_capture(report, given.pictures(), sources, context),
        "notice": not_analysed(_rejected(rejected), sources, context),
    }


def _rejected(report: Any) -> Any:
    from dataclasses import replace

    from cauda.core.domain import Reason, Status

    return replace(report, status=Status.REJECTED, reason=Reason.NO_AXIAL_T2, reason_text="no axial T2 found")


def errors(path: Path) -> list[str]:
    done = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False, errors="replace"
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def check(sources: list[Dataset], folder: Path) -> None:
    for name, made in results(sources).items():
        path = folder / f"{name}.dcm"
        dcmwrite(path, made, enforce_file_format=True)
        assert errors(path) == []
        again = dcmread(BytesIO(path.read_bytes()))
        assert (again.PatientID, again.AccessionNumber) == (given.PATIENT_ID, given.ACCESSION)
        assert str(again.PatientName) == given.NAME


@pytest.mark.parametrize("how", HOSTILE)
def test_attributes_that_are_not_well_formed_are_not_stated(how: str, tmp_path: Path) -> None:
    """All of them at once: the objects are made, valid, and of the same patient."""
    sources = given.sources()
    for image in sources:
        for keyword in COPIED:
            spoilt(image, keyword, *HOSTILE[how])
    check(sources, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_of_good_and_bad_attributes_gives_valid_objects(seed: int, tmp_path: Path) -> None:
    """A module of which only a part is well-formed is left out."""
    draw = random.Random(seed)
    sources = given.sources(
        ClinicalTrialSponsorName="S", ClinicalTrialProtocolID="P", ClinicalTrialSubjectID="1",
        ClinicalTrialProtocolName="N", ClinicalTrialSiteID="", ClinicalTrialSiteName="", PatientIdentityRemoved="YES",
        DeidentificationMethod="by hand",
    )  # fmt: skip
    for keyword in draw.sample(COPIED, len(COPIED) // 2):
        for image in sources:
            spoilt(image, keyword, *HOSTILE[draw.choice(list(HOSTILE))])
    check(sources, tmp_path)


@pytest.mark.parametrize(
    ("stated", "hours"),
    [("+0100", 1), ("-0330", -3.5), ("+1400", 14), ("-1200", -12), ("+1401", None), ("-1201", None), ("+2500", None),
     ("+9959", None), ("-0000", None), ("+0160", None), ("0100", None), ("+0100\\+0200", None)],
)  # fmt: skip
def test_an_offset_that_no_place_has_is_not_stated(stated: str, hours: float | None) -> None:
    sources = given.sources()
    for image in sources:
        spoilt(image, "TimezoneOffsetFromUTC", stated.encode(), "SH")
    at = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
    made = structured_report(given.report(), sources, given.context(at=at, site_timezone=UTC))
    expected = at + timedelta(hours=hours or 0)
    assert (made.ContentDate, made.ContentTime[:6]) == (f"{expected:%Y%m%d}", f"{expected:%H%M%S}")
    assert made.get("TimezoneOffsetFromUTC", "").strip() == (stated if hours is not None else "")


def test_what_is_well_formed_is_copied_to_the_byte() -> None:
    """Nothing is dropped for being unusual."""
    values = {
        "PatientName": "Lang^" + "a" * 50 + "^Dr.", "PatientSize": "1.755", "PatientWeight": "1e2",
        "PatientAge": "007D",
        "StudyTime": "2015", "PatientSex": "O", "PatientComments": "two\r\nlines", "PregnancyStatus": 4,
        "OtherPatientNames": ["A^B", "C^D"], "EthnicGroup": "x" * 16, "StudyDescription": "y" * 64,
    }  # fmt: skip
    made = structured_report(given.report(), given.sources(**values), given.context())
    for keyword, value in values.items():
        assert made[keyword].value == value, keyword


@pytest.mark.parametrize("content", [b"x" * 70, b"a\\b ", b"M\xfcller"])
@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "AccessionNumber"])
def test_what_binds_a_result_leaves_as_it_is(keyword: str, content: bytes) -> None:
    """A result without them would belong to nobody; the archive has the same bytes."""
    sources = given.sources()
    for image in sources:
        spoilt(image, keyword, content, None)
    made = structured_report(given.report(), sources, given.context())
    assert made.get_item(keyword).value == content
