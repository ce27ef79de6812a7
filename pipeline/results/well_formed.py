"""Whether an attribute of an image is written as DICOM asks. One that is not counts as not stated and stops nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings, default_encoding, python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import DA, TM, validate_value

# By these a result finds its patient and order. They leave as the images have them, however they are written.
BINDING = frozenset({"PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID", "PatientName"})

_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "QualityControlSubject": {"YES", "NO"},
    "QualityControlImage": {"YES", "NO", "BOTH"},
    "PatientSexNeutered": {"ALTERED", "UNALTERED"},
    "TypeOfPatientID": {"TEXT", "RFID", "BARCODE"},
    "PregnancyStatus": {"1", "2", "3", "4"},
    "LossyImageCompression": {"00", "01"},
}
# What each item of a sequence has at least (Type 1), so that it may be copied.
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "ProcedureCodeSequence": _CODE,
    "DeidentificationMethodCodeSequence": _CODE,
    "ReferencedStudySequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "OtherPatientIDsSequence": ("PatientID", "TypeOfPatientID"),
    "IssuerOfAccessionNumberSequence": ("LocalNamespaceEntityID",),
}
_LONG_TEXTS = {"LT", "ST", "UT"}  # may hold line breaks and backslashes
_DEEPEST = 4
# What pydicom raises on elements that it cannot make sense of.
_MALFORMED = (
    ValueError, TypeError, AttributeError, LookupError, OverflowError, NotImplementedError, RecursionError, OSError,
    struct.error,
)  # fmt: skip


def is_well_formed(source: Dataset, keyword: str) -> bool:
    """Whether ``source`` has the attribute, with values that its dictionary entry allows; none of it is decoded."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in source:
        return False
    try:
        return _is_valid(source, Tag(tag), keyword, character_set(source), _DEEPEST)
    except _MALFORMED:
        return False


def character_set(source: Dataset) -> Any:
    """Specific Character Set as it is, where pydicom and DICOM know it; None where it is absent, empty or unknown."""
    try:
        stated = source.get("SpecificCharacterSet")
        terms = [stated] if isinstance(stated, str) else list(stated or [])
    except _MALFORMED:
        return None
    known = all(isinstance(term, str) and term in python_encoding and term != "ISO_IR 6" for term in terms)
    single = len(terms) == 1 and terms[0].startswith("ISO 2022")
    return stated if known and any(terms) and not single else None


def _is_valid(source: Dataset, tag: BaseTag, keyword: str, characters: Any, depth: int) -> bool:
    vr = dictionary_VR(tag)
    element: object = source.get_item(tag)  # raw until somebody decodes it
    if vr == "SQ":
        items = source[tag].value
        needed = _NEEDED.get(keyword, ())
        return (
            depth > 0
            and len(items) > 0
            and all(_is_item_valid(item, needed, characters, depth - 1) for item in _datasets(items))
        )
    if isinstance(element, RawDataElement):
        encodings = convert_encodings(characters or default_encoding)
        element = convert_raw_data_element(element._replace(VR=vr), encoding=encodings, ds=source)
    if not isinstance(element, DataElement) or element.VR == "SQ":
        return False
    values = list(element.value) if isinstance(element.value, (MultiValue, list)) else [element.value]
    if len(values) > 1 and dictionary_VM(tag) == "1":
        return False
    allowed = _ENUMERATED.get(keyword)
    spelt = characters is not None
    return all(
        _is_value(vr, value, spelt) and (allowed is None or str(value) in allowed)
        for value in values
        if allowed or (value is not None and str(value) != "")
    )


def _datasets(items: Iterable[object]) -> list[Dataset]:
    found = list(items)
    if not all(isinstance(item, Dataset) for item in found):
        raise TypeError("a sequence holds items")
    return [item for item in found if isinstance(item, Dataset)]


def _is_item_valid(item: Dataset, needed: Iterable[str], characters: Any, depth: int) -> bool:
    # An item that states no character set has that of the data set around it (PS3.5 6.1.2.5.3).
    own = character_set(item) if "SpecificCharacterSet" in item else characters
    keywords = [element.keyword for element in item]
    return all(keyword in keywords and str(item[keyword].value).strip() for keyword in needed) and all(
        keyword and _is_valid(item, Tag(keyword), keyword, own, depth) for keyword in keywords
    )


def _is_value(vr: str, value: object, spelt: bool) -> bool:
    """By PS3.5 6.2: length, characters, and for dates and times also the calendar and the clock.

    ``spelt`` says whether there is a character set for what is not ASCII.
    """
    checks: Mapping[str, Callable[[str], object]] = {"DA": DA, "TM": TM}
    original = getattr(value, "original_string", None)  # of a person name it is bytes
    written = original if isinstance(original, str) else str(value)
    if (not spelt and not written.isascii()) or "\ufffd" in written:  # what could not be decoded
        return False
    control = {"\r", "\n", "\t", "\f"} if vr in _LONG_TEXTS else set()
    if any((ord(character) < 32 or ord(character) == 127) and character not in control for character in written):
        return False
    if vr in {"US", "SS", "UL", "SL"}:
        validate_value(vr, int(written), config.RAISE)
        return True
    validate_value(vr, written, config.RAISE)
    if vr in checks:
        checks[vr](written)
    return True
