"""Images as a maker's scanner sends them: the attributes of an exam, of a series and of a classic MR image."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from cauda.core import uids
from cauda.core.domain import F32
from cauda.models.phantom.imaging import Plane
from cauda.models.phantom.kinds import DIXONS, TRAITS, Kind
from cauda.models.phantom.protocol import Scan
from cauda.models.phantom.vendor import Vendor

Key = tuple[str, ...]  # vendor, seed and number: what UIDs and Patient ID follow from

_FULL_SCALE = 1400.0
_WINDOW = (600.0, 1200.0)
_BEGIN = datetime(2026, 1, 5, 9, 0)  # noqa: DTZ001  DICOM local time; a phantom has no clock
_SERIES_MIN = 4
_ORIENTATIONS = {"sagittal": ("Sag", "SAGITTAL"), "axial": ("Tra", "TRANSVERSAL"), "survey": ("Cor", "CORONAL")}


def exam(key: Key, vendor: Vendor) -> Dataset:
    """What all objects of a study have in common: patient, study, equipment."""
    ds = Dataset()
    study_uid = uids.derived("phantom", *key)
    ds.SpecificCharacterSet = list(vendor.character_set) if len(vendor.character_set) > 1 else vendor.character_set[0]
    ds.StudyInstanceUID = study_uid
    ds.StudyDate, ds.StudyTime = _BEGIN.strftime("%Y%m%d"), _BEGIN.strftime("%H%M%S")
    ds.AccessionNumber = f"TEST{int(study_uid[-9:]):09d}"
    ds.StudyID, ds.StudyDescription = "1", vendor.study
    ds.ReferringPhysicianName = ""
    ds.PatientName = vendor.patient
    ds.PatientID = f"CAUDA-TEST-{'-'.join(key)}"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600101", "O", "066Y"
    ds.Manufacturer, ds.ManufacturerModelName = vendor.manufacturer, vendor.model
    ds.SoftwareVersions = list(vendor.software) if len(vendor.software) > 1 else vendor.software[0]
    ds.InstitutionName, ds.StationName, ds.DeviceSerialNumber = "CAUDA PHANTOM", vendor.station, "00000"
    return ds


def at(number: int, place: int = 0) -> datetime:
    """When the ``place``-th image of an exam's ``number``-th series was made."""
    return _BEGIN + timedelta(minutes=_SERIES_MIN * number, seconds=place)


