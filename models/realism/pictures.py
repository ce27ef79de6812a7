"""SPIDER's sagittal pictures, and drawn ones that went the same way: pixel size, window, JPEG, square, resize.

Nothing but the picture itself may tell them apart, so every drawn picture is the twin of a real one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cauda.core.domain import F32
from cauda.models.phantom import planes
from cauda.models.phantom.imaging import Plane, Spoil, personal, picture, tissue_signal
from cauda.models.phantom.kinds import TRAITS, Kind
from cauda.models.phantom.looks import AS_USUAL, Look, looked
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.vendors import VENDORS

Grey = NDArray[np.uint8]

SIDE_MM = 160.0  # of the square that is compared
SIDE_PX = 224  # what ImageNet's networks are fed
QUALITY = 92  # of SPIDER's JPEG files
_DRAWN_MM = 200.0  # head to feet: the square, wherever it comes to lie
_PLACED_MM = 15.0  # how far from the middle a technologist centres
_THICK_MM = 4.0
_LARGEST_MM = 400.0  # larger lumbar fields are composed ones, or pixels not of the size that overview.csv tells
_PARTS = 2  # sheets in a slice's thickness


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """One sagittal picture (rows, columns), its pixels' width, whose it is, and on what it was made."""

    picture: Grey
    mm: float
    who: int  # patient or seed
    scanner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What of a picture depends on export and not on anatomy."""

    mm: float
    rows: int
    columns: int
    white: float  # share of pixels that the window cut off
    look: Look = AS_USUAL  # of the scanner


Drawing = Callable[[int, Window], F32]
"""A picture (rows, columns) of any brightness from a seed."""


def stills(folder: Path, contrast: str = "t2") -> list[Shot]:
    """SPIDER's single slices of one contrast, in the order of their names; ``folder`` holds overview.csv."""
    with (folder / "overview.csv").open(newline="") as file:
        tags = {row["new_file_name"]: row for row in csv.DictReader(file)}
    found = []
    for path in sorted((folder / "stills").glob(f"*_{contrast}.jpg")):
        row = tags[path.stem]
        mm = float(row["PixelSpacing"].strip("[] ").split(",")[0])
        scanner = f"{row['Manufacturer'].split()[0].title()} {row['ManufacturerModelName']}"
        scanner += f" {float(row['MagneticFieldStrength']):.1f} T"
        found.append(Shot(picture=_grey(path), mm=mm, who=int(path.stem.split("_")[0]), scanner=scanner))
    return found


def comparable(shot: Shot) -> bool:
    """Whether a picture is large enough for `square`, and not so large that its pixel size is in doubt."""
    rows, columns = shot.picture.shape
    return bool(min(rows, columns) >= round(SIDE_MM / shot.mm) and max(rows, columns) * shot.mm <= _LARGEST_MM)


def square(picture: Grey, mm: float) -> Grey:
    """The middle ``SIDE_MM`` of a picture, across where its brightness lies; ValueError where it is smaller."""
    side = round(SIDE_MM / mm)
    rows, columns = picture.shape
    if min(rows, columns) < side:
        raise ValueError(f"a picture of {rows} x {columns} pixels of {mm} mm does not hold {SIDE_MM} mm")
    top = (rows - side) // 2
    band = picture[top : top + side].astype(float).sum(axis=0)
    middle = float((band * np.arange(columns)).sum() / max(band.sum(), 1.0))
    left = int(np.clip(round(middle - side / 2), 0, columns - side))
    return picture[top : top + side, left : left + side]


def patch(shot: Shot) -> Grey:
    """The square as the network sees it, (SIDE_PX, SIDE_PX)."""
    cut = square(shot.picture, shot.mm)
    return np.asarray(Image.fromarray(cut).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def twins(real: Sequence[Shot], draw: Drawing, first_seed: int, threads: int = 2) -> list[Shot]:
    """One drawn picture for each real one, exported as that was; seeds count up from ``first_seed``."""
    with ThreadPoolExecutor(threads) as pool:
        return list(
            pool.map(lambda shot, seed: twin(shot, draw, seed), real, range(first_seed, first_seed + len(real)))
        )


def twin(shot: Shot, draw: Drawing, seed: int) -> Shot:
    """A drawn picture with the pixel size, width, share of white and JPEG of a real one."""
    rows, columns = shot.picture.shape
    window = Window(
        mm=shot.mm,
        rows=min(rows, round(_DRAWN_MM / shot.mm)),
        columns=columns,
        white=float((shot.picture == np.iinfo(np.uint8).max).mean()),
        look=VENDORS[shot.scanner.split()[0].lower()].look,
    )
    return replace(shot, picture=jpeg(windowed(draw(seed, window), window.white)), who=seed)


def exported(shot: Shot) -> Shot:
    """A real picture that went the way of a drawn one; if the probe tells the two apart, the way is unfair."""
    again = windowed(shot.picture.astype(np.float32), float((shot.picture == np.iinfo(np.uint8).max).mean()))
    return replace(shot, picture=jpeg(again))


def windowed(image: F32, white: float) -> Grey:
    """0..255 with the brightest ``white`` share of pixels cut off; nothing below zero."""
    top = max(float(np.quantile(image, 1 - max(white, 1e-4))), 1e-6)
    grey: Grey = np.round(np.clip(image / top, 0, 1) * 255).astype(np.uint8)
    return grey


def jpeg(image: Grey) -> Grey:
    """The picture after SPIDER's compression."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file))


def phantom(seed: int, window: Window) -> F32:
    """A T2 slice through the middle of a phantom, as `make_study` makes it."""
    spine, draw = sample_spine(seed), np.random.default_rng([seed, 1])
    return drawn(spine, Kind.SAGITTAL_T2, middle_plane(spine, window, draw), draw, look=window.look)


def middle_plane(spine: Spine, window: Window, draw: np.random.Generator) -> Plane:
    """The middle slice of a sagittal stack, its field of view placed more or less well."""
    matrix = (max(window.rows, window.columns), window.mm)
    plane = planes.sagittal(spine, 1, _THICK_MM, matrix)[0]
    moved = draw.normal(0, _PLACED_MM) / window.mm
    return planes.cropped(
        plane,
        first_row=(matrix[0] - window.rows) // 2 + round(moved),
        rows=window.rows,
        first_column=(matrix[0] - window.columns) // 2,
        columns=window.columns,
    )


def drawn(
    spine: Spine, kind: Kind, plane: Plane, draw: np.random.Generator, parts: int = _PARTS, look: Look = AS_USUAL
) -> F32:
    """One slice of a sagittal series, float32, about 0..1."""
    signal = tissue_signal(TRAITS[kind].contrast) * personal(spine)
    return picture(spine, plane, signal, draw, looked(Spoil(), kind, look), parts)


def _grey(path: Path) -> Grey:
    with Image.open(path) as file:
        return np.asarray(file.convert("L"))
