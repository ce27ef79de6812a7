"""Bits beside the stored ones and padding play no part, whatever the transfer syntax, sign, rescale or VR."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import mr_image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cauda.core.domain import Reason, Volume
from cauda.core.errors import Rejected
from cauda.pipeline.axial import slices_at
from cauda.pipeline.source import SourceImage
from cauda.pipeline.volume import volumes

SIZE = 48
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
PACKED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


def picture(bits: int = 12, *, signed: bool = False) -> np.ndarray:
    """A texture of smooth waves over the whole range of the stored bits, so that a codec has no reason to change it."""
    y, x = np.mgrid[:SIZE, :SIZE]
    top = (1 << bits) - 1
    values = np.round((np.sin(x / 5) * np.cos(y / 7) + 1) / 2 * top).astype(np.int64)
    return values - (1 << (bits - 1)) if signed else values


def written(raw: np.ndarray, syntax: UID, tmp_path: Path, **attributes: Any) -> Dataset:
    """An image whose samples are these 16 bits, compressed as such; then its header says what of them is stored."""
    dataset = mr_image("1.2", "1.2.3", "1.2.3.4", Rows=SIZE, Columns=SIZE, BitsStored=16, HighBit=15)
    dataset.PixelRepresentation = int(raw.min() < 0)
    native = syntax if syntax in NATIVE else ExplicitVRLittleEndian
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = raw.astype(f"{order}{'i2' if raw.min() < 0 else 'u2'}").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = (
        dataset.SOPClassUID,
        UID("1.2.3.4"),
    )
    dataset.file_meta.TransferSyntaxUID = native
    if syntax in PACKED:
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax == JPEGLosslessSV1:
        dcmwrite(tmp_path / "plain.dcm", dataset, enforce_file_format=True)
        subprocess.run(["dcmcjpeg", "+e1", tmp_path / "plain.dcm", tmp_path / "packed.dcm"], check=True)
        dataset = dcmread(tmp_path / "packed.dcm")
    for keyword, value in attributes.items():
        if isinstance(value, tuple):
            dataset.add_new(keyword, *value)
        else:
            setattr(dataset, keyword, value)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True, little_endian=syntax != ExplicitVRBigEndian,
             implicit_vr=syntax == ImplicitVRLittleEndian)  # fmt: skip
    return dcmread(BytesIO(buffer.getvalue()))


def volume(dataset: Dataset) -> Volume:
    (found,) = volumes([SourceImage(header=dataset, read=lambda: dataset)])
    return found


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 10, 12, 15])
@pytest.mark.parametrize("syntax", [*NATIVE, *PACKED, JPEGLosslessSV1], ids=lambda uid: uid.name.split(" ")[0])
def test_overlay_bits_above_the_stored_ones_are_not_seen(syntax: UID, bits: int, signed: bool, tmp_path: Path) -> None:
    """Old images keep an overlay there; some codecs drop those bits, some hand them on."""
    values = picture(bits, signed=signed)
    raw = values & ((1 << bits) - 1)
    raw[SIZE // 2 - 2 : SIZE // 2 + 2] |= 1 << bits
    raw[:, SIZE // 2 - 2 : SIZE // 2 + 2] |= 1 << 15
    dataset = written(raw, syntax, tmp_path, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(signed))
    assert np.array_equal(volume(dataset).pixels[0], values)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_a_high_bit_above_the_usual_place_is_followed(syntax: UID, tmp_path: Path) -> None:
    """Twelve bits in the upper part of sixteen, an overlay below them."""
    raw = (picture(12) << 4) | 5
    dataset = written(raw, syntax, tmp_path, BitsStored=12, HighBit=15)
    assert np.array_equal(volume(dataset).pixels[0], picture(12))


def test_a_high_bit_that_no_sample_reaches_is_not_believed(tmp_path: Path) -> None:
    dataset = written(picture(12), ExplicitVRLittleEndian, tmp_path, BitsStored=12, HighBit=15)
    assert np.array_equal(volume(dataset).pixels[0], picture(12))


def test_a_lossy_image_keeps_its_picture(tmp_path: Path) -> None:
    dataset = written(picture(12), ExplicitVRLittleEndian, tmp_path, BitsStored=12, HighBit=11)
    dataset.compress(JPEG2000, j2k_cr=[4], generate_instance_uid=False)
    assert np.abs(volume(dataset).pixels[0] - picture(12)).max() < 40


PADDINGS = [  # signed, bits stored, in the samples, Pixel Padding Value and Range Limit with their VRs
    (True, 16, -32768, ("SS", -32768), None),
    (True, 16, 32767, ("SS", 32767), None),
    (True, 16, -2000, ("US", 63536), None),
    (True, 16, -2000, ("SS", -2048), ("SS", -1990)),
    (True, 16, -2000, ("US", 63546), ("US", 63488)),  # the limit below the value
    (False, 16, 65535, ("US", 65535), None),
    (False, 16, 65535, ("SS", -1), None),
    (False, 12, 4095, ("US", 4095), None),
    (False, 12, 63536, ("US", 63536), None),  # bits above the stored ones count as part of it
    (False, 12, 63536, ("US", 63540), ("US", 63530)),
    (True, 12, -2048, ("SS", -2048), None),
    (True, 12, -2000, ("US", 2096), None),
    (False, 16, 60000, ("SL", 60000), None),
    (False, 16, 60000, ("DS", "60000"), None),
    (False, 16, 60000, ("OB", b"\x60\xea"), None),
    (False, 16, 60000, ("US", [60000, 60000]), None),
]  # fmt: skip


@pytest.mark.parametrize("inverted", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(("signed", "bits", "inside", "value", "limit"), PADDINGS)
def test_padding_is_dark_and_nothing_else_changes(
    signed: bool, bits: int, inside: int, value: tuple[str, Any], limit: tuple[str, Any] | None, inverted: bool,
    tmp_path: Path,
) -> None:  # fmt: skip
    values = picture(11, signed=signed)
    where = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE / 2)) > 0.47 * SIZE
    more = {"PixelPaddingRangeLimit": limit} if limit else {}
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset = written(
        np.where(where, inside, values), ExplicitVRLittleEndian, tmp_path, BitsStored=bits, HighBit=bits - 1,
        RescaleSlope="2", RescaleIntercept="-100", PhotometricInterpretation=photometric,
        PixelPaddingValue=value, **more,
    )  # fmt: skip
    found = volume(dataset)
    turned = (-1 if signed else (1 << bits) - 1) - values if inverted else values
    expected = 2 * turned - 100.0
    assert found.padding is not None
    assert np.array_equal(found.padding[0], where)
    assert np.array_equal(found.pixels[0][~where], expected[~where])
    assert np.allclose(found.pixels[0][where], np.percentile(expected[~where], 1))
    assert np.allclose(np.percentile(found.pixels[0], 1), np.percentile(expected[~where], 1))


@pytest.mark.parametrize(
    "value", [("US", 5000), ("SS", -1), ("LO", "none"), ("US", None), ("OB", b"\x01\x02\x03\x04\x05")]
)
def test_a_padding_value_that_no_pixel_has_pads_nothing(value: tuple[str, Any], tmp_path: Path) -> None:
    dataset = written(picture(12), ExplicitVRLittleEndian, tmp_path, BitsStored=12, HighBit=11, PixelPaddingValue=value)
    assert volume(dataset).padding is None
    assert np.array_equal(volume(dataset).pixels[0], picture(12))


def test_frames_are_padded_each_by_its_own_pixels(tmp_path: Path) -> None:
    """One picture with padding beside one without, in one stack."""
    plain, cut = picture(12), picture(12)
    cut[:10] = 4000
    images = []
    for number, raw in enumerate((plain, cut)):
        dataset = written(raw, ExplicitVRLittleEndian, tmp_path, PixelPaddingValue=("US", 4000))
        dataset.PixelPaddingValue = 4000 if number else 4001
        dataset.SOPInstanceUID, dataset.ImagePositionPatient = f"1.2.3.4.{number}", [0, 0, 4 * number]
        images.append(SourceImage(header=dataset, read=lambda dataset=dataset: dataset))
    (found,) = volumes(images)
    assert found.padding is not None
    assert [int(mask.sum()) for mask in found.padding] == [0, int((cut == 4000).sum())]


def test_a_picture_of_padding_alone_is_no_picture(tmp_path: Path) -> None:
    dataset = written(np.full((SIZE, SIZE), 7), ExplicitVRLittleEndian, tmp_path, PixelPaddingValue=("US", 7))
    with pytest.raises(Rejected) as caught:
        volume(dataset)
    assert caught.value.reason is Reason.UNDECODABLE


def test_a_canal_that_lies_in_padding_is_not_on_the_slice(tmp_path: Path) -> None:
    canal = np.array([[24.0, 24.0, z] for z in (20.0, 10.0, 0.0, -10.0, -20.0)])
    raw = picture(12)
    dataset = written(raw, ExplicitVRLittleEndian, tmp_path)
    assert slices_at([volume(dataset)], (24.0, 24.0, 0.0), canal)
    raw[18:30, 18:30] = 4095
    dataset = written(raw, ExplicitVRLittleEndian, tmp_path, PixelPaddingValue=("US", 4095))
    assert not slices_at([volume(dataset)], (24.0, 24.0, 0.0), canal)
