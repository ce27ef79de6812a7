"""A revision's frozen images: read only when they are the bytes that were filed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pydicom import Dataset, dcmread

from cauda.core import spool as files
from cauda.core import stored
from cauda.core.decoding import StudyDecoder
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.part import disk_error
from cauda.core.revisions import Input
from cauda.core.spool import Spool
from cauda.pipeline.source import SourceImage


def source_images(
    spool: Spool, inputs: Sequence[Input], going_on: Callable[[], None], decoder: StudyDecoder
) -> list[SourceImage]:
    """The images with their headers; ``going_on`` is called before each read and may raise to stop.

    Raises Unavailable when a file is not there or is not what was filed.
    """

    def read(one: Input, *, pixels: bool) -> Dataset:
        going_on()
        return _read(spool, one, pixels=pixels)

    return [
        SourceImage(
            header=read(one, pixels=False),
            read=partial(read, one, pixels=True),
            decode=partial(decoder.decode, spool.absolute(one.path)),
        )
        for one in inputs
    ]


def headers(spool: Spool, inputs: Sequence[Input]) -> list[Dataset]:
    """The headers alone, values not yet decoded, so that text can be copied byte for byte."""
    return [_read(spool, one, pixels=False) for one in inputs]


def _read(spool: Spool, one: Input, *, pixels: bool) -> Dataset:
    path = spool.absolute(one.path)
    try:
        if files.sha256(path) != one.sha256:
            raise Unavailable(Reason.DISK_FAILED, f"file is not what was filed: {one.path}; check the disk")
        return dcmread(path) if pixels else stored.header(path)
    except FileNotFoundError as error:
        text = f"file not there: {one.path}; is the data folder mounted?"
        raise Unavailable(Reason.FILE_MISSING, text) from error
    except OSError as error:
        raise disk_error(error) from error
