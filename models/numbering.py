"""How often the count of levels is doubted, and how often it is wrong in silence: `python -m cauda.models.numbering`.

A flag on every study is no flag (CLINICAL.md 9), and a wrong level is a wrong operation. Ordinary spines and spines
whose sacrum is cut off come from SPIDER (real; patients held out of training said apart), remnants of an S1/S2 disc
from the phantom.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from cauda.core.domain import F32, F64, Level, SliceRef, Volume
from cauda.models.bundle import load_bundle
from cauda.models.phantom.imaging import T2, Plane, Spoil, picture, tissue_signal
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.spine import Spine
from cauda.models.train_localiser import SPIDER_MM, Masked, held_out, spider
from cauda.pipeline.levels import locate
from cauda.pipeline.parts import Localiser

_NEAR_MM = 12.0  # neighbouring discs are 25 mm away
_DISC = 2  # in SPIDER's masks
_SLICES, _GAP_MM = 7, 4.4


def main() -> None:
    """Measure the starter bundle and print a line a group."""
    here = Path(__file__).resolve().parent
    data = Path(os.environ.get("CAUDA_REALDATA") or here.parents[1] / "shared" / "data") / "spider"
    if not (data / "t2_space").is_dir():
        sys.exit(f"SPIDER is not at {data}: set CAUDA_REALDATA")
    localiser = load_bundle(here / "starter").localiser
    slices = spider(data)
    held = held_out(slices)
    patients = sorted({one.patient for one in slices})
    for name, chosen in (("held out", held), ("trained on", set(patients) - held)):
        of = [[one for one in slices if one.patient == p] for p in sorted(chosen)]
        _say(f"SPIDER, {name}", (_spider(one, localiser, cut=False) for one in of))
        _say(f"SPIDER, {name}, sacrum cut off", (_spider(one, localiser, cut=True) for one in of))
    for name, share in (("no S1/S2 disc", 0.0), ("a small one", 0.4), ("a large one", 0.75), ("a full one", 1.0)):
        _say(f"phantom, {name}", (_phantom(seed, share, localiser) for seed in range(700, 720)))


def _say(group: str, results: Iterable[str]) -> None:
    counts = Counter(results)
    total = sum(counts.values())
    print(f"{group}: n {total}; " + ", ".join(f"{k} {v}" for k, v in counts.most_common()), flush=True)  # noqa: T201  the command's output


def _spider(found: list[Masked], localiser: Localiser, *, cut: bool) -> str:
    """What became of one patient; truth is the lowest disc of the mask, found by plain labelling."""
    lowest = _lowest_disc(found)
    if lowest is None:
        return "no disc in the mask"
    row, col, above = lowest
    rows = int((row + above) / 2) if cut else found[0].picture.shape[0]
    pixels = np.stack([one.picture[:rows] for one in found])
    affine = np.array([[0, 0, 2.0, 0], [SPIDER_MM, 0, 0, 0], [0, -SPIDER_MM, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    return _outcome(_volume(pixels, affine), localiser, lambda v: v.point_mm(col, row, (len(pixels) - 1) / 2))


def _lowest_disc(found: list[Masked]) -> tuple[float, float, float] | None:
    """Row and column of the lowest disc's centre, and the row of the one above, in the middle slices."""
    half = len(found) // 2
    discs = np.any([one.classes == _DISC for one in found[max(0, half - 2) : half + 3]], axis=0)
    labels, count = ndimage.label(ndimage.binary_closing(discs, iterations=4))
    centres = [
        c
        for i, c in enumerate(ndimage.center_of_mass(discs, labels, range(1, count + 1)), 1)
        if (labels == i).sum() > 250  # pixels: 55 mm2
    ]
    centres.sort(key=lambda one: -one[0])
    return (centres[0][0], centres[0][1], centres[1][0]) if len(centres) > 1 else None


def _phantom(seed: int, share: float, localiser: Localiser) -> str:
    """What became of a phantom with an S1/S2 disc of this depth."""
    spine = replace(sample_spine(seed), remnant=(share, 31.0))
    return _outcome(sagittal(spine), localiser, lambda _: spine.canal_centre(Level.L5_S1))


def _outcome(
    volume: Volume, localiser: Localiser, truth: Callable[[Volume], tuple[float, float, float]]
) -> str:  # fmt: skip
    """Doubt by its code, or whether L5/S1 is where it truly is."""
    levels = locate(volume, localiser)
    if levels is None:
        return "no spine seen"
    if levels.doubt is not None:
        return f"doubt {levels.doubt.value}"
    lowest, there = levels.discs[Level.L5_S1], truth(volume)
    apart = min(float(np.linalg.norm(np.subtract(at, there)[1:])) for at in (lowest.centre_mm, lowest.point_mm))
    return "right" if apart < _NEAR_MM else "WRONG in silence"


def sagittal(spine: Spine) -> Volume:
    """Sagittal T2 around a phantom's middle, clean; LPS."""
    size, pixel = 256, 1.0
    draw = np.random.default_rng(spine.seed)
    signal = tissue_signal(T2)
    back, feet = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
    first = np.asarray(spine.centre) + np.array([-(_SLICES - 1) / 2 * _GAP_MM, -22.0, 4.0])
    first = first - (back + feet) * (size - 1) / 2 * pixel
    pixels: list[F32] = []
    for i in range(_SLICES):
        plane = Plane(corner=first + np.array([i * _GAP_MM, 0, 0]), along_row=back, along_column=feet, pixel_mm=pixel,
                      rows=size, columns=size, thickness_mm=4.0)  # fmt: skip
        pixels.append(picture(spine, plane, signal, draw, Spoil(), parts=1))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = back * pixel, feet * pixel, (_GAP_MM, 0, 0)
    affine[:3, 3] = first
    return _volume(np.stack(pixels), affine)


def _volume(pixels: F32, affine: F64) -> Volume:
    refs = tuple(
        SliceRef(sop_instance_uid=f"1.{i}", sop_class_uid="1", frame=1, instance_number=i) for i in range(len(pixels))
    )
    return Volume(series_instance_uid="1", series_number=1, description="", pixels=pixels, affine=affine, slices=refs)


if __name__ == "__main__":
    main()
