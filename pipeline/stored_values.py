"""Stored values (PS3.5 8.1.1): which bits of a decoded sample are the picture, and which values are padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cauda.pipeline.frames import number, text

Values = NDArray[Any]


def stored_values(array: Values, dataset: Dataset) -> Values:
    """The Bits Stored bits up to High Bit, with sign where Pixel Representation says so; all others are cleared.

    Old images keep overlays above Bits Stored. Codecs hand these bits on, or fill them as they like.
    """
    if array.dtype.kind not in "iu":
        return array
    _, bits, low = _layout(array, dataset)
    values = (array.astype(np.int64) >> low) & ((1 << bits) - 1)
    return _signed(values, bits) if _is_signed(dataset) else values


def monochrome2(values: Values, dataset: Dataset) -> Values:
    """Stored values in which more is brighter."""
    if text(dataset, "PhotometricInterpretation") != "MONOCHROME1":
        return values
    if values.dtype.kind not in "iu":
        return -values
    _, bits, _ = _layout(values, dataset)
    return (-1 if _is_signed(dataset) else (1 << bits) - 1) - values


def padded(array: Values, values: Values, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where a picture has Pixel Padding Value, up to Pixel Padding Range Limit (PS3.3 C.7.5.1.1.2); None: nowhere.

    ``array`` is as decoded, ``values`` are its stored values. Both are compared: some devices count the bits above
    Bits Stored as part of the padding value, some do not; and many write it as unsigned where pixels are signed.
    """
    if array.dtype.kind not in "iu":
        return None
    first = _whole_number(dataset, "PixelPaddingValue")
    if first is None:
        return None
    last = _whole_number(dataset, "PixelPaddingRangeLimit")
    allocated, bits, _ = _layout(array, dataset)
    signed = _is_signed(dataset)

    def read(value: int | Values, width: int) -> Any:
        cut = value & ((1 << width) - 1)
        return _signed(cut, width) if signed else cut

    ends = (first, first if last is None else last)
    low, high = sorted(read(end, allocated) for end in ends)
    decoded = read(array.astype(np.int64), allocated)
    mask = (decoded >= low) & (decoded <= high)
    if all(-(1 << (bits - 1)) <= end < 1 << bits for end in ends):  # the stored bits can hold it
        low, high = sorted(read(end, bits) for end in ends)
        mask |= (values >= low) & (values <= high)
    return mask if mask.any() else None


def _layout(array: Values, dataset: Dataset) -> tuple[int, int, int]:
    """Bits allocated, bits stored, and the position of the lowest stored one; what is not plausible is not believed."""
    widest = 8 * array.dtype.itemsize
    allocated = int(number(dataset, "BitsAllocated") or widest)
    allocated = allocated if 1 <= allocated <= 32 else min(widest, 32)
    bits = int(number(dataset, "BitsStored") or allocated)
    bits = bits if 1 <= bits <= allocated else allocated
    high = number(dataset, "HighBit")
    low = 0 if high is None else int(high) - bits + 1
    above = bool(((array.astype(np.int64) >> bits) & ((1 << max(allocated - bits, 0)) - 1)).any())
    return allocated, bits, low if 0 < low <= allocated - bits and above else 0


def _signed(values: Any, bits: int) -> Any:
    return values - ((values >> (bits - 1)) << bits)


def _is_signed(dataset: Dataset) -> bool:
    return number(dataset, "PixelRepresentation") == 1


def _whole_number(dataset: Dataset, keyword: str) -> int | None:
    """A value that may be US or SS, whatever VR it came with; bytes where nobody knew which."""
    try:
        value = dataset.get(keyword)
    except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError):
        return None
    if isinstance(value, bytes) and len(value) in {2, 4}:
        return int.from_bytes(value, "little", signed=True)
    found = number(dataset, keyword)
    return None if found is None else int(found)
