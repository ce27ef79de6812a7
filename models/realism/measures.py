"""What can be measured on a picture: its spectrum, its tissues' greys, its likeness to the next slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from cauda.core.domain import F64
from cauda.models.realism.pictures import Grey

Mask = NDArray[np.uint8]
VERTEBRA, DISC, CANAL = 1, 2, 3  # as SPIDER's masks have them

_RINGS = 24
_FITTED = (0.06, 0.7)  # cycles a millimetre; beyond, the acquired matrix ends
_BANDS = {"coarse": (0.02, 0.1), "middle": (0.1, 0.3), "fine": (0.3, 0.7), "finest": (0.7, 1.05)}
_SURE_MM = 1.0  # from a tissue's border
_TEXTURE_MM = 1.5  # structures smaller than this are texture
_LEAST_PX = 150  # of each tissue, or nothing is said
_EMPTY = 8  # grey below which a pixel shows air


def spectrum(picture: Grey | F64, mm: float) -> dict[str, float]:
    """Slope of log power against log spatial frequency, rings averaged; and how much of the power each band holds.

    White noise has slope 0. The picture is (rows, columns), its pixels ``mm`` wide.
    """
    image = np.asarray(picture, float)
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    f = np.hypot(np.fft.fftfreq(image.shape[0], mm)[:, None], np.fft.fftfreq(image.shape[1], mm))
    edges = np.geomspace(*_FITTED, _RINGS + 1)
    rings = np.digitize(f, edges)
    means = np.array([power[rings == i].mean() if (rings == i).any() else np.nan for i in range(1, _RINGS + 1)])
    known = np.isfinite(means) & (means > 0)
    middles = np.sqrt(edges[1:] * edges[:-1])
    slope = np.polyfit(np.log(middles[known]), np.log(means[known]), 1)[0]
    whole = power[(f >= _BANDS["coarse"][0]) & (f < _BANDS["finest"][1])].sum()
    shares = {
        f"power, {name} ({low}-{high}/mm), log10 of share": float(
            np.log10(max(power[(f >= low) & (f < high)].sum() / whole, 1e-9))
        )
        for name, (low, high) in _BANDS.items()
    }
    return {"spectrum, slope": float(slope)} | shares


def tissues(picture: Grey, mask: Mask, mm: float) -> dict[str, float] | None:
    """Greys of vertebrae, discs and canal beside each other, and how they spread; None where too little is seen."""
    image = picture.astype(float)
    inner = {k: ndimage.binary_erosion(mask == k, iterations=round(_SURE_MM / mm)) for k in (VERTEBRA, DISC, CANAL)}
    if min(int(one.sum()) for one in inner.values()) < _LEAST_PX:
        return None
    bone, disc, canal = (image[inner[k]] for k in (VERTEBRA, DISC, CANAL))
    bright = float(np.percentile(canal, 90))  # CSF
    medians = {k: max(float(np.median(image[inner[k]])), 1.0) for k in inner}
    return {
        "grey, vertebra / CSF": medians[VERTEBRA] / bright,
        "grey, disc / CSF": medians[DISC] / bright,
        "grey, disc / vertebra": medians[DISC] / medians[VERTEBRA],
        "grey, canal median / CSF": medians[CANAL] / bright,
        "spread, vertebra": _spread(bone),
        "spread, disc": _spread(disc),
        "spread, canal": _spread(canal),
        "texture, vertebra": _texture(image, inner[VERTEBRA], mm) / medians[VERTEBRA],
        "texture, disc": _texture(image, inner[DISC], mm) / medians[DISC],
        "texture, canal": _texture(image, inner[CANAL], mm) / medians[CANAL],
        "border, vertebra to disc": _border(image, mask, mm) / medians[VERTEBRA],
    }


def surroundings(picture: Grey) -> dict[str, float]:
    """How the greys of a square of 160 mm lie, whose left half is in front of the spine."""
    image = picture.astype(float)
    half = image.shape[1] // 4
    return {
        "grey of the front quarter / whole": float(image[:, :half].mean() / max(image.mean(), 1.0)),
        "share of black": float((image < _EMPTY).mean()),
        "share brighter than half": float((image > 127).mean()),
        "grey, median": float(np.median(image)),
    }


def likeness(picture: Grey, beside: Grey) -> float:
    """Structural similarity (SSIM) of two neighbouring slices."""
    return float(structural_similarity(picture, beside, data_range=255))  # type: ignore[no-untyped-call]


def _spread(values: F64) -> float:
    low, middle, high = np.percentile(values, (10, 50, 90))
    return float((high - low) / max(middle, 1.0))


def _texture(image: F64, inside: NDArray[np.bool_], mm: float) -> float:
    """The deviation of what is finer than ``_TEXTURE_MM``; the means around it are taken ``inside`` alone."""
    counted, summed = (ndimage.gaussian_filter(one, _TEXTURE_MM / mm) for one in (inside.astype(float), image * inside))
    return float((image[inside] - summed[inside] / counted[inside]).std())


def _border(image: F64, mask: Mask, mm: float) -> float:
    """The mean gradient (grey a millimetre) where a vertebra meets a disc: crisp outlines have a high one."""
    near = ndimage.binary_dilation(mask == DISC, iterations=2) & ndimage.binary_dilation(mask == VERTEBRA, iterations=2)
    if not near.any():
        return 0.0
    smooth = ndimage.gaussian_filter(image, 0.5)
    return float(np.hypot(*np.gradient(smooth, mm))[near].mean())
