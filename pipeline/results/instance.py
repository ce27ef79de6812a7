"""What every object we make has in common: patient and study as the images have them, equipment, time, UIDs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import datetime, timedelta, timezone

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)
from pydicom.valuerep import DA, TM

from cauda.core.headers import MANUFACTURER
from cauda.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from cauda.pipeline.frames import MAX_FRAMES, number, text
from cauda.pipeline.results.codes import PROCESSING_EQUIPMENT, coded
from cauda.pipeline.results.context import ObjectIds, Reference, ResultContext
from cauda.pipeline.results.well_formed import BINDING, character_set, is_well_formed

MODEL_NAME = "Cauda"

# Type 2: present even when the images have none (PS3.3 C.7.1.1, C.7.2.1).
_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_OPTIONAL = (
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "PatientBirthTime",
    "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup", "PatientComments", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence", "QualityControlSubject",
    "StudyDescription", "IssuerOfAccessionNumberSequence", "ProcedureCodeSequence", "ReferencedStudySequence",
    "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "ConsultingPhysicianName",
    "PatientAge", "PatientSize", "PatientWeight", "PatientSexNeutered", "PregnancyStatus", "AdmissionID",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription",
)  # fmt: skip
_FROM_ANY = frozenset({*_REQUIRED, "IssuerOfPatientID"})  # one series may leave out what another states
_TRIAL_REQUIRED = (
    "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialTimePointID",
)  # fmt: skip
# Their bytes are the same in either byte order.
_TEXTS = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT"}
_ENHANCED = (EnhancedMRImageStorage, EnhancedMRColorImageStorage, LegacyConvertedEnhancedMRImageStorage)
_OFFSET = re.compile(r"(?!-0000)([+-])(\d\d)([0-5]\d)")
_OFFSETS = (timedelta(hours=-12), timedelta(hours=14))  # PS3.3 C.12.1.1.8: the earliest and the latest on Earth


def new_instance(
    sop_class_uid: str,
    modality: str,
    ids: ObjectIds,
    study_instance_uid: str,
    sources: Sequence[Dataset],
    context: ResultContext,
) -> Dataset:
    """An object of the study with every module but its own content; Explicit VR Little Endian.

    Patient and study attributes are the first source's, byte for byte, or ``context.identity``'s where it names them;
    what the first does not state comes from the next that does.
    """
    made = Dataset()
    _patient_and_study(made, sources or [Dataset()], context)
    made.StudyInstanceUID = context.identity.get("StudyInstanceUID", study_instance_uid)
    made.SOPClassUID = sop_class_uid
    made.SOPInstanceUID = ids.sop_instance_uid
    made.SeriesInstanceUID = ids.series_instance_uid
    made.SeriesNumber = ids.series_number
    made.InstanceNumber = context.revision
    made.Modality = modality
    _time(made, sources, context)
    _equipment(made, context)
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    made.file_meta.MediaStorageSOPInstanceUID = UID(ids.sop_instance_uid)
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    made.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    # Bytes that were copied are in this encoding already; without this they would be decoded and spelt anew.
    encoding = convert_encodings(made.get("SpecificCharacterSet") or default_encoding)
    made.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=encoding)
    return made


def _patient_and_study(made: Dataset, sources: Sequence[Dataset], context: ResultContext) -> None:
    source = sources[0] if sources else Dataset()
    charset = _character_set(source, context)
    if charset:
        made.SpecificCharacterSet = charset
    same_bytes = charset == character_set(source)
    for keyword in (*_REQUIRED, *_OPTIONAL):
        if keyword in context.identity:
            _add(made, keyword, context.identity[keyword])
            continue
        if keyword in _FROM_ANY and not _is_stated(source, keyword):
            other = next((one for one in sources if _is_stated(one, keyword, source)), None)
            if other is not None:
                copy_element(made, other, keyword, as_bytes=same_bytes)
        if keyword not in made:
            copy_element(made, source, keyword, as_bytes=same_bytes)
        if keyword in _REQUIRED and keyword not in made:
            setattr(made, keyword, "")
    _drop_halves(made)


def _drop_halves(made: Dataset) -> None:
    """Modules that lack what they must have, since it was absent or not well-formed, are left out as wholes."""
    how = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    for keyword in how:
        if keyword in made and not made.get(keyword):
            del made[keyword]
    if made.get("PatientIdentityRemoved") == "YES" and not any(keyword in made for keyword in how):
        del made.PatientIdentityRemoved
    trial = [keyword for keyword in _OPTIONAL if keyword.startswith("ClinicalTrial") and keyword in made]
    subject = made.get("ClinicalTrialSubjectID") or made.get("ClinicalTrialSubjectReadingID")
    whole = made.get("ClinicalTrialSponsorName") and made.get("ClinicalTrialProtocolID") and subject
    for keyword in trial if not whole else ():
        del made[keyword]
    for keyword in _TRIAL_REQUIRED if trial and whole else ():
        if keyword not in made:
            setattr(made, keyword, "")


def _is_stated(source: Dataset, keyword: str, spelt_as: Dataset | None = None) -> bool:
    """Whether an attribute has a value; with ``spelt_as``, one whose bytes mean the same there."""
    tag = Tag(keyword)
    if tag not in source:
        return False
    value = source.get_item(tag).value
    content = value if isinstance(value, bytes) else str(value or "").encode("utf-8", "surrogatepass")
    if not content.strip(b" \0"):
        return False
    same = spelt_as is None or source.get("SpecificCharacterSet") == spelt_as.get("SpecificCharacterSet")
    return same or content.isascii()


def _character_set(source: Dataset, context: ResultContext) -> object:
    """The images' own, unless the archive's values came with another or need one that can spell everything."""
    own: object = character_set(source)
    if "SpecificCharacterSet" in context.identity:
        return context.identity["SpecificCharacterSet"]
    plain = all(str(value).isascii() for value in context.identity.values() if isinstance(value, str))
    return own if plain else "ISO_IR 192"


def _add(made: Dataset, keyword: str, value: object) -> None:
    """Sets a value, or bytes that are already in the data set's character set."""
    tag = Tag(keyword)
    if isinstance(value, bytes):
        made[tag] = _raw(tag, dictionary_VR(tag), value)
    else:
        made[tag] = DataElement(tag, dictionary_VR(tag), value)


