"""What a study is made of: headers now, pixels when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceImage:
    """One instance of the study.

    ``read`` returns the whole data set with pixels; it may raise ``Unavailable`` when the file is not there.
    """

    header: Dataset  # pixel data not needed
    read: Callable[[], Dataset]
    decode: Callable[..., NDArray[Any]] = pixel_array  # of what was read, with pydicom's options; may raise Rejected
