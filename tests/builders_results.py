"""Reports, headers and pictures for the tests of results, made by hand: nothing here calls the product."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from cauda.core.domain import (
    F32,
    AxialEvidence,
    BundleInfo,
    Finding,
    GradeScale,
    Level,
    Quality,
    Reason,
    Report,
    SagittalEvidence,
    SeriesRole,
    SeriesUse,
    Status,
)
from cauda.pipeline.pictures import Pictures, Place, PlaneLine, SagittalPicture, Tile
from cauda.pipeline.results.context import ObjectIds, ResultContext

ROOT = "1.2.826.0.1.3680043.8.498.4711"
STUDY, AXIAL, SAGITTAL = f"{ROOT}.1", f"{ROOT}.1.7", f"{ROOT}.1.4"
SIZE = 256
AT = datetime(2026, 11, 20, 21, 30, 15, 250000, tzinfo=UTC)
NAME, PATIENT_ID, ACCESSION = "Quartzmann^Ottilie", "PID778899", "ACC554433"
LEVEL_SLICES = dict(zip(Level, (4, 11, 18, 25, 32), strict=True))


def header(series: str, number: int, index: int, **changes: Any) -> Dataset:
    """A classic MR header; a change of None removes the attribute."""
    made = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": MRImageStorage, "SOPInstanceUID": f"{series}.{index}", "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": series, "SeriesNumber": number, "InstanceNumber": index, "Modality": "MR",
        "PatientName": NAME, "PatientID": PATIENT_ID, "PatientBirthDate": "19640229", "PatientSex": "F",
        "PatientAge": "062Y", "StudyDate": "20261120", "StudyTime": "201500", "StudyID": "S17",
        "AccessionNumber": ACCESSION, "ReferringPhysicianName": "Ref^Doc", "StudyDescription": "MR LWS",
        "FrameOfReferenceUID": f"{ROOT}.9", "Rows": SIZE, "Columns": SIZE, "EchoTime": "98", "RepetitionTime": "3800",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [-80, -80, -4.0 * index],
        "PixelSpacing": [0.625, 0.625], "SliceThickness": "4",
    }  # fmt: skip
    values.update(changes)
    for keyword, value in values.items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def sources(**changes: Any) -> list[Dataset]:
    """A study's headers as they lie on a disk: 40 axial and 11 sagittal images, values still undecoded."""
    made = [header(AXIAL, 7, index, **changes) for index in range(1, 41)]
    made += [header(SAGITTAL, 4, index, **changes) for index in range(1, 12)]
    return [undecoded(one) for one in made]


def poor_sources() -> list[Dataset]:
    """Headers with little beside UIDs and patient ID, as in anonymised research data."""
    gone = dict.fromkeys(
        ("PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate", "StudyTime", "StudyID",
         "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID", "EchoTime",
         "RepetitionTime", "Modality", "SOPClassUID"),
    )  # fmt: skip
    return sources(**gone)


