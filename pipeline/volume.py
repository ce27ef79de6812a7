"""Stacks decoded into volumes: stored bits alone, padding made dark, rescaled, MONOCHROME1 turned round; float32."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from cauda.core.domain import F32, Reason, Volume
from cauda.core.errors import Rejected
from cauda.pipeline.acquisitions import split
from cauda.pipeline.frames import Frame, frames, number, text
from cauda.pipeline.source import SourceImage
from cauda.pipeline.stacks import Stack, crowded, geometric_groups, stacks
from cauda.pipeline.stored_values import monochrome2, padded, stored_values

MAX_SERIES_BYTES = 1 << 30  # as float32: 1,024 slices of 512 x 512, four times what a scanner makes of a spine
MIXED_SHARE = 0.2  # of all frames of one contrast; a slice or two sent twice, with other pixels, leave the rest

# What pydicom and its decoders raise on pixel data they cannot make sense of.
_BROKEN = (
    ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError, NotImplementedError,
    EOFError, OSError, MemoryError, OverflowError, struct.error, InvalidDicomError,
)  # fmt: skip

Mask = NDArray[np.bool_]
Picture = tuple[NDArray[Any], Mask | None]  # the values, and which of them are padding; None: none is
Decoded = MutableMapping[int, Picture]  # of multi-frame sources by their id, while a series is read
DARK_PERCENTILE = 1.0  # of a frame's true pixels; padding is shown as dark as this, so that no window changes


def volumes(images: Sequence[SourceImage]) -> list[Volume]:
    """All volumes of one series' images, contrast by contrast; see ``series_volumes``."""
    found = split([frame for image in images for frame in frames(image)])
    return [volume for part in found for volume in series_volumes(part)[0]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadVolumes:
    """Decoded frames as volumes, and how many frames were left out."""

    volumes: tuple[Volume, ...]
    left_out: Mapping[Frame, Reason] = field(default_factory=dict)  # undecodable, or not told apart
    problem: Rejected | None = None  # less than half can be decoded: there are no volumes

    @property
    def counts(self) -> dict[Reason, int]:
        """How many frames were left out, by reason."""
        return dict(Counter(self.left_out.values()))

    @property
    def mixed(self) -> bool:
        """Whether so many frames are ambiguous that the others may be of either contrast, too."""
        used = sum(len(volume.slices) for volume in self.volumes)
        ambiguous = self.counts.get(Reason.PLACE_TAKEN, 0)
        return ambiguous > MIXED_SHARE * (used + ambiguous)


def series_volumes(found: Sequence[Frame]) -> tuple[list[Volume], int]:
    """All volumes of frames of one contrast, and how many could not be decoded.

    Rejected (undecodable) when less than half of the frames can be decoded.
    """
    read = read_volumes(found)
    if read.problem is not None:
        raise read.problem
    return list(read.volumes), read.counts.get(Reason.UNDECODABLE, 0)


def read_volumes(found: Sequence[Frame]) -> ReadVolumes:
    """All volumes of frames of one contrast; Rejected (undecodable) where they are too large to be decoded."""
    _check_size(found)
    memo: Decoded = {}
    pixels: dict[int, tuple[F32, Mask | None]] = {}
    error = Rejected(Reason.UNDECODABLE)
    left_out: dict[Frame, Reason] = {}
    for frame in found:
        try:
            pixels[id(frame)] = frame_pixels(frame, memo)
        except Rejected as problem:
            error = problem
            left_out[frame] = Reason.UNDECODABLE
    if 2 * len(pixels) < len(found) or not pixels:
        return ReadVolumes(volumes=(), left_out=left_out, problem=error)
    kept = [frame for frame in found if id(frame) in pixels]

    def same_picture(one: Frame, other: Frame) -> bool:
        return np.array_equal(pixels[id(one)][0], pixels[id(other)][0])

    made = stacks(kept, same_picture)
    return ReadVolumes(
        volumes=tuple(_volume(stack, pixels) for stack in made),
        left_out=left_out | dict.fromkeys(_differing(kept, same_picture), Reason.PLACE_TAKEN),
    )


def _check_size(found: Sequence[Frame]) -> None:
    """Raise Rejected where the frames together are too large to be held, before any of them is decoded."""
    held = sum(4 * rows * columns for rows, columns in (frame.shape for frame in found))
    if held > MAX_SERIES_BYTES:
        text = (
            f"{len(found)} slices, {held >> 20} MiB, are too large to decode; allowed are {MAX_SERIES_BYTES >> 20} MiB"
        )
        raise Rejected(Reason.UNDECODABLE, text)


def _differing(found: Sequence[Frame], same_picture: Callable[[Frame, Frame], bool]) -> list[Frame]:
    places = [place for group in geometric_groups(found) for place in crowded(group)]
    return [frame for place in places if not all(same_picture(place[0], one) for one in place) for frame in place]


def _volume(stack: Stack, pixels: Mapping[int, tuple[F32, Mask | None]]) -> Volume:
    header = stack.frames[0].source.header
    read = [pixels[id(frame)] for frame in stack.frames]
    masks = [np.zeros(values.shape, dtype=bool) if mask is None else mask for values, mask in read]
    series_number = number(header, "SeriesNumber")
    return Volume(
        series_instance_uid=text(header, "SeriesInstanceUID"),
        series_number=None if series_number is None else int(series_number),
        description=text(header, "SeriesDescription"),
        pixels=np.stack([values for values, _ in read]),
        padding=np.stack(masks) if any(mask is not None for _, mask in read) else None,
        affine=stack.affine,
        slices=tuple(frame.ref for frame in stack.frames),
        origins_mm=stack.origins_mm,
    )


def frame_pixels(frame: Frame, memo: Decoded) -> tuple[F32, Mask | None]:
    """The pixels (H, W) of a frame after rescale, and which are padding: those are as dark as the darkest others."""
    read = memo.get(id(frame.source))
    if read is None:
        read = _pixels(frame.source)
        if read[0].ndim == 3:
            memo[id(frame.source)] = read
    array, mask = read
    if array.ndim == 3 and frame.ref.frame <= len(array):
        array = array[frame.ref.frame - 1]
        mask = None if mask is None else mask[frame.ref.frame - 1]
    if array.shape != frame.shape:
        raise Rejected(Reason.UNDECODABLE, "pixel data do not have the size the header says")
    pixels = array.astype(np.float32) * np.float32(frame.slope) + np.float32(frame.intercept)
    if not np.isfinite(pixels).all():
        raise Rejected(Reason.UNDECODABLE, "pixel values are not finite")
    if mask is None or not mask.any():
        return pixels, None
    if mask.all():
        raise Rejected(Reason.UNDECODABLE, "pixel data are padding only")
    pixels[mask] = np.percentile(pixels[~mask], DARK_PERCENTILE)
    return pixels, mask


def _pixels(source: SourceImage) -> Picture:
    try:
        dataset = source.read()
        if len(dataset) == 0:
            raise Rejected(Reason.UNDECODABLE, "data set is empty")  # truncated files read so, without an error
        # pydicom clears unused bits after some codecs only, and does not look at High Bit
        array = source.decode(dataset, correct_unused_bits=False)
        values = stored_values(array, dataset)
        return monochrome2(values, dataset), padded(array, values, dataset)
    except FileNotFoundError:
        raise  # not the image's fault; the caller says what a missing file means
    except _BROKEN as error:
        raise Rejected(Reason.UNDECODABLE, f"pixel data cannot be decoded ({type(error).__name__})") from None
