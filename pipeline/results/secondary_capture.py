"""The Secondary Capture: a page as a single RGB frame, which every viewer shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from cauda.core.domain import Level, Report
from cauda.core.headers import MANUFACTURER
from cauda.pipeline.frames import text
from cauda.pipeline.occlusion import HeatMap
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results import words
from cauda.pipeline.results.codes import SOURCE_IMAGE, coded
from cauda.pipeline.results.context import ResultContext
from cauda.pipeline.results.heat_page import render_heat_page
from cauda.pipeline.results.instance import MODEL_NAME, copy_element, new_instance, referenced
from cauda.pipeline.results.notices import render_not_analysed, render_retracted
from cauda.pipeline.results.page import render_page


def secondary_capture(
    report: Report, pictures: Pictures, sources: Sequence[Dataset], context: ResultContext
) -> Dataset:
    """The result page. ``sources`` are the headers of the study's MR images, as for the structured report."""
    made = _capture(render_page(report, pictures, context), report, sources, context)
    made.DerivationDescription = "Page of machine grades with the images they were read from; unverified"
    shown = [(finding.axial.sop_instance_uid, finding.axial.frame) for finding in report.findings if finding.axial]
    shown += [(one.sagittal.sop_instance_uid, one.sagittal.frame) for one in report.findings if one.sagittal]
    _name_sources(made, shown, sources)
    return made


def heat_map(
    report: Report,
    pictures: Pictures,
    maps: Mapping[Level, HeatMap],
    sources: Sequence[Dataset],
    context: ResultContext,
) -> Dataset:
    """The heat map page, in a series of its own: nobody scrolls from the grades into it."""
    if context.heat_map is None:
        raise ValueError("ResultContext.heat_map says where the heat map goes")
    pixels = render_heat_page(report, pictures, maps, context)
    made = _capture(pixels, report, sources, replace(context, sc=context.heat_map))
    made.SeriesDescription += " heat map"
    made.DerivationDescription = "Where covering the picture changes the machine's grades; explains the model only"
    named = [one.axial for one in report.findings if one.axial and one.level in maps]
    _name_sources(made, [(one.sop_instance_uid, one.frame) for one in named], sources)
    return made


def _name_sources(made: Dataset, shown: Sequence[tuple[str, int]], sources: Sequence[Dataset]) -> None:
    by_uid = {str(source.SOPInstanceUID): source for source in sources}
    images = []
    for uid, frame in dict.fromkeys(shown):
        item = referenced(by_uid[uid], frame)
        item.PurposeOfReferenceCodeSequence = [coded(SOURCE_IMAGE)]
        images.append(item)
    if images:
        made.SourceImageSequence = images


def not_analysed(report: Report, sources: Sequence[Dataset], context: ResultContext) -> Dataset:
    """The page of a study that was ordered as lumbar and rejected; its reason is the report's."""
    made = _capture(render_not_analysed(report, context), report, sources, context)
    made.DerivationDescription = "Notice that the study was not analysed"
    return made


def retracted(report: Report, sources: Sequence[Dataset], context: ResultContext, why: str) -> Dataset:
    """The page that warns of results which the archive still shows after their rejection."""
    made = _capture(render_retracted(report, context, why), report, sources, context)
    made.DerivationDescription = "Notice that earlier results are withdrawn"
    return made


def _capture(pixels: NDArray[np.uint8], report: Report, sources: Sequence[Dataset], context: ResultContext) -> Dataset:
    """No Pixel Spacing, plane or Frame of Reference: a ruler on a montage would lie."""
    made = new_instance(
        SecondaryCaptureImageStorage, context.sc_modality, context.sc, report.study_instance_uid, sources, context
    )
    made.SeriesDescription = words.series_description(context)
    made.BodyPartExamined = "LSPINE"
    made.PatientOrientation = ""
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.ConversionType = "WSD"
    made.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    made.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
    made.SecondaryCaptureDeviceSoftwareVersions = context.code_version
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    made.BurnedInAnnotation = "NO"  # it asks for identity in the pixels, and there is none
    if sources:
        copy_element(made, sources[0], "QualityControlImage")
    _lossy(made, sources)
    made.Rows, made.Columns, made.SamplesPerPixel = pixels.shape
    made.PhotometricInterpretation = "RGB"
    made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    made.PixelRepresentation = 0
    made.add_new("PixelData", "OB", pixels.tobytes())
    return made


def _lossy(made: Dataset, sources: Sequence[Dataset]) -> None:
    """What was once compressed with loss stays so (PS3.3 C.7.6.1.1.5)."""
    lossy = next((source for source in sources if text(source, "LossyImageCompression") == "01"), None)
    made.LossyImageCompression = "01" if lossy is not None else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy is not None:
            copy_element(made, lossy, keyword)