def undecoded(dataset: Dataset) -> Dataset:
    """Written and read again."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def bundle(scale: GradeScale = GradeScale.RSNA_3) -> BundleInfo:
    return BundleInfo(name="starter", version="0.3", digest="ab" * 32, scale=scale)


def graded(level: Level, grade: str | None, possible: tuple[str, ...] = (), **changes: Any) -> Finding:
    """A graded level with everything that a real one has."""
    index = LEVEL_SLICES[level]
    values: dict[str, Any] = {
        "level": level, "grade": grade, "possible": possible or ((grade,) if grade else ()),
        "probabilities": {"Normal/Mild": 0.21, "Moderate": 0.30, "Severe": 0.49},
        "axial": AxialEvidence(
            sop_instance_uid=f"{AXIAL}.{index}", frame=1, center_px=(128.0, 120.0), box_px=(77.0, 69.0, 179.0, 171.0)
        ),
        "sagittal": SagittalEvidence(sop_instance_uid=f"{SAGITTAL}.6", frame=1, point_px=(130.0, 30.0 + 5 * index)),
        "point_mm": (1.0, 2.0, 3.0),
        "quality": Quality(passed=True, noise_ssim=0.91, continuity_ssim=0.84, template_ssim=0.72),
    }  # fmt: skip
    values.update(changes)
    return Finding(**values)


def not_graded(level: Level, reason: Reason, **changes: Any) -> Finding:
    """A level without a grade; an imaged one keeps its evidence."""
    if reason in (Reason.NOT_IMAGED, Reason.NO_BUNDLE, Reason.LEVELS_NOT_COUNTED):
        return Finding(level=level, abstained=reason, **changes)
    quality = Quality(passed=False, noise_ssim=0.51, continuity_ssim=0.44, reason=reason)
    return graded(level, None, abstained=reason, probabilities={}, quality=quality, **changes)


def report(*findings: Finding, **changes: Any) -> Report:
    """A report on the study; without findings the mixed one that most tests use."""
    values: dict[str, Any] = {
        "study_instance_uid": STUDY, "status": Status.REPORTED, "bundle": bundle(), "levels_from": "sagittal",
        "series": (
            SeriesUse(series_instance_uid=AXIAL, role=SeriesRole.AXIAL_T2, slices=40),
            SeriesUse(series_instance_uid=SAGITTAL, role=SeriesRole.SAGITTAL_T2, slices=11),
        ),
        "findings": findings or mixed(),
    }  # fmt: skip
    values.update(changes)
    return Report(**values)


def mixed() -> tuple[Finding, ...]:
    """Each kind of row once."""
    return (
        not_graded(Level.L1_L2, Reason.NOT_IMAGED),
        graded(Level.L2_L3, "Normal/Mild"),
        graded(Level.L3_L4, "Moderate", ("Moderate", "Severe")),
        graded(Level.L4_L5, "Severe"),
        not_graded(Level.L5_S1, Reason.MOTION),
    )


def all_graded() -> tuple[Finding, ...]:
    grades = ("Normal/Mild", "Normal/Mild", "Moderate", "Severe", "Normal/Mild")
    return tuple(graded(level, grade) for level, grade in zip(Level, grades, strict=True))


def no_bundle() -> Report:
    findings = tuple(not_graded(level, Reason.NO_BUNDLE) for level in Level)
    return report(*findings, bundle=None, levels_from=None)


def context(**changes: Any) -> ResultContext:
    values: dict[str, Any] = {
        "sr": ObjectIds(sop_instance_uid=f"{ROOT}.50.1", series_instance_uid=f"{ROOT}.50", series_number=9901),
        "sc": ObjectIds(sop_instance_uid=f"{ROOT}.51.1", series_instance_uid=f"{ROOT}.51", series_number=9902),
        "at": AT, "device_uid": f"{ROOT}.60", "code_version": "0.1.0", "configuration_digest": "cd" * 32,
        "completeness": "axial and sagittal T2 quiet for 60 s",
        "tracking_uids": {level: f"{ROOT}.70.{n}" for n, level in enumerate(Level)},
    }  # fmt: skip
    values.update(changes)
    return ResultContext(**values)


def axial_picture(calibre: float, seed: int) -> F32:
    """A drawn axial slice: body, vertebra, muscles and a bright sac of the given calibre (1 is wide)."""
    rows, cols = np.mgrid[0:200, 0:200].astype(np.float32)
    picture = 0.06 + 0.02 * np.random.default_rng(seed).standard_normal((200, 200)).astype(np.float32)
    for row, col, half_row, half_col, signal in (
        (100, 100, 98, 98, 0.35), (60, 100, 40, 52, 0.22), (150, 55, 38, 34, 0.18), (150, 145, 38, 34, 0.18),
        (116, 100, 15 * calibre + 3, 20 * calibre + 4, 0.55),
        (116, 100, 15 * calibre, 20 * calibre, 0.95 * calibre**0.4),
    ):  # fmt: skip
        inside = ((rows - row) / half_row) ** 2 + ((cols - col) / half_col) ** 2 < 1
        picture[inside] = signal + 0.1 * (picture[inside] - 0.06)
    for strand in range(8):
        angle = 2 * np.pi * strand / 8
        row, col = 120 + 6 * calibre * np.sin(angle), 100 + 12 * calibre * np.cos(angle)
        picture[((rows - row) ** 2 + (cols - col) ** 2) < 3] *= 0.5
    return np.clip(picture, 0, 1)


def tile(level: Level, calibre: float, **changes: Any) -> Tile:
    values: dict[str, Any] = {
        "pixels": axial_picture(calibre, LEVEL_SLICES[level]), "mm_per_px": 0.4, "center_px": (100.0, 116.0),
        "box_mm": 64.0, "place": Place(series_number=7, instance_number=LEVEL_SLICES[level]),
    }  # fmt: skip
    values.update(changes)
    return Tile(**values)


def sagittal_picture(levels: tuple[Level, ...] = tuple(Level)) -> SagittalPicture:
    """A drawn sagittal slice: curved column of vertebrae and discs, bright canal behind."""
    rows, cols = np.mgrid[0:320, 0:320].astype(np.float32)
    picture = np.full((320, 320), 0.1, np.float32)
    picture[(cols > 40) & (cols < 300)] = 0.3
    picture += 0.015 * np.random.default_rng(1).standard_normal((320, 320)).astype(np.float32)
    bend = 26 * np.sin((rows - 30) / 250 * np.pi)
    column = 150 - bend
    picture[np.abs(cols - column) < 26] = 0.2
    picture[np.abs(cols - column - 44) < 9] = 0.92
    points, lines = {}, {}
    for number, level in enumerate(Level):
        row = 62.0 + 48 * number
        slope = 0.14 * (number - 1.5)
        disc = (np.abs(rows - row - slope * (cols - column)) < 7) & (np.abs(cols - column) < 26)
        picture[disc] = 0.55
        middle = float(150 - 26 * np.sin((row - 30) / 250 * np.pi)) + 44
        points[level] = (middle, row + slope * 44)
        if level in levels:
            lines[level] = PlaneLine(
                start_px=(middle - 120, row + slope * -76), end_px=(middle + 90, row + slope * 134),
                dashed=level is Level.L3_L4,
            )  # fmt: skip
    return SagittalPicture(
        pixels=np.clip(picture, 0, 1), mm_per_px=0.8, place=Place(series_number=4, instance_number=6),
        points_px=points, lines=lines,
    )  # fmt: skip


def pictures() -> Pictures:
    """The pictures that belong to ``mixed()``."""
    calibres = {Level.L2_L3: 1.0, Level.L3_L4: 0.6, Level.L4_L5: 0.3, Level.L5_S1: 0.8}
    tiles = {level: tile(level, calibre) for level, calibre in calibres.items()}
    return Pictures(tiles=tiles, sagittal=sagittal_picture(tuple(calibres)))
