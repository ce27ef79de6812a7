"""What is not graded and why (CLINICAL.md 5-7), as two tables: series by their tags, studies by theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.pipeline import words
from cauda.pipeline.frames import number, text

ADULT_YEARS = 18

_SERIES_TEXT = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
_STUDY_TEXT = ("StudyDescription", "RequestedProcedureDescription", "PerformedProcedureStepDescription")

# Not detected, so that the reader is told once (CLINICAL.md 7).
NOT_DETECTED = "Not detected: metal artefact, laminectomy or fusion, fracture, mass, scoliosis, level of the conus."


def series_text(header: Dataset) -> str:
    """What the series calls itself, folded for the word tables."""
    return words.folded(" ".join(text(header, keyword) for keyword in _SERIES_TEXT))


def study_text(header: Dataset) -> str:
    """What the exam was ordered and done as, folded, procedure codes included."""
    parts = [text(header, keyword) for keyword in _STUDY_TEXT]
    for keyword in ("ProcedureCodeSequence", "RequestedProcedureCodeSequence"):
        try:
            parts += [text(item, "CodeMeaning") for item in header.get(keyword) or ()]
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            continue
    return words.folded(" ".join(parts))


def _image_type(header: Dataset) -> set[str]:
    return set(text(header, "ImageType").upper().split())


def _diffusion(header: Dataset) -> bool:
    return (
        bool(_image_type(header) & {"ADC", "DIFFUSION", "TRACEW", "FA", "MOSAIC"})
        or (number(header, "DiffusionBValue") or 0) > 0
        or "EP" in text(header, "ScanningSequence").split()
    )


def _gradient_echo(header: Dataset) -> bool:
    return text(header, "ScanningSequence").split() == ["GR"] or text(header, "EchoPulseSequence") == "GRADIENT"


def _post_contrast_fat_suppressed(header: Dataset) -> bool:
    fat = words.FAT_SUPPRESSED.search(series_text(header)) or "FS" in text(header, "ScanOptions").split()
    return bool(fat) and contrast(header) and not words.STIR.search(series_text(header))


def dixon_part(image_type: str) -> bool:
    """Whether an image, by its Image Type, is the fat or the opposed-phase one of a Dixon sequence."""
    return bool(words.DIXON_TYPES & set(image_type.upper().split()))


def _dixon_part(header: Dataset) -> bool:
    said = series_text(header)
    fat = words.DIXON.search(said) and (words.FAT_PART.search(said) or words.OPPOSED_PART.search(said))
    return dixon_part(text(header, "ImageType")) or bool(fat) or words.OPPOSED_PHASE.search(said) is not None


def _word(pattern: re.Pattern[str]) -> Callable[[Dataset], bool]:
    return lambda header: pattern.search(series_text(header)) is not None


# Never graded for the canal, even if nothing else is there.
SERIES_RULES: tuple[tuple[Reason, Callable[[Dataset], bool]], ...] = (
    (Reason.LOCALIZER, lambda header: bool(_image_type(header) & {"LOCALIZER", "PROJECTION"})),
    (Reason.DIFFUSION, _diffusion),
    (Reason.GRADIENT_ECHO, _gradient_echo),
    (Reason.DIXON_PART, _dixon_part),
    (Reason.MYELOGRAPHY, lambda header: (number(header, "EchoTime") or 0) > 400),
    (Reason.POST_CONTRAST_FAT_SUPPRESSED, _post_contrast_fat_suppressed),
    *((reason, _word(pattern)) for reason, pattern in words.SERIES_WORDS),
)


def series_exclusion(header: Dataset) -> Reason | None:
    """Why a series is never graded, by its tags and words; None when they do not forbid it."""
    return next((reason for reason, applies in SERIES_RULES if applies(header)), None)


def study_exclusion(headers: Sequence[Dataset], denied: Sequence[str] = ()) -> tuple[Reason, str] | None:
    """Why a study is rejected whatever it shows, and in words; ``denied`` are a site's further patterns."""
    return next(_study_exclusions(headers, denied), None)


def _study_exclusions(headers: Sequence[Dataset], denied: Sequence[str]) -> Iterator[tuple[Reason, str]]:
    exam = " ".join(sorted({study_text(header) for header in headers}))
    body = " ".join(sorted({words.folded(text(header, "BodyPartExamined")) for header in headers}))
    series = " ".join(sorted({series_text(header) for header in headers}))
    ages = [age for age in map(age_years, headers) if age is not None]
    if ages and max(ages) < ADULT_YEARS:
        yield Reason.UNDER_18, Reason.UNDER_18.text
    if match := words.INTERVENTIONAL.search(f"{exam} {series}"):
        yield Reason.INTERVENTIONAL, f'interventional exam: it is called "{match[0]}"'
    if match := next((m for pattern in denied if (m := re.search(pattern, f"{exam} {body}", re.IGNORECASE))), None):
        yield Reason.EXAM_DENIED, f'exam type not graded at this site: it is called "{match[0]}"'
    if words.LUMBAR.search(exam):  # the body part is often left over from a protocol: the description overrules it
        return
    if match := words.DENIED_EXAMS.search(f"{exam} {body}"):
        yield Reason.EXAM_DENIED, f'exam type not graded at this site: it is called "{match[0]}"'
    if match := words.OTHER_REGION.search(exam if words.LUMBAR.search(body) else f"{exam} {body}"):
        yield Reason.NOT_LUMBAR, f'not a lumbar spine: the exam is called "{match[0]}"'


def age_years(header: Dataset) -> float | None:
    """The patient's age at the exam, from Patient's Age or from the dates; None when neither says.

    No years is what scanners write where they know no age: an infant's is in days, weeks or months (PS3.5 6.2, AS).
    """
    age = re.fullmatch(r"(\d{1,3})([DWMY])", text(header, "PatientAge").strip().upper())
    if age and not (age[2] == "Y" and int(age[1]) == 0):
        return int(age[1]) / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[age[2]]
    born, done = text(header, "PatientBirthDate"), text(header, "StudyDate")
    if re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", done) and born > "18500101":
        return int(done[:4]) - int(born[:4]) - (done[4:] < born[4:])
    return None


def contrast(header: Dataset) -> bool:
    """Whether the image was made after contrast, by its tag or words."""
    agent = words.folded(text(header, "ContrastBolusAgent"))
    if agent and not words.NO_CONTRAST.search(agent):
        return True
    said = series_text(header)
    return words.CONTRAST.search(said) is not None and words.NO_CONTRAST.search(said) is None


def flags(headers: Sequence[Dataset]) -> tuple[str, ...]:
    """Statements for the reader that change no grade, from the headers of the series that were used."""
    said = []
    if any(contrast(header) for header in headers):
        said.append("Images made after contrast.")
    if any(words.UPRIGHT.search(series_text(header) + " " + study_text(header)) for header in headers):
        said.append("Upright or positional exam.")
    fields = [field for header in headers if (field := number(header, "MagneticFieldStrength"))]
    if fields and min(fields) < 1.0:
        said.append("Field strength below 1 T.")
    if any(text(header, "LossyImageCompression") == "01" for header in headers):
        said.append("Source images were compressed with loss.")
    return (*said, NOT_DETECTED)
