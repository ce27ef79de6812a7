"""A series that is too large to be held is refused by its headers, and nothing of it is decoded."""

from __future__ import annotations

import builders
import pytest
from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.pipeline import volume
from cauda.pipeline.frames import frames
from cauda.pipeline.source import SourceImage


def unread() -> Dataset:
    raise AssertionError("an image was read")


def test_a_series_too_large_to_be_held_is_refused_before_it_is_read() -> None:
    """60 slices of 4096 x 4096 compress to 95 KiB, and took 12.7 GB."""
    images = builders.mr_study("large", axial=60, sagittal=0)
    for image in images:
        image.Rows = image.Columns = 4096
    found = [frame for image in images for frame in frames(SourceImage(header=image, read=unread))]
    assert len(found) == 60
    with pytest.raises(Rejected) as caught:
        volume.read_volumes(found)
    assert caught.value.reason is Reason.UNDECODABLE
    assert "too large to decode" in caught.value.message


def test_a_series_as_large_as_scanners_make_it_is_read() -> None:
    images = builders.mr_study("usual", axial=40, sagittal=0)
    found = [frame for image in images for frame in frames(SourceImage(header=image, read=lambda image=image: image))]
    volume._check_size(found)
    for image in images:
        image.Rows = image.Columns = 1024
    volume._check_size([frame for image in images for frame in frames(SourceImage(header=image, read=unread))])
