"""A stored image without its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_deferred_data_element
from pydicom.uid import DeflatedExplicitVRLittleEndian

_PICTURE_GROUP = 0x7FE0
_LARGE_BYTES = 1 << 16  # a longer value is passed over, and read only where it is no picture


def header(path: Path, *, only: Sequence[str] | None = None, force: bool = False) -> Dataset:
    """All elements of a Part 10 file but its picture, values not yet decoded; ``only``: those of these keywords.

    Reading to the picture is not enough: elements may stand out of order behind it, and the door stores such objects.
    Raises what dcmread does.
    """
    keywords = None if only is None else list(only)
    dataset = dcmread(path, specific_tags=keywords, force=force, defer_size=_LARGE_BYTES)
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        dataset = dcmread(path, specific_tags=keywords, force=force)  # no value can be read later out of such a file
    for tag in list(dataset.keys()):
        element: object = dataset.get_item(tag, keep_deferred=True)
        if tag.group in {0, _PICTURE_GROUP}:  # 0: zeros behind the last element
            del dataset[tag]
        elif isinstance(element, RawDataElement) and element.value is None and element.length != 0:
            dataset[tag] = read_deferred_data_element(open, str(path), None, element)
    return dataset
