"""A whole synthetic study as a scanner would push it, with what is true of it (CLINICAL.md 33)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from cauda.core import uids
from cauda.core.domain import F32, Level, Point
from cauda.models.phantom.grading import Measured, truth
from cauda.models.phantom.imaging import T1, T2, Plane, Spoil, section, shown, tissue_signal
from cauda.models.phantom.imaging import Sequence as Contrast
from cauda.models.phantom.spine import Spine, sample_spine
from cauda.models.phantom.vendors import VENDORS, Vendor

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_FULL_SCALE = 1400.0
_HEAD, _FEET, _LEFT, _BACK = (np.array(v, float) for v in ((0, 0, 1), (0, 0, -1), (1, 0, 0), (0, 1, 0)))
_WHEN = datetime(2026, 1, 5, 9, 0)  # noqa: DTZ001  DICOM local time; a phantom has no clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is scanned."""

    sagittal_slices: int = 15
    sagittal_spacing_mm: float = 4.4
    axial_slices: int = 6  # in each of five angled blocks
    axial_spacing_mm: float = 4.0
    vendor: str = "siemens"
    balanced: bool = False
    spoil: Spoil = field(default_factory=Spoil)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """The images, ready to be written or sent, and the truth."""

    images: list[Dataset]
    points_mm: dict[Level, Point]  # the middle of the canal at each disc
    truth: dict[Level, Measured]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """One series: its slices and how they are weighted. Series of one group share their planes."""

    number: int
    description: str
    planes: tuple[Plane, ...]
    contrast: Contrast
    kind: str


def make_study(seed: int, number: int = 0, protocol: Protocol | None = None, *, processes: int = 1) -> Study:
    """A study whose pixels, UIDs and PatientID follow from seed, number and vendor alone."""
    protocol = protocol or Protocol()
    spine = sample_spine(seed * 1000 + number, balanced=protocol.balanced)
    vendor = VENDORS[protocol.vendor]
    planned = scans(spine, protocol, vendor)
    jobs = [(spine, plane, contrasts, protocol.spoil) for plane, contrasts in _by_plane(planned)]
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            drawn = list(pool.map(_draw, jobs, chunksize=4))
    else:
        drawn = [_draw(job) for job in jobs]
    pixels = {(id(plane), contrast): image for (_, plane, contrasts, _), images in zip(jobs, drawn, strict=True)
              for contrast, image in zip(contrasts, images, strict=True)}  # fmt: skip
    key = (protocol.vendor, str(seed), str(number))
    images = [
        dataset(scan, place, plane, pixels[id(plane), scan.contrast], key, vendor)
        for scan in planned
        for place, plane in enumerate(scan.planes)
    ]
    return Study(
        images=images,
        points_mm={level: spine.canal_centre(level) for level in Level},
        truth={level: truth(spine, level) for level in Level},
    )


def _by_plane(planned: Sequence[Scan]) -> Iterator[tuple[Plane, tuple[Contrast, ...]]]:
    seen: dict[int, tuple[Plane, list[Contrast]]] = {}
    for scan in planned:
        for plane in scan.planes:
            seen.setdefault(id(plane), (plane, []))[1].append(scan.contrast)
    for plane, contrasts in seen.values():
        yield plane, tuple(contrasts)


def _draw(job: tuple[Spine, Plane, tuple[Contrast, ...], Spoil]) -> list[F32]:
    spine, plane, contrasts, spoil = job
    sheets = section(spine, plane, parts=2)
    corner = [abs(int(v * 100)) for v in plane.corner]
    return [
        shown(spine, plane, sheets, tissue_signal(contrast), np.random.default_rng([spine.seed, *corner, i]), spoil)
        for i, contrast in enumerate(contrasts)
    ]


def scans(spine: Spine, protocol: Protocol, vendor: Vendor) -> list[Scan]:
    """The series of a lumbar protocol around a spine."""
    sagittal = tuple(_sagittal(spine, protocol))
    blocks = tuple(plane for level in Level for plane in _block(spine, level, protocol))
    return [
        Scan(number=2, description=vendor.sagittal_t2, planes=sagittal, contrast=T2, kind="sagittal_t2"),
        Scan(number=3, description=vendor.sagittal_t1, planes=sagittal, contrast=T1, kind="sagittal_t1"),
        Scan(number=4, description=vendor.axial_t2, planes=blocks, contrast=replace(T2, te=110), kind="axial_t2"),
    ]


