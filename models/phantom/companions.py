"""What scanners send besides images: reports, key objects, presentation states and screen captures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    BasicTextSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

from cauda.core import uids
from cauda.models.phantom.dataset import Key, at, exam, meta
from cauda.models.phantom.vendor import Vendor

_NUMBER = 99  # its series come last in the exam's count


def companions(images: Sequence[Dataset], key: Key, vendor: Vendor) -> list[Dataset]:
    """The images with what this maker sends in between: after the first series, then after each further one."""
    series = [list(group) for _, group in groupby(images, key=lambda image: str(image.SeriesInstanceUID))]
    out: list[Dataset] = []
    waiting = [KINDS[name](_base(name, place, key, vendor), images) for place, name in enumerate(vendor.companions)]
    for group in series:
        out += group
        if waiting:
            out.append(waiting.pop(0))
    return out + waiting


def _base(name: str, place: int, key: Key, vendor: Vendor) -> Dataset:
    ds = exam(key, vendor)
    when = at(30, place)
    ds.SeriesInstanceUID = uids.derived("phantom", *key, name)
    ds.SOPInstanceUID = uids.derived("phantom", *key, name, "0")
    ds.SeriesNumber, ds.InstanceNumber = vendor.series_number(_NUMBER - place), 1
    ds.ContentDate, ds.ContentTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    ds.SeriesDate, ds.SeriesTime = ds.ContentDate, ds.ContentTime
    return ds


def _code(value: str, scheme: str, meaning: str) -> Items:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Items([item])


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _finished(ds: Dataset) -> Dataset:
    meta(ds)
    return ds


def _document(ds: Dataset, title: Items, content: Sequence[Dataset]) -> Dataset:
    ds.ValueType, ds.ConceptNameCodeSequence, ds.ContinuityOfContent = "CONTAINER", title, "SEPARATE"
    ds.ContentSequence = Items(content)
    ds.ReferencedPerformedProcedureStepSequence = Items([])
    return ds


def _text(value: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = _code("121071", "DCM", "Finding")
    item.TextValue = value
    return item


def _report(ds: Dataset, _images: Sequence[Dataset]) -> Dataset:
    ds.SOPClassUID, ds.Modality, ds.SeriesDescription = BasicTextSRStorage, "SR", "Exam protocol"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = Items([])
    return _finished(_document(ds, _code("18748-4", "LN", "Diagnostic Imaging Report"), [_text("Exam done.")]))


def _enhanced_report(ds: Dataset, images: Sequence[Dataset]) -> Dataset:
    report = _report(ds, images)
    report.SOPClassUID, report.SeriesDescription = EnhancedSRStorage, "PhoenixZIPReport"
    return _finished(report)


def _key_objects(ds: Dataset, images: Sequence[Dataset]) -> Dataset:
    image = images[len(images) // 2]
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
    item.ReferencedSOPSequence = Items([_reference(image)])
    ds.SOPClassUID, ds.Modality, ds.SeriesDescription = KeyObjectSelectionDocumentStorage, "KO", "Key images"
    _document(ds, _code("113000", "DCM", "Of Interest"), [item])
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    ds.ContentTemplateSequence = Items([template])
    series, study = Dataset(), Dataset()
    series.ReferencedSOPSequence, series.SeriesInstanceUID = Items([_reference(image)]), image.SeriesInstanceUID
    study.ReferencedSeriesSequence, study.StudyInstanceUID = Items([series]), image.StudyInstanceUID
    ds.CurrentRequestedProcedureEvidenceSequence = Items([study])
    return _finished(ds)


def _presentation(ds: Dataset, images: Sequence[Dataset]) -> Dataset:
    image = images[0]
    ds.SOPClassUID, ds.Modality = GrayscaleSoftcopyPresentationStateStorage, "PR"
    ds.SeriesDescription, ds.ContentLabel, ds.ContentDescription = "PS SERIES", "PHILIPS", ""
    ds.PresentationCreationDate, ds.PresentationCreationTime = ds.ContentDate, ds.ContentTime
    ds.ContentCreatorName, ds.BodyPartExamined = "", "LSPINE"
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedImageSequence = image.SeriesInstanceUID, Items([_reference(image)])
    ds.ReferencedSeriesSequence = Items([series])
    area, window = Dataset(), Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [int(image.Columns), int(image.Rows)]
    area.PresentationSizeMode, area.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    ds.DisplayedAreaSelectionSequence = Items([area])
    window.WindowCenter, window.WindowWidth = "500", "900"
    ds.SoftcopyVOILUTSequence = Items([window])
    ds.PresentationLUTShape = "IDENTITY"
    return _finished(ds)


def _capture(ds: Dataset, _images: Sequence[Dataset]) -> Dataset:
    """A screen of the console."""
    rows, columns = 256, 256
    ds.SOPClassUID, ds.Modality, ds.SeriesDescription = SecondaryCaptureImageStorage, "MR", "Screen Save"
    ds.ConversionType, ds.ImageType = "WSD", ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    ds.BodyPartExamined, ds.PatientOrientation, ds.BurnedInAnnotation = "LSPINE", "", "NO"
    ds.QualityControlImage = "YES"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = rows, columns, 8, 8, 7, 0
    ds.PixelData = np.tile(np.arange(columns, dtype=np.uint8), (rows, 1)).tobytes()
    return _finished(ds)


KINDS: dict[str, Callable[[Dataset, Sequence[Dataset]], Dataset]] = {
    "report": _report,
    "enhanced_report": _enhanced_report,
    "key_objects": _key_objects,
    "presentation": _presentation,
    "capture": _capture,
}
