"""A whole series as one Enhanced MR object: what frames share is said once, the rest frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage

from cauda.core import uids
from cauda.core.domain import F32
from cauda.models.phantom.dataset import Key, at, image_type, meta, pixel_format, private, series, stored
from cauda.models.phantom.imaging import Plane
from cauda.models.phantom.kinds import DIXONS, TRAITS, Kind, Pulse
from cauda.models.phantom.protocol import Scan
from cauda.models.phantom.vendor import Vendor

_STAMP = "%Y%m%d%H%M%S"


def enhanced(scan: Scan, pixels: Sequence[F32], key: Key, vendor: Vendor) -> Dataset:
    """The object; pixels, one (rows, columns) a plane, about 0..1. All planes have one size."""
    ds = series(scan, key, vendor)
    ds.pop("ContrastBolusAgent", None)  # a sequence says it here
    _image(ds, scan, key, vendor)
    if ds.ImageType[0] == "ORIGINAL":  # the module is not for derived ones
        _pulse_sequence(ds, scan, vendor)
    _dimensions(ds, key)
    ds.SharedFunctionalGroupsSequence = Items([_shared(scan, vendor)])
    ds.PerFrameFunctionalGroupsSequence = Items(
        [_frame(scan, place, plane, stack, inside, vendor)
         for place, (plane, (stack, inside)) in enumerate(zip(scan.planes, _stacks(scan.planes), strict=True))]
    )  # fmt: skip
    ds.NumberOfFrames = len(scan.planes)
    pixel_format(ds, scan.planes[0], vendor)
    ds.PixelData = b"".join(stored(one, vendor) for one in pixels)
    private(ds, scan.planes[0], scan, 0, vendor)
    meta(ds)
    return ds


def _item(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def _group(ds: Dataset, keyword: str, **attributes: object) -> None:
    setattr(ds, keyword, Items([_item(**attributes)]))


def _types(scan: Scan, vendor: Vendor) -> list[str]:
    """Image Type in the four values of an Enhanced object."""
    origin, primary, *_ = image_type(scan.kind, vendor)
    dixon = {Kind.DIXON_WATER: "WATER", Kind.DIXON_FAT: "FAT", Kind.DIXON_IN: "IN_PHASE",
             Kind.DIXON_OPPOSED: "OUT_OF_PHASE"}  # fmt: skip
    if scan.kind in dixon:
        return ["DERIVED", "PRIMARY", "DIXON", dixon[scan.kind]]
    if scan.kind is Kind.SPACE_AXIAL:
        return ["DERIVED", "PRIMARY", "MPR", "RESAMPLED"]
    return [origin, primary, "M", "NONE"]


def _image(ds: Dataset, scan: Scan, key: Key, vendor: Vendor) -> None:
    when = at(scan.number)
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.SOPInstanceUID = uids.derived("phantom", *key, scan.kind, "enhanced")
    ds.ImageType = _types(scan, vendor)
    together = vendor.dixon_together and scan.kind in DIXONS
    ds.InstanceNumber, ds.AcquisitionNumber = 1 + (DIXONS.index(scan.kind) if together else 0), 1
    ds.ContentDate, ds.ContentTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    ds.AcquisitionDateTime, ds.AcquisitionDuration = when.strftime(_STAMP), 180.0
    ds.ResonantNucleus, ds.KSpaceFiltering, ds.MagneticFieldStrength = "1H", "NONE", 1.5
    ds.ApplicableSafetyStandardAgency = "IEC"
    ds.ContentQualification, ds.PixelPresentation = "PRODUCT", "MONOCHROME"
    ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = "VOLUME", "NONE"
    if "MPR" in ds.ImageType:
        ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = "SAMPLED", "MPR"
    ds.ComplexImageComponent, ds.AcquisitionContrast = "MAGNITUDE", _contrast(scan)
    ds.PresentationLUTShape, ds.LossyImageCompression = "IDENTITY", "00"
    ds.AcquisitionContextSequence = Items([])


def _contrast(scan: Scan) -> str:
    if scan.contrast.ti is not None:
        return "STIR"
    return "T1" if scan.contrast.te < 40 else "T2"


def _pulse_sequence(ds: Dataset, scan: Scan, vendor: Vendor) -> None:
    traits = TRAITS[scan.kind]
    gradient = traits.pulse is Pulse.GRADIENT
    ds.PulseSequenceName = vendor.pulses[traits.pulse].name or "FSE"
    ds.MRAcquisitionType = "3D" if traits.pulse is Pulse.VOLUME else "2D"
    ds.EchoPulseSequence = "GRADIENT" if gradient else "SPIN"
    if not gradient:
        ds.MultipleSpinEcho = "YES"
    ds.MultiPlanarExcitation = "NO"
    ds.PhaseContrast, ds.TimeOfFlightContrast = "NO", "NO"
    ds.SteadyStatePulseSequence = "NONE"
    ds.EchoPlanarPulseSequence, ds.SaturationRecovery = "NO", "NO"
    ds.SpectrallySelectedSuppression = "FAT" if scan.kind is Kind.SAGITTAL_T1_CONTRAST else "NONE"
    ds.OversamplingPhase, ds.GeometryOfKSpaceTraversal = "2D", "RECTILINEAR"
    ds.RectilinearPhaseEncodeReordering, ds.SegmentedKSpaceTraversal = "LINEAR", "PARTIAL"
    ds.NumberOfKSpaceTrajectories = 1
    if ds.MRAcquisitionType == "3D":
        ds.CoverageOfKSpace = "FULL"


def _dimensions(ds: Dataset, key: Key) -> None:
    organization = uids.derived("phantom", *key, "dimensions")
    ds.DimensionOrganizationSequence = Items([_item(DimensionOrganizationUID=organization)])
    ds.DimensionIndexSequence = Items([
        _item(DimensionOrganizationUID=organization, DimensionIndexPointer=Tag(tag_for_keyword(pointer) or 0),
              FunctionalGroupPointer=Tag(tag_for_keyword("FrameContentSequence") or 0),
              DimensionDescriptionLabel=pointer)
        for pointer in ("StackID", "InStackPositionNumber")
    ])  # fmt: skip


def _stacks(planes: Sequence[Plane]) -> list[tuple[int, int]]:
    """For each plane the number of its stack and its place therein; a stack ends where the direction changes."""
    found: list[tuple[int, int]] = []
    for place, plane in enumerate(planes):
        stack, inside = found[-1] if found else (1, 0)
        turned = place > 0 and float(plane.normal @ planes[place - 1].normal) < 1 - 1e-9
        found.append((stack + 1, 1) if turned else (stack, inside + 1))
    return found


def _shared(scan: Scan, vendor: Vendor) -> Dataset:
    traits, plane, groups = TRAITS[scan.kind], scan.planes[0], Dataset()
    decimal = vendor.decimal
    _group(
        groups, "PixelMeasuresSequence", PixelSpacing=[decimal(plane.pixel_mm)] * 2,
        SliceThickness=decimal(round(plane.thickness_mm, 4)),
        SpacingBetweenSlices=decimal(round(plane.thickness_mm / 0.9, 4)),
    )  # fmt: skip
    _group(
        groups, "MRImageFrameTypeSequence", FrameType=_types(scan, vendor), PixelPresentation="MONOCHROME",
        VolumetricProperties="SAMPLED" if scan.kind is Kind.SPACE_AXIAL else "VOLUME",
        VolumeBasedCalculationTechnique="MPR" if scan.kind is Kind.SPACE_AXIAL else "NONE",
        ComplexImageComponent="MAGNITUDE", AcquisitionContrast=_contrast(scan),
    )  # fmt: skip
    _group(groups, "PixelValueTransformationSequence", RescaleIntercept="0", RescaleSlope=decimal(vendor.slope or 1.0),
           RescaleType="US")  # fmt: skip
    _group(groups, "FrameVOILUTSequence", WindowCenter=decimal(600), WindowWidth=decimal(1200))
    region = _item(CodeValue="122496007", CodingSchemeDesignator="SCT", CodeMeaning="Lumbar spine")
    _group(groups, "FrameAnatomySequence", FrameLaterality="U", AnatomicRegionSequence=Items([region]))
    absorbed = _item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=1.2)
    _group(
        groups, "MRTimingAndRelatedParametersSequence", RepetitionTime=decimal(scan.contrast.tr), FlipAngle=traits.flip,
        EchoTrainLength=traits.train, RFEchoTrainLength=traits.train, GradientEchoTrainLength=0,
        SpecificAbsorptionRateSequence=Items([absorbed]),
        OperatingModeSequence=Items([_item(OperatingModeType="GRADIENT", OperatingMode="IEC_NORMAL")]),
    )  # fmt: skip
    _group(groups, "MREchoSequence", EffectiveEchoTime=scan.contrast.te)
    _modifiers(groups, scan)
    _group(groups, "MRAveragesSequence", NumberOfAverages=2)
    _field_of_view(groups, scan)
    _coils(groups, vendor)
    return groups


def _modifiers(groups: Dataset, scan: Scan) -> None:
    recovery = scan.contrast.ti is not None
    modifier = _item(
        InversionRecovery="YES" if recovery else "NO", FlowCompensation="NONE", Spoiling="NONE", T2Preparation="NO",
        SpectrallySelectedExcitation="NONE", SpatialPresaturation="NONE", PartialFourier="NO", ParallelAcquisition="NO",
    )  # fmt: skip
    if scan.contrast.ti is not None:
        modifier.InversionTimes = [scan.contrast.ti]
    groups.MRModifierSequence = Items([modifier])
    _group(groups, "MRImagingModifierSequence", MagnetizationTransfer="NONE", BloodSignalNulling="NO", Tagging="NONE",
           TransmitterFrequency=63.87, PixelBandwidth=float(TRAITS[scan.kind].bandwidth))  # fmt: skip


def _field_of_view(groups: Dataset, scan: Scan) -> None:
    plane, along = scan.planes[0], TRAITS[scan.kind].phase_axis == 0
    steps = int((plane.rows if along else plane.columns) * 0.75)
    _group(
        groups, "MRFOVGeometrySequence", InPlanePhaseEncodingDirection="COLUMN" if along else "ROW",
        MRAcquisitionFrequencyEncodingSteps=plane.columns if along else plane.rows,
        MRAcquisitionPhaseEncodingStepsInPlane=steps, MRAcquisitionPhaseEncodingStepsOutOfPlane=len(scan.planes),
        PercentSampling=75.0, PercentPhaseFieldOfView=100.0,
    )  # fmt: skip


def _coils(groups: Dataset, vendor: Vendor) -> None:
    element = _item(MultiCoilElementName="1", MultiCoilElementUsed="YES")
    _group(
        groups, "MRReceiveCoilSequence", ReceiveCoilName=vendor.coil, ReceiveCoilManufacturerName="",
        ReceiveCoilType="MULTICOIL", QuadratureReceiveCoil="YES", MultiCoilDefinitionSequence=Items([element]),
    )  # fmt: skip
    _group(groups, "MRTransmitCoilSequence", TransmitCoilName="Body", TransmitCoilManufacturerName="",
           TransmitCoilType="BODY")  # fmt: skip


def _frame(scan: Scan, place: int, plane: Plane, stack: int, inside: int, vendor: Vendor) -> Dataset:
    groups, when = Dataset(), at(scan.number, place).strftime(_STAMP)
    _group(
        groups, "FrameContentSequence", FrameAcquisitionNumber=1, FrameReferenceDateTime=when,
        FrameAcquisitionDateTime=when, FrameAcquisitionDuration=1000.0, StackID=str(stack),
        InStackPositionNumber=inside, DimensionIndexValues=[stack, inside],
    )  # fmt: skip
    _group(groups, "PlanePositionSequence", ImagePositionPatient=[vendor.decimal(float(v)) for v in plane.corner])
    _group(groups, "PlaneOrientationSequence", ImageOrientationPatient=[
        vendor.decimal(float(v) + 0.0) for v in (*plane.along_row, *plane.along_column)
    ])  # fmt: skip
    return groups
