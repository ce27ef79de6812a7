"""What is not graded and why (CLINICAL.md 5-7), as two tables: series by their tags, studies by theirs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.pipeline import words
from cauda.pipeline.frames import number, text

ADULT_YEARS = 18

_SEQUENCE_TEXT = ("SequenceName", "PulseSequenceName")
_STUDY_TEXT = ("StudyDescription", "RequestedProcedureDescription", "PerformedProcedureStepDescription")

# Not detected, so that the reader is told once (CLINICAL.md 7).
NOT_DETECTED = "Not detected: metal artefact, laminectomy or fusion, fracture, mass, scoliosis, level of the conus."


def series_text(header: Dataset, exam_words: Collection[str] = ()) -> str:
    """What the series calls itself, folded for the word tables; a bar stands for each word of the exam's protocol."""
    protocol = words.folded(text(header, "ProtocolName")).split()
    return " ".join(
        [
            words.folded(text(header, "SeriesDescription")),
            *("|" if word in exam_words else word for word in protocol),
            words.folded(" ".join(text(header, keyword) for keyword in _SEQUENCE_TEXT)),
        ]
    )


def exam_words(protocols: Sequence[tuple[str, str]]) -> frozenset[str]:
    """The words of Protocol Names that say nothing of one series: (plane, Protocol Name) of every series.

    Scanners write the exam's protocol into all of its series. Words that all share are the exam's, and so is a name
    that series of more than one plane bear.
    """
    named = [(plane, words.folded(name).split()) for plane, name in protocols if words.folded(name)]
    if len(named) < 2:
        return frozenset()
    shared = set.intersection(*(set(name) for _, name in named))
    planes: dict[str, set[str]] = defaultdict(set)
    for plane, name in named:
        planes[" ".join(name)].add(plane)
    return frozenset(shared.union(*(name.split() for name, seen in planes.items() if len(seen) > 1)))


def study_text(header: Dataset) -> str:
    """What the exam was ordered and done as, folded, procedure codes included."""
    parts = [text(header, keyword) for keyword in _STUDY_TEXT]
    for keyword in ("ProcedureCodeSequence", "RequestedProcedureCodeSequence"):
        try:
            parts += [text(item, "CodeMeaning") for item in header.get(keyword) or ()]
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            continue
    return words.folded(" ".join(parts))


def image_type(header: Dataset) -> set[str]:
    """The values of Image Type."""
    return set(text(header, "ImageType").upper().split())


def _diffusion(header: Dataset) -> bool:
    return (
        bool(image_type(header) & {"ADC", "DIFFUSION", "TRACEW", "FA", "MOSAIC"})
        or (number(header, "DiffusionBValue") or 0) > 0
        or "EP" in text(header, "ScanningSequence").split()
    )


def _gradient_echo(header: Dataset) -> bool:
    return text(header, "ScanningSequence").split() == ["GR"] or text(header, "EchoPulseSequence") == "GRADIENT"


def _post_contrast_fat_suppressed(header: Dataset, stated: str) -> bool:
    fat = words.FAT_SUPPRESSED.search(stated) or "FS" in text(header, "ScanOptions").split()
    return bool(fat) and contrast(header, stated) and not words.STIR.search(stated)


def dixon_part(header: Dataset) -> bool:
    """Whether an image, by its Image Type, is the fat or the opposed-phase one of a Dixon sequence."""
    return bool(words.DIXON_TYPES & image_type(header))


def _dixon_part(header: Dataset, stated: str) -> bool:
    fat = words.DIXON.search(stated) and (words.FAT_PART.search(stated) or words.OPPOSED_PART.search(stated))
    return dixon_part(header) or bool(fat) or words.OPPOSED_PHASE.search(stated) is not None


_COMPONENTS = {"P", "PHASE", "R", "REAL", "I", "IMAGINARY"}  # of Image Type, from its third value on
_GE_RAW_DATA_TYPE = 0x0043102F  # "GEMS_PARM_01": 0 magnitude, 1 phase, 2 real, 3 imaginary


