"""Report to DICOM objects: who they belong to, their UIDs, and what of them was said before."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from zoneinfo import ZoneInfo

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, Comprehensive3DSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from cauda.core import uids
from cauda.core.claims import Claim
from cauda.core.domain import Level, Report, Status
from cauda.core.revisions import Made
from cauda.core.schema import ResultKind
from cauda.pipeline import words
from cauda.pipeline.exclusions import study_text
from cauda.pipeline.frames import number, text
from cauda.pipeline.occlusion import HeatMap
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results.context import ObjectIds, Reference, ResultContext
from cauda.pipeline.results.instance import new_instance
from cauda.pipeline.results.secondary_capture import heat_map, not_analysed, secondary_capture
from cauda.pipeline.results.structured_report import structured_report

FIRST_SERIES_NUMBER = 9901  # SR, then SC; the next free ones where the study uses these (CLINICAL.md 26)

_STUDY = (
    "SpecificCharacterSet", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription",
    "AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ProcedureCodeSequence",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a result says about where it was made."""

    code_version: str
    site_timezone: str | None
    tracking_uids: Mapping[Level, str]
    identity_checked: bool
    page_modality: str = "OT"
    sr_class: str = Comprehensive3DSRStorage
    heat_map: bool = False
    series_numbers: Collection[int] = ()  # in use in the study, beside those of the images


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An object, not yet in the outbox."""

    kind: ResultKind
    dataset: Dataset

    def encoded(self) -> bytes:
        """The Part 10 file; the same object gives the same bytes."""
        return _encoded(self.dataset)


def is_research(report: Report) -> bool:
    """Whether results say RESEARCH and stay away from live archives (CLINICAL.md 16); without a bundle they do."""
    return report.bundle is None or not report.bundle.clinical


def result_context(
    claim: Claim, report: Report, sources: Sequence[Dataset], origin: Origin
) -> tuple[ResultContext, str]:
    """What the objects say beyond images and report, and a digest of the patient and study attributes they carry.

    Claim, bundle and carried attributes alike give the same UIDs.
    """
    digest = report.bundle.digest if report.bundle else "none"
    free = _free({number(source, "SeriesNumber") for source in sources} | set(origin.series_numbers))
    sr_number, sc_number = next(free), next(free)
    heat_number = next(free) if origin.heat_map else None
    nowhere = ObjectIds(sop_instance_uid="", series_instance_uid="", series_number=0)
    context = ResultContext(
        sr=nowhere,
        sc=nowhere,
        note_series_number=next(free),
        at=datetime.fromtimestamp(claim.frozen_at, UTC),
        device_uid=uids.derived("device", origin.code_version, digest),
        code_version=origin.code_version,
        configuration_digest=claim.config_digest,
        completeness=claim.complete_reason,
        tracking_uids=origin.tracking_uids,
        revision=claim.number,
        research=is_research(report),
        site_timezone=ZoneInfo(origin.site_timezone) if origin.site_timezone else None,
        identity=_identity(claim.identity or {}),
        identity_checked=origin.identity_checked,
        sc_modality=origin.page_modality,
    )
    probe = new_instance(Comprehensive3DSRStorage, "SR", nowhere, report.study_instance_uid, sources, context)
    attributes = carried(probe)
    same = (claim.study_uid, str(claim.number), digest, attributes, str(origin.identity_checked))
    sr = _ids(ResultKind.SR, origin.sr_class, same, sr_number)
    sc = _ids(ResultKind.SC, SecondaryCaptureImageStorage, same, sc_number)
    heat = heat_number and _ids(ResultKind.HEAT_MAP, SecondaryCaptureImageStorage, same, heat_number)
    return replace(context, sr=sr, sc=sc, heat_map=heat or None), attributes


def _ids(kind: ResultKind, sop_class: str, same: tuple[str, ...], series_number: int) -> ObjectIds:
    return ObjectIds(
        sop_instance_uid=uids.derived("instance", kind, sop_class, *same, str(series_number)),
        series_instance_uid=uids.derived("series", kind, sop_class, *same, str(series_number)),
        series_number=series_number,
    )


def _free(taken: set[float | None]) -> Iterator[int]:
    return (one for one in range(FIRST_SERIES_NUMBER, 1 << 20) if one not in taken)


def _identity(stated: Mapping[str, str]) -> dict[str, object]:
    """The archive's values as `identity.stated` kept them: bytes where they came in a character set of their own."""
    if "SpecificCharacterSet" not in stated:
        return dict(stated)
    return {
        keyword: value if keyword in {"SpecificCharacterSet", "StudyInstanceUID"} else value.encode("latin-1")
        for keyword, value in stated.items()
    }


def with_previous(context: ResultContext, replaced: Sequence[Made], change: str) -> ResultContext:
    """The same, replacing earlier results for the stated change."""
    return replace(context, previous=tuple(map(reference, replaced)), change_text=change)


def reference(one: Made) -> Reference:
    """How later objects of the study name a result."""
    return Reference(sop_class_uid=one.sop_class_uid, sop_instance_uid=one.sop_uid, series_instance_uid=one.series_uid)


def carried(dataset: Dataset) -> str:
    """A digest of the patient and study attributes that a result carries."""
    chosen = Dataset()
    for tag in sorted(dataset.keys()):
        if tag.group in {0x0010, 0x0012}:
            chosen[tag] = dataset.get_item(tag)
    for tag in map(Tag, _STUDY):
        if tag in dataset:
            chosen[tag] = dataset.get_item(tag)  # the bytes as they are, decoded by nobody
    chosen.file_meta = FileMetaDataset()
    chosen.file_meta.MediaStorageSOPClassUID = chosen.file_meta.MediaStorageSOPInstanceUID = UID("2.25.0")
    chosen.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return hashlib.sha256(_encoded(chosen)).hexdigest()


def _encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def make(
    report: Report,
    pictures: Pictures,
    sources: Sequence[Dataset],
    context: ResultContext,
    *,
    notice: bool,
    sr_class: str = Comprehensive3DSRStorage,
    maps: Mapping[Level, HeatMap] | None = None,
) -> list[Result]:
    """The objects of a report, in the order of their delivery; a rejected study has a ``notice`` or nothing.

    Without a heat map of any level there is no page of them.
    """
    if report.status is Status.REPORTED:
        made = [
            Result(kind=ResultKind.SR, dataset=structured_report(report, sources, context, sr_class)),
            Result(kind=ResultKind.SC, dataset=secondary_capture(report, pictures, sources, context)),
        ]
        if maps:
            made.append(Result(kind=ResultKind.HEAT_MAP, dataset=heat_map(report, pictures, maps, sources, context)))
        return made
    if notice:
        return [Result(kind=ResultKind.SC, dataset=not_analysed(report, sources, context))]
    return []


def ordered_as_lumbar(headers: Sequence[Dataset]) -> bool:
    """Whether the exam is called lumbar; the body part counts only where no description says anything."""
    exam = " ".join(sorted({study_text(header) for header in headers})).strip()
    said = exam or words.folded(" ".join(sorted({text(header, "BodyPartExamined") for header in headers})))
    return words.LUMBAR.search(said) is not None
