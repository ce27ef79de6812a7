"""What two versions of one SOP Instance UID show: the same, or something else, or one of them nothing (CLINICAL.md 4).

Nothing is decoded here: where the bytes do not decide, a process of its own does it under limits (`core/pixels`).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from cauda.core import pixels_child
from cauda.core.errors import Rejected
from cauda.core.pixels import Decoder, Picture
from cauda.listener import head, prefix

_FRONT_BYTES = 1 << 17
# What the bytes of Pixel Data mean (PS3.3 C.7.6.3): the same bytes under others are another picture, or none.
_MEANING = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PlanarConfiguration")
_READ = {tag_for_keyword(keyword) or 0: 4 << 20 for keyword in (*pixels_child.GEOMETRY, *_MEANING)}


class Comparison(StrEnum):
    """What a later version is beside the current one."""

    SAME = "same"
    OTHER = "other"  # also where it cannot be found out
    BROKEN = "broken"  # it shows nothing that can be decoded, or not all of it
    MENDS = "mends"  # the current one does, and this one is whole


def compare(current: Path, later: Path, decoder: Decoder | None) -> Comparison | None:
    """Compare two files; without a decoder None where the bytes alone do not decide, which takes no time.

    Raises OSError where one cannot be read, and nothing for what is in them.
    """
    if _same_bytes(current, later):
        return Comparison.SAME
    if decoder is None:
        return None
    return judge(decoder.picture(current), decoder.picture(later))


def judge(current: Picture | None, later: Picture | None) -> Comparison:
    """The comparison of what two files show; None is not known."""
    if current is None or later is None:
        return Comparison.OTHER
    reports = not current.image and not later.image
    if reports or (current.digest is not None and current[2:] == later[2:]):
        return Comparison.SAME
    if current.digest is None or later.digest is None:
        return Comparison.BROKEN if later.digest is None else Comparison.MENDS
    if current.whole == later.whole or current.geometry != later.geometry:
        return Comparison.OTHER
    return Comparison.MENDS if later.whole else Comparison.BROKEN


def _same_bytes(one: Path, other: Path) -> bool:
    """Whether pixels, their meaning and geometry are the same to the byte: a header was corrected."""
    try:
        with _mapped(one) as (first, syntax), _mapped(other) as (second, other_syntax):
            if syntax != other_syntax or syntax == head.DEFLATED:
                return False
            return head.same_elements(first, second, syntax, _READ)
    except Rejected:
        return False


@contextmanager
def _mapped(path: Path) -> Iterator[tuple[memoryview, str]]:
    """A file's data set and its transfer syntax. Raises Rejected where it says none."""
    with path.open("rb") as file:
        begin = prefix.read(file.read(_FRONT_BYTES))
        if begin is None:
            raise prefix.none()
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as whole,
            whole[begin.length :] as data,
        ):
            yield data, begin.transfer_syntax
