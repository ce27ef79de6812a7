"""`cauda analyze`: a folder of DICOM files in, a report and its objects out; no daemon, no ledger."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from cauda.core import headers, identity, stored, uids
from cauda.core.claims import Claim
from cauda.core.decoding import StudyDecoder
from cauda.core.domain import Level, Reason, Report, Status
from cauda.core.errors import Rejected, Unavailable
from cauda.core.revisions import Fingerprint
from cauda.core.schema import ResultKind, RevisionKind
from cauda.core.settings import Decoding, Settings
from cauda.pipeline import report_json, words
from cauda.pipeline.analyse import Analysis, AnalysisOptions, analyse_study
from cauda.pipeline.frames import text
from cauda.pipeline.occlusion import HeatMap, heat_maps
from cauda.pipeline.parts import Parts
from cauda.pipeline.source import SourceImage
from cauda.worker.results import Origin, make, ordered_as_lumbar, result_context

_PLACE = ("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient")  # what copies of an image have in common
REPORT, EXPERIMENTAL = "report.json", "experimental.json"
_OBJECT = {ResultKind.SR: "sr.dcm", ResultKind.SC: "sc.dcm", ResultKind.HEAT_MAP: "heat.dcm"}
_PICTURE = {ResultKind.SC: "sc.png", ResultKind.HEAT_MAP: "heat.png"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One study's files, one per SOP instance, and how many others were left out."""

    study_uid: str
    paths: tuple[Path, ...]
    not_dicom: int
    copies: int = 0  # of images that are there already
    unreadable: int = 0  # they count as images that cannot be decoded

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not used of the folder, in words."""
        said = (
            (self.not_dicom, "not DICOM"),
            (self.copies, "a copy of another file"),
            (self.unreadable, "not readable"),
        )
        return tuple(f"{count} file{'s'[: count > 1]} not used: {why}" for count, why in said if count)


def folder_of(root: Path, study_uid: str | None = None) -> Folder:
    """The study below a folder. Rejected where there is none, or more than one and none is named."""
    if not root.is_dir():
        raise Rejected(Reason.FILE_MISSING, f"{root} is not a folder")
    studies: dict[str, dict[str, Path]] = defaultdict(dict)
    not_dicom = copies = 0
    shared: dict[str, int] = defaultdict(int)
    places: dict[Path, tuple[str, ...]] = {}
    for path in sorted(one for one in root.rglob("*") if one.is_file() and one.name != "DICOMDIR"):
        header = _header(path)
        if header is None:
            not_dicom += 1
            continue
        uid = str(header.get("StudyInstanceUID") or "")
        places[path] = tuple(text(header, keyword) for keyword in _PLACE)
        kept = studies[uid].setdefault(text(header, "SOPInstanceUID") or str(path), path)
        if kept is not path:
            copies += places[kept] == places[path]
            shared[uid] += places[kept] != places[path]
    unnamed = studies.pop("", {})  # files whose header is empty belong to whatever stands beside them
    if study_uid is not None:
        studies = {uid: files for uid, files in studies.items() if uid == study_uid}
    if not studies and not (unnamed and study_uid is None):
        raise Rejected(Reason.NOT_DICOM, f"no DICOM files in {root}" + (f" of study {study_uid}" if study_uid else ""))
    if len(studies) > 1:
        raise Rejected(
            Reason.NOT_DICOM, f"{len(studies)} studies in {root}; say which with --study: {', '.join(studies)}"
        )
    uid, files = next(iter(studies.items()), ("", {}))
    if shared[uid]:
        raise Rejected(
            Reason.NOT_DICOM,
            f"{shared[uid]} files in {root} have the SOP Instance UID of another image of the study, as in data sets "
            "that number each series from 1; give each image a UID of its own. Nothing was analysed",
        )
    paths = tuple((unnamed | files).values())
    return Folder(study_uid=uid, paths=paths, not_dicom=not_dicom, copies=copies, unreadable=len(unnamed))


def _header(path: Path) -> Dataset | None:
    """A file's header; None when it is not DICOM. A data set without preamble and File Meta is DICOM to us."""
    try:
        return stored.header(path)
    except InvalidDicomError:
        try:
            forced = stored.header(path, force=True)
            return forced if forced.get("StudyInstanceUID") else None
        except _MALFORMED:
            return None
    except _MALFORMED:
        return Dataset()  # a preamble and then nonsense: the study says "undecodable"


# pydicom raises any of these on malformed elements
_MALFORMED = (ValueError, TypeError, AttributeError, KeyError, EOFError, NotImplementedError, RecursionError, OSError)


def analyse(folder: Folder, parts: Parts | None, settings: Settings, clock: Callable[[], float]) -> Analysis:
    """What the grade task does with a revision's images, on these files."""
    with StudyDecoder(settings.decoding) as decoder:
        images = [_image(path, decoder) for path in folder.paths]
        inputs = [one.header for one in images if headers.role(one.header).is_input]
        if identity.conflict([identity.stated(header, folder.study_uid) for header in inputs]):
            why = "images of this study name more than one patient"
            report = Report(
                study_instance_uid=folder.study_uid, status=Status.HELD, reason=Reason.IDENTITY_MIXED, reason_text=why
            )
            return Analysis(report=report)
        denied = tuple(rf"(?<!\w){re.escape(words.folded(word))}(?!\w)" for word in settings.grading.deny_exams)
        options = AnalysisOptions(denied_exams=denied, clock=clock)
        return analyse_study(folder.study_uid, images, parts, options)