def meta(ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> None:
    """File Meta Information for a finished data set."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.ImplementationClassUID = UID(uids.IMPLEMENTATION_CLASS_UID)


def series(scan: Scan, key: Key, vendor: Vendor) -> Dataset:
    """An exam's attributes and those of one of its series."""
    ds = exam(key, vendor)
    together = vendor.dixon_together and scan.kind in DIXONS
    ds.Modality = "MR"
    ds.SeriesInstanceUID = series_uid(scan.kind, key, vendor)
    ds.FrameOfReferenceUID = uids.derived("phantom", *key, "frame", *((scan.kind,) if vendor.own_frame else ()))
    ds.PositionReferenceIndicator = ""
    first = scan.number - (DIXONS.index(scan.kind) if together else 0)
    ds.SeriesNumber = vendor.series_number(first)
    ds.SeriesDate, ds.SeriesTime = at(first).strftime("%Y%m%d"), at(first).strftime("%H%M%S")
    ds.SeriesDescription = vendor.descriptions[scan.kind]
    ds.ProtocolName = vendor.exam_protocol or vendor.descriptions[scan.kind]
    ds.BodyPartExamined, ds.PatientPosition = "LSPINE", "HFS"
    ds.QualityControlImage, ds.BurnedInAnnotation = "YES", "NO"
    if scan.contrast.enhanced and vendor.agent:
        ds.ContrastBolusAgent = vendor.agent
    return ds


def series_uid(kind: Kind, key: Key, vendor: Vendor) -> str:
    """The Series Instance UID of a kind of series."""
    return uids.derived("phantom", *key, "dixon" if vendor.dixon_together and kind in DIXONS else kind)


def image_type(kind: Kind, vendor: Vendor) -> list[str]:
    """Image Type."""
    usual = ("ORIGINAL", "PRIMARY", *vendor.pulses[TRAITS[kind].pulse].image_type)
    return list(vendor.image_types.get(kind, usual))


def stored(pixels: F32, vendor: Vendor) -> bytes:
    """Pixels (rows, columns), about 0..1, as the 16 bit words that are sent."""
    top = 2 ** (vendor.bits - vendor.signed) - 1
    values = np.clip(np.round(pixels * (_FULL_SCALE / (vendor.slope or 1.0))), 0, top)
    return values.astype("<i2" if vendor.signed else "<u2").tobytes()


def pixel_format(ds: Dataset, plane: Plane, vendor: Vendor) -> None:
    """The attributes that say how pixels are stored."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = plane.rows, plane.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, vendor.bits, vendor.bits - 1
    ds.PixelRepresentation = int(vendor.signed)


def dataset(scan: Scan, place: int, plane: Plane, pixels: F32, key: Key, vendor: Vendor) -> Dataset:
    """One classic MR image, uncompressed; pixels (rows, columns) about 0..1."""
    traits, decimal = TRAITS[scan.kind], vendor.decimal
    tags = vendor.pulses[traits.pulse]
    ds = series(scan, key, vendor)
    when = at(scan.number, place)
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID = uids.derived("phantom", *key, scan.kind, str(place))
    ds.ImageType = image_type(scan.kind, vendor)
    ds.AcquisitionDate = ds.ContentDate = when.strftime("%Y%m%d")
    ds.AcquisitionTime = ds.ContentTime = when.strftime("%H%M%S")
    ds.ScanningSequence, ds.SequenceVariant = list(tags.sequence), list(tags.variant)
    ds.ScanOptions = list(tags.options)
    ds.MRAcquisitionType = "3D" if scan.kind in {Kind.SPACE, Kind.SPACE_AXIAL} else "2D"
    if tags.name:
        ds.SequenceName = tags.name
    ds.RepetitionTime, ds.EchoTime = decimal(scan.contrast.tr), decimal(scan.contrast.te)
    if scan.contrast.ti is not None:
        ds.InversionTime = decimal(scan.contrast.ti)
    ds.EchoTrainLength, ds.EchoNumbers, ds.NumberOfAverages = traits.train, 1, 2
    ds.FlipAngle, ds.PixelBandwidth = traits.flip, traits.bandwidth
    ds.MagneticFieldStrength, ds.ImagingFrequency, ds.ImagedNucleus = decimal(1.5), decimal(63.87), "1H"
    along = traits.phase_axis == 0
    ds.InPlanePhaseEncodingDirection = "COL" if along else "ROW"
    steps = int(plane.rows * 0.75) if along else int(plane.columns * 0.75)
    ds.AcquisitionMatrix = [plane.columns, 0, 0, steps] if along else [0, plane.rows, steps, 0]
    ds.PercentSampling = ds.PercentPhaseFieldOfView = 100
    ds.TransmitCoilName, ds.ReceiveCoilName, ds.SAR = "Body", vendor.coil, decimal(1.2)
    spacing = plane.thickness_mm / 0.9
    ds.SliceThickness, ds.SpacingBetweenSlices = decimal(round(plane.thickness_mm, 4)), decimal(round(spacing, 4))
    ds.AcquisitionNumber, ds.InstanceNumber = 1, _instance_number(scan, place, vendor)
    ds.ImagePositionPatient = [decimal(float(v)) for v in plane.corner]
    ds.ImageOrientationPatient = [decimal(float(v) + 0.0) for v in (*plane.along_row, *plane.along_column)]
    ds.PixelSpacing = [decimal(plane.pixel_mm), decimal(plane.pixel_mm)]
    pixel_format(ds, plane, vendor)
    ds.WindowCenter, ds.WindowWidth = (decimal(value) for value in _WINDOW)
    if vendor.slope is not None:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", decimal(vendor.slope), "US"
    ds.PixelData = stored(pixels, vendor)
    private(ds, plane, scan, place, vendor)
    meta(ds)
    return ds


def _instance_number(scan: Scan, place: int, vendor: Vendor) -> int:
    count = len(scan.planes)
    here = count - place if TRAITS[scan.kind].plane in vendor.backwards else place + 1
    return here + (count * DIXONS.index(scan.kind) if vendor.dixon_together and scan.kind in DIXONS else 0)


def private(ds: Dataset, plane: Plane, scan: Scan, place: int, vendor: Vendor) -> None:
    """The maker's private elements."""
    short, long = _ORIENTATIONS[TRAITS[scan.kind].plane]
    facts = {
        "rows": plane.rows, "columns": plane.columns, "field": round(plane.columns * plane.pixel_mm), "short": short,
        "long": long, "place": place + 1, "thickness": f"{plane.thickness_mm:.1f}",
    }  # fmt: skip
    for one in vendor.private:
        value = one.value.format(**facts) if isinstance(one.value, str) else one.value
        ds.private_block(one.group, one.creator, create=True).add_new(one.element, one.vr, value)
