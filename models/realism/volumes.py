"""SPIDER's masked T2 SPACE slices, and phantom slices of the same kind with masks from the label map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cauda.models.phantom.imaging import section
from cauda.models.phantom.kinds import Kind
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.tissue import Tissue
from cauda.models.realism.measures import CANAL, DISC, VERTEBRA, Mask
from cauda.models.realism.pictures import Grey, Window, drawn, jpeg, middle_plane, windowed

MM, ROWS, COLUMNS, THICK_MM = 0.469, 640, 512, 0.9  # of SPIDER's T2 SPACE
GAP_MM = 2  # between neighbours that are compared; slices are 1 mm apart
_MASK = np.zeros(len(Tissue), np.uint8)
_MASK[[Tissue.MARROW, Tissue.FATTY_MARROW, Tissue.CORTEX, Tissue.ARCH]] = VERTEBRA
_MASK[[Tissue.NUCLEUS, Tissue.DRY_NUCLEUS, Tissue.ANNULUS]] = DISC
_MASK[[Tissue.CSF, Tissue.ROOT, Tissue.CORD, Tissue.EPIDURAL_FAT]] = CANAL


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """A middle slice, its mask, and the slice ``GAP_MM`` beside it."""

    picture: Grey
    mask: Mask
    beside: Grey
    who: int


def real(folder: Path) -> list[Pair]:
    """One of each patient of SPIDER: the slice with most canal that has a neighbour."""
    masks: dict[int, dict[int, Path]] = {}
    for path in sorted((folder / "t2_space" / "masks").glob("*.png")):
        patient, _, slice_name = path.stem.partition("_t2_SPACE_slice")
        masks.setdefault(int(patient), {})[int(slice_name)] = path
    found = []
    for who, slices in sorted(masks.items()):
        read = {number: _read(path) for number, path in slices.items() if number + GAP_MM in slices}
        if read:
            canal = {number: int((mask == CANAL).sum()) for number, mask in read.items()}
            best = max(canal, key=canal.__getitem__)
            picture, beside = (_read(_image(slices[number])) for number in (best, best + GAP_MM))
            found.append(Pair(picture=picture, mask=read[best], beside=beside, who=who))
    return found


def twin(pair: Pair, seed: int) -> Pair:
    """A phantom's pair of slices with the same pixels, gap, share of white and JPEG."""
    spine, draw = sample_spine(seed), np.random.default_rng([seed, 3])
    window = Window(mm=MM, rows=ROWS, columns=COLUMNS, white=float((pair.picture == 255).mean()))
    plane = replace(middle_plane(spine, window, draw), thickness_mm=THICK_MM)
    next_plane = replace(plane, corner=plane.corner + GAP_MM * plane.normal)
    picture, beside = (
        jpeg(windowed(drawn(spine, Kind.SPACE, one, draw, parts=1), window.white)) for one in (plane, next_plane)
    )
    return Pair(picture=picture, mask=_MASK[section(spine, plane, parts=1)[0]], beside=beside, who=seed)


def _image(mask: Path) -> Path:
    return mask.parent.parent / "images" / f"{mask.stem}.jpg"


def _read(path: Path) -> Grey:
    with Image.open(path) as file:
        return np.asarray(file.convert("L"))