def heat(folder: Folder, analysis: Analysis, parts: Parts | None) -> dict[Level, HeatMap]:
    """A map for each level that was graded."""
    if parts is None:
        return {}
    with StudyDecoder(Decoding()) as decoder:
        return heat_maps(analysis.report, [_image(path, decoder) for path in folder.paths], parts)


def _image(path: Path, decoder: StudyDecoder) -> SourceImage:
    header = _header(path)
    return SourceImage(
        header=Dataset() if header is None else header,
        read=partial(_read, path),
        decode=partial(decoder.decode, path),
    )


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path, force=True)
    except OSError as error:
        raise Unavailable(Reason.FILE_MISSING, f"{path} cannot be read ({error.strerror})") from error


def write(
    out: Path,
    folder: Folder,
    analysis: Analysis,
    settings: Settings,
    fingerprint: Fingerprint,
    maps: Mapping[Level, HeatMap],
) -> list[Path]:
    """Put report.json and the objects into ``out``; returns the files. What an earlier run left there is removed."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (REPORT, EXPERIMENTAL, *_OBJECT.values(), *_PICTURE.values()):
        (out / name).unlink(missing_ok=True)
    files = [out / REPORT]
    files[0].write_text(json.dumps(report_json.to_json(analysis.report, 1), indent=2) + "\n")
    for kind, content in _objects(folder, analysis, settings, fingerprint, maps):
        path = out / _OBJECT[kind]
        path.write_bytes(content)
        files.append(path)
        if kind in _PICTURE:
            files.append(picture(path, out / _PICTURE[kind]))
    return files


def _objects(
    folder: Folder,
    analysis: Analysis,
    settings: Settings,
    fingerprint: Fingerprint,
    maps: Mapping[Level, HeatMap],
) -> list[tuple[ResultKind, bytes]]:
    if analysis.report.status is Status.HELD:
        return []
    # Read again: text is copied byte for byte from headers whose values nobody has decoded.
    sources = [header for path in folder.paths if (header := _header(path)) is not None and _is_mr(header)]
    if not sources:
        return []
    named = [header for path in folder.paths if (header := _header(path)) is not None]  # these may be decoded
    salt = secrets.token_hex(16)  # a second run is another object; a daemon's result of this study too
    claim = Claim(
        id=0, attempt=1, study_uid=folder.study_uid, number=1, kind=RevisionKind.GRADE, frozen_at=time.time(),
        complete_reason="cauda analyze: the files of a folder", config_digest=fingerprint.config_digest, identity=None,
        identity_checked=False,
    )  # fmt: skip
    origin = Origin(
        code_version=fingerprint.code_version,
        site_timezone=settings.site.timezone,
        tracking_uids={level: uids.derived("tracking", salt, level) for level in Level},
        identity_checked=False,
        page_modality=settings.grading.page_modality,
        heat_map=bool(maps),
    )
    context, _ = result_context(claim, analysis.report, sources, origin)
    own = {
        kind: replace(
            ids,
            sop_instance_uid=uids.derived("instance", salt, kind),
            series_instance_uid=uids.derived("series", salt, kind),
        )
        for kind, ids in (
            (ResultKind.SR, context.sr), (ResultKind.SC, context.sc), (ResultKind.HEAT_MAP, context.heat_map),
        ) if ids is not None
    }  # fmt: skip
    heat_map = own.get(ResultKind.HEAT_MAP)
    context = replace(context, sr=own[ResultKind.SR], sc=own[ResultKind.SC], heat_map=heat_map)
    notice = settings.grading.not_analysed_page and ordered_as_lumbar(named)
    made = make(analysis.report, analysis.pictures, sources, context, notice=notice, maps=maps)
    return [(one.kind, one.encoded()) for one in made]


def _is_mr(header: Dataset) -> bool:
    return headers.role(header) is not headers.Role.INERT


def experiments(out: Path, folder: Folder, analysis: Analysis) -> Path:
    """Write what is tried but never delivered (CLINICAL.md 10); returns the file."""
    from cauda.models.slice_kmeans import guessed  # noqa: PLC0415  scikit-learn is loaded only where it is asked for

    path = out / EXPERIMENTAL
    with StudyDecoder(Decoding()) as decoder:
        found = guessed([_image(one, decoder) for one in folder.paths], analysis.report)
    path.write_text(json.dumps(found, indent=2) + "\n")
    return path


def picture(capture: Path, png: Path) -> Path:
    """A Secondary Capture's page as PNG."""
    Image.fromarray(dcmread(capture).pixel_array).save(png)
    return png


def parts_of(bundle: Path | None, digest: str | None) -> Parts | None:
    """The trained parts of a bundle, verified; None without one."""
    if bundle is None:
        return None
    from cauda.models.bundle import load_bundle  # noqa: PLC0415  torch is loaded only where something is graded

    return load_bundle(bundle, digest)