def _sagittal(spine: Spine, protocol: Protocol) -> Iterator[Plane]:
    size, pixel = 384, 0.74
    middle = np.asarray(spine.centre) + np.array([0.0, -22.0, 4.0])
    first = -(protocol.sagittal_slices - 1) / 2 * protocol.sagittal_spacing_mm
    for i in range(protocol.sagittal_slices):
        centre = middle + (first + i * protocol.sagittal_spacing_mm) * _LEFT
        corner = centre - _BACK * (size - 1) / 2 * pixel + _HEAD * (size - 1) / 2 * pixel
        yield Plane(corner=corner, along_row=_BACK, along_column=_FEET, pixel_mm=pixel, rows=size, columns=size,
                    thickness_mm=protocol.sagittal_spacing_mm * 0.9)  # fmt: skip


def _block(spine: Spine, level: Level, protocol: Protocol) -> Iterator[Plane]:
    """Slices parallel to a disc, from its upper to its lower neighbour."""
    size, pixel = 320, 0.6
    normal = np.asarray(spine.normal(level))  # to the head
    back = np.cross(normal, _LEFT)
    back = back if back[1] > 0 else -back
    middle = np.asarray(spine.place(spine.level_s(level), v=-8.0))
    first = (protocol.axial_slices - 1) / 2 * protocol.axial_spacing_mm
    for i in range(protocol.axial_slices):
        centre = middle + (first - i * protocol.axial_spacing_mm) * normal
        corner = centre - (_LEFT + back) * (size - 1) / 2 * pixel
        yield Plane(corner=corner, along_row=_LEFT, along_column=back, pixel_mm=pixel, rows=size, columns=size,
                    thickness_mm=protocol.axial_spacing_mm * 0.9)  # fmt: skip


def dataset(
    scan: Scan, place: int, plane: Plane, pixels: F32, key: tuple[str, ...], vendor: Vendor
) -> Dataset:  # fmt: skip
    """One image as the vendor would send it; pixels (rows, columns) about 0..1."""
    study_uid = uids.derived("phantom", *key)
    when = _WHEN + timedelta(minutes=4 * scan.number, seconds=place)
    ds = Dataset()
    ds.SpecificCharacterSet = vendor.character_set
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
    ds.SOPClassUID = MR_IMAGE
    ds.SOPInstanceUID = uids.derived("phantom", *key, scan.kind, str(place))
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = uids.derived("phantom", *key, scan.kind)
    ds.FrameOfReferenceUID = uids.derived("phantom", *key, "frame")
    ds.PositionReferenceIndicator = ""
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = when.strftime("%Y%m%d")
    ds.StudyTime = _WHEN.strftime("%H%M%S")
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = when.strftime("%H%M%S")
    ds.AccessionNumber = f"TEST{int(study_uid[-9:]):09d}"
    ds.Modality = "MR"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = vendor.manufacturer, vendor.model, vendor.software
    ds.InstitutionName = "CAUDA PHANTOM"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = vendor.study, scan.description, scan.description
    ds.PatientName = "PHANTOM^CAUDA"
    ds.PatientID = f"CAUDA-TEST-{'-'.join(key)}"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600101", "O", "066Y"
    ds.BodyPartExamined = "LSPINE"
    ds.PatientPosition = "HFS"
    ds.QualityControlImage = "YES"
    ds.BurnedInAnnotation = "NO"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "SK", "", "2D"
    ds.SequenceName = vendor.sequence_t2
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = scan.contrast.tr, scan.contrast.te, 15
    ds.MagneticFieldStrength, ds.FlipAngle = 1.5, 150
    ds.SliceThickness = round(plane.thickness_mm, 3)
    ds.SpacingBetweenSlices = round(plane.thickness_mm / 0.9, 3)
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = "1", scan.number, place + 1, 1
    ds.ImagePositionPatient = [round(float(v), 4) for v in plane.corner]
    ds.ImageOrientationPatient = [round(float(v), 6) for v in (*plane.along_row, *plane.along_column)]
    ds.PixelSpacing = [plane.pixel_mm, plane.pixel_mm]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    stored = np.clip(np.round(pixels * _FULL_SCALE), 0, 4095).astype("<u2")
    ds.WindowCenter, ds.WindowWidth = 600, 1200
    ds.PixelData = stored.tobytes()
    ds.private_block(0x0019, vendor.private_creator, create=True).add_new(0x08, "LO", "PHANTOM")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = UID(MR_IMAGE)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = UID(uids.IMPLEMENTATION_CLASS_UID)
    return ds
