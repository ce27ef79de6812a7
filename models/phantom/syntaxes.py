"""The same image in another transfer syntax, without loss."""

from __future__ import annotations

from collections.abc import Iterator

import gdcm
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

SYNTAXES: tuple[UID, ...] = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless,
    JPEG2000Lossless, RLELossless,
)  # fmt: skip


def encoded(image: Dataset, syntax: str) -> Dataset:
    """An uncompressed image turned into a transfer syntax, in place."""
    target = UID(syntax)
    if target == JPEGLosslessSV1:  # of which pydicom knows no encoder
        image.PixelData = encapsulate([_jpeg_lossless(image, frame) for frame in _frames(image)])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
    elif target.is_encapsulated:
        image.compress(target, generate_instance_uid=False)
    image.file_meta.TransferSyntaxUID = target
    return image


def plain(image: Dataset) -> Dataset:
    """An image with its pixels uncompressed, in place."""
    syntax = UID(image.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated:
        image.decompress(generate_instance_uid=False)
    return image


def _frames(image: Dataset) -> Iterator[bytes]:
    size = int(image.Rows) * int(image.Columns) * int(image.BitsAllocated) // 8
    pixels = bytes(image.PixelData)
    for start in range(0, size * int(image.get("NumberOfFrames") or 1), size):
        yield pixels[start : start + size]


def _jpeg_lossless(image: Dataset, frame: bytes) -> bytes:
    writer = gdcm.ImageWriter()  # owns the picture
    picture = writer.GetImage()
    picture.SetNumberOfDimensions(2)
    picture.SetDimensions((int(image.Columns), int(image.Rows), 1))
    grey = gdcm.PhotometricInterpretation.GetPIType(str(image.PhotometricInterpretation))
    picture.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    picture.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ImplicitVRLittleEndian))
    stored, signed = int(image.BitsStored), int(image.PixelRepresentation)
    picture.SetPixelFormat(gdcm.PixelFormat(1, int(image.BitsAllocated), stored, stored - 1, signed))
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(frame)
    picture.SetDataElement(element)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(picture)
    if not change.Change():
        raise ValueError("gdcm cannot compress this image")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    parts = (fragments.GetFragment(i).GetByteValue().GetBuffer() for i in range(fragments.GetNumberOfFragments()))
    return b"".join(part.encode("utf-8", "surrogateescape") for part in parts)
