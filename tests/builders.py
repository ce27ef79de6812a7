"""Small MR studies made by hand with pydicom: valid enough for an archive, cheap enough for a thousand of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"

AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]
CORONAL = [1, 0, 0, 0, 0, -1]

_STUDY_ATTRIBUTES = (
    "StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "StudyID", "ReferringPhysicianName", "SpecificCharacterSet",
)  # fmt: skip


def uid(draw: random.Random) -> str:
    """A UID drawn from a seed."""
    return f"2.25.{draw.getrandbits(120)}"


def mr_image(study_uid: str, series_uid: str, sop_uid: str, **attributes: Any) -> Dataset:
    """One axial T2 MR image of 32 x 32 pixels; keyword arguments are DICOM keywords, None removes one."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
    dataset.SOPClassUID = MR_IMAGE
    dataset.SOPInstanceUID = sop_uid
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "20250314"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = "101500"
    dataset.AccessionNumber = "ACC1"
    dataset.Modality = "MR"
    dataset.Manufacturer = "Made By Hand"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "MR LUMBAR SPINE"
    dataset.SeriesDescription = "T2 TSE"
    dataset.PatientName = "Test^Study"
    dataset.PatientID = "PID1"
    dataset.PatientBirthDate = "19600102"
    dataset.PatientSex = "F"
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "LSPINE"
    dataset.ScanningSequence = "SE"
    dataset.SequenceVariant = "SK"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.SliceThickness = dataset.SpacingBetweenSlices = 4.0
    dataset.RepetitionTime = 3500.0
    dataset.EchoTime = 100.0
    dataset.EchoTrainLength = 15
    dataset.MagneticFieldStrength = 1.5
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.ImagePositionPatient = [0.0, 0.0, 0.0]
    dataset.ImageOrientationPatient = AXIAL
    dataset.FrameOfReferenceUID = study_uid + ".9"
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = 32
    dataset.PixelSpacing = [1.0, 1.0]
    dataset.BitsAllocated = 16
    dataset.BitsStored = 12
    dataset.HighBit = 11
    dataset.PixelRepresentation = 0
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    if "PixelData" not in dataset and "Rows" in dataset:
        texture = np.random.default_rng(int(dataset.InstanceNumber)).integers(0, 4096, (dataset.Rows, dataset.Columns))
        dataset.PixelData = texture.astype("<u2").tobytes()
    return dataset


def mr_study(seed: int | str, *, axial: int = 5, sagittal: int = 5, **attributes: Any) -> list[Dataset]:
    """A study of an axial and a sagittal T2 series, all of whose UIDs follow from the seed."""
    draw = random.Random(f"study {seed}")
    study_uid, axial_uid, sagittal_uid = uid(draw), uid(draw), uid(draw)
    images = [
        mr_image(
            study_uid, axial_uid, uid(draw),
            **{"SeriesDescription": "T2 TSE TRA", "InstanceNumber": i + 1,
               "ImagePositionPatient": [-16.0, -16.0, 4.0 * i]} | attributes,
        )
        for i in range(axial)
    ]  # fmt: skip
    return images + [
        mr_image(
            study_uid, sagittal_uid, uid(draw),
            **{"SeriesDescription": "T2 TSE SAG", "SeriesNumber": 2, "InstanceNumber": i + 1,
               "ImageOrientationPatient": SAGITTAL, "ImagePositionPatient": [4.0 * i - 10.0, -16.0, 26.0]}
            | attributes,
        )
        for i in range(sagittal)
    ]  # fmt: skip


def foreign_result(image: Dataset, sop_uid: str, kind: str = SECONDARY_CAPTURE) -> Dataset:
    """A small SC, SR or KO that somebody else made in the study of an image."""
    dataset = Dataset()
    for keyword in _STUDY_ATTRIBUTES:
        setattr(dataset, keyword, image.get(keyword))
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = sop_uid
    dataset.SeriesInstanceUID = sop_uid + ".1"
    dataset.SeriesNumber = 77
    dataset.InstanceNumber = 1
    dataset.Manufacturer = "Somebody Else"
    if kind == SECONDARY_CAPTURE:
        dataset.Modality = "OT"
        dataset.ConversionType = "WSD"
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows = dataset.Columns = 8
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelRepresentation = 0
        dataset.PixelData = bytes(64)
        return dataset
    dataset.Modality = "KO" if kind == KEY_OBJECT else "SR"
    dataset.ContentDate, dataset.ContentTime = "20250314", "110000"
    dataset.ReferencedPerformedProcedureStepSequence = Items()
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "SEPARATE"
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "113000", "DCM", "Of Interest"
    dataset.ConceptNameCodeSequence = Items([title])
    if kind != KEY_OBJECT:
        dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.CurrentRequestedProcedureEvidenceSequence = Items()
    return dataset


def part10(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set as a DICOM Part 10 file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID("2.25.1")
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def write(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Each data set as a file named by its place in the sequence."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i:05}.dcm" for i in range(len(datasets))]
    for file, dataset in zip(files, datasets, strict=True):
        file.write_bytes(part10(dataset))
    return files


def dataset_bytes(content: bytes) -> bytes:
    """The data set of a Part 10 file, the File Meta skipped by its own group length (PS3.10 7.1); no pydicom."""
    if content[128:132] != b"DICM" or content[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ValueError("not a Part 10 file that begins with the group length")
    return content[144 + int.from_bytes(content[140:144], "little") :]