def not_magnitude(header: Dataset) -> bool:
    """Whether this is the phase, the real or the imaginary part of complex images (PS3.3 C.8.13.3.1)."""
    if text(header, "ComplexImageComponent").upper() in {"PHASE", "REAL", "IMAGINARY"}:
        return True
    tokens = set(text(header, "ImageType").upper().split()[2:])
    if tokens & {"M", "MAGNITUDE"}:
        return False
    return bool(tokens & _COMPONENTS) or _private_number(header, _GE_RAW_DATA_TYPE) in {1, 2, 3}


def _private_number(header: Dataset, tag: int) -> int | None:
    try:
        element = header.get(tag)
        return None if element is None else int(element.value)
    except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError):
        return None


def _word(pattern: re.Pattern[str]) -> Callable[[Dataset, str], bool]:
    return lambda _, stated: pattern.search(stated) is not None


# Never graded for the canal, even if nothing else is there.
SERIES_RULES: tuple[tuple[Reason, Callable[[Dataset, str], bool]], ...] = (
    (Reason.LOCALIZER, lambda header, _: bool(image_type(header) & {"LOCALIZER", "PROJECTION"})),
    (Reason.NOT_MAGNITUDE, lambda header, _: not_magnitude(header)),
    (Reason.DIFFUSION, lambda header, _: _diffusion(header)),
    (Reason.GRADIENT_ECHO, lambda header, _: _gradient_echo(header)),
    (Reason.DIXON_PART, _dixon_part),
    (Reason.MYELOGRAPHY, lambda header, _: (number(header, "EchoTime") or 0) > 400),
    (Reason.POST_CONTRAST_FAT_SUPPRESSED, _post_contrast_fat_suppressed),
    *((reason, _word(pattern)) for reason, pattern in words.SERIES_WORDS),
)


def series_exclusion(header: Dataset, stated: str | None = None) -> Reason | None:
    """Why images are never graded, by their attributes and words; None when they do not forbid it."""
    stated = series_text(header) if stated is None else stated
    return next((reason for reason, applies in SERIES_RULES if applies(header, stated)), None)


def study_exclusion(
    headers: Sequence[Dataset], denied: Sequence[str] = (), exam: Collection[str] = ()
) -> tuple[Reason, str] | None:
    """Why a study is rejected whatever it shows, and in words; ``denied`` are a site's further patterns.

    ``exam`` are the words of ``exam_words``: a protocol that offers a biopsy makes none of an exam.
    """
    return next(_study_exclusions(headers, denied, exam), None)


def _study_exclusions(
    headers: Sequence[Dataset], denied: Sequence[str], shared: Collection[str]
) -> Iterator[tuple[Reason, str]]:
    exam = " ".join(sorted({study_text(header) for header in headers}))
    body = " ".join(sorted({words.folded(text(header, "BodyPartExamined")) for header in headers}))
    series = " ".join(sorted({series_text(header, shared) for header in headers}))
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


def contrast(header: Dataset, stated: str) -> bool:
    """Whether the image was made after contrast, by its tag or words."""
    agent = words.folded(text(header, "ContrastBolusAgent"))
    if agent and not words.NO_CONTRAST.search(agent):
        return True
    return words.CONTRAST.search(stated) is not None and words.NO_CONTRAST.search(stated) is None


def flags(headers: Sequence[Dataset], exam: Collection[str] = ()) -> tuple[str, ...]:
    """Statements for the reader that change no grade, from the headers of the series that were used."""
    said = []
    if any(contrast(header, series_text(header, exam)) for header in headers):
        said.append("Images made after contrast.")
    if any(words.UPRIGHT.search(series_text(header, exam) + " " + study_text(header)) for header in headers):
        said.append("Upright or positional exam.")
    fields = [field for header in headers if (field := number(header, "MagneticFieldStrength"))]
    if fields and min(fields) < 1.0:
        said.append("Field strength below 1 T.")
    if any(text(header, "LossyImageCompression") == "01" for header in headers):
        said.append("Source images were compressed with loss.")
    return (*said, NOT_DETECTED)