def _raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    padded = value if len(value) % 2 == 0 else value + b" "
    return RawDataElement(Tag(tag), vr, len(padded), padded, 0, is_implicit_VR=False, is_little_endian=True)


def copy_element(made: Dataset, source: Dataset, keyword: str, *, as_bytes: bool = True) -> None:
    """Copies an attribute that is stated; text that nobody has decoded yet stays the bytes it was."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in source or not (keyword in BINDING or is_well_formed(source, keyword)):
        return
    element: object = source.get_item(tag)  # raw until somebody decodes it
    vr = dictionary_VR(tag)
    if as_bytes and isinstance(element, RawDataElement) and vr in _TEXTS:
        made[tag] = _raw(tag, vr, element.value or b"")
        return
    copied = deepcopy(source[tag])
    if vr == "SQ" and not as_bytes:
        for item in copied.value:
            item.decode()  # to be spelt in another character set
    made[tag] = copied


def local_time(sources: Sequence[Dataset], context: ResultContext) -> datetime:
    """The result's time as the images count time, else as the site does (CLINICAL.md 30)."""
    offset = _offset(sources)
    if offset is not None:
        return context.at.astimezone(offset)
    return context.at.astimezone(context.site_timezone) if context.site_timezone else context.at


def _offset(sources: Sequence[Dataset]) -> timezone | None:
    stated = _OFFSET.fullmatch(text(sources[0], "TimezoneOffsetFromUTC").strip()) if sources else None
    if stated is None:
        return None
    sign, hours, minutes = stated.groups()
    delta = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return timezone(delta) if _OFFSETS[0] <= delta <= _OFFSETS[1] else None


def _time(made: Dataset, sources: Sequence[Dataset], context: ResultContext) -> None:
    at = local_time(sources, context)
    made.ContentDate = made.InstanceCreationDate = at.strftime("%Y%m%d")
    made.ContentTime = made.InstanceCreationTime = at.strftime("%H%M%S.%f")
    # A scanner's clock may be ahead of ours; what hangs by time finds our series behind the images all the same.
    begun = max([at.replace(tzinfo=None), *(time for one in sources for time in _just_after(one))])
    made.SeriesDate, made.SeriesTime = begun.strftime("%Y%m%d %H%M%S.%f").split()
    if _offset(sources) is not None:
        copy_element(made, sources[0], "TimezoneOffsetFromUTC")


def _just_after(source: Dataset) -> Iterator[datetime]:
    """A second after each time at which an image says that it or its series was begun; what is no time is left out."""
    for what in ("Series", "Acquisition", "Content"):
        date, time = (text(source, f"{what}{part}").strip() for part in ("Date", "Time"))
        with suppress(ValueError, OverflowError):
            day, at = DA(date), TM(time)
            if day is not None and at is not None:
                yield datetime.combine(day, at) + timedelta(seconds=1)


def _equipment(made: Dataset, context: ResultContext) -> None:
    """Enhanced General Equipment, and Contributing Equipment: a result of ours is known by its DeviceUID."""
    made.Manufacturer = MANUFACTURER
    made.ManufacturerModelName = MODEL_NAME
    made.DeviceSerialNumber = context.device_uid
    made.SoftwareVersions = context.code_version
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded(PROCESSING_EQUIPMENT)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MODEL_NAME
    item.SoftwareVersions = context.code_version
    item.DeviceUID = context.device_uid
    item.ContributionDateTime = context.at.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = "Graded the spinal canal by machine; unverified"
    made.ContributingEquipmentSequence = [item]


def sop_class_of(source: Dataset) -> str:
    """The image's class; archives of single files sometimes lack it in the data set."""
    meta = getattr(source, "file_meta", Dataset())
    return str(source.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or MRImageStorage)


def referenced(source: Dataset, frame: int | None = None) -> Dataset:
    """An item of a Referenced SOP Sequence; the frame is named where the object has frames."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_of(source)
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    several = 1 < (number(source, "NumberOfFrames") or 1) <= MAX_FRAMES
    if frame is not None and (several or item.ReferencedSOPClassUID in _ENHANCED):
        item.ReferencedFrameNumber = frame
    return item


def referenced_study(study_instance_uid: str, objects: Sequence[Reference]) -> Dataset:
    """An item of a Hierarchical SOP Instance Reference (PS3.3 C.17.2.1), series in the order given."""
    series: dict[str, list[Dataset]] = {}
    for one in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = one.sop_class_uid
        item.ReferencedSOPInstanceUID = one.sop_instance_uid
        series.setdefault(one.series_instance_uid, []).append(item)
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    for uid, items in series.items():
        group = Dataset()
        group.SeriesInstanceUID = uid
        group.ReferencedSOPSequence = items
        study.ReferencedSeriesSequence.append(group)
    return study
