"""Faults as physics makes them, for pictures of anybody's: the truth of tests, written without the product's own."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.float64]


def moved(picture: Picture, mm_per_px: float, depth_mm: float, draw: Generator, *, train: int = 15) -> Picture:
    """A turbo spin echo whose patient breathes ``depth_mm`` and slides once; phase runs across the picture.

    A shot reads every n-th line of k-space; the body rests during a shot and lies elsewhere in the next. What moved is
    the whole picture, in both directions (shift theorem); the magnitude is what a scanner shows.
    """
    spectrum = np.fft.fftshift(np.fft.fft2(picture))
    rows, columns = picture.shape
    shots = columns // train
    place = depth_mm / mm_per_px * np.sin(2 * np.pi * np.arange(shots) / draw.uniform(2.0, 4.5) + draw.uniform(0, 6.3))
    place[draw.integers(1, shots) :] += 0.5 * depth_mm / mm_per_px
    down = np.linspace(-0.5, 0.5, rows, endpoint=False)[:, None]
    for column in range(columns):
        here = place[column % shots]
        across = (column - columns // 2) / columns
        spectrum[:, column] *= np.exp(-2j * np.pi * (across * here + 0.5 * down[:, 0] * here))
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))


def folded(picture: Picture, keep: int) -> Picture:
    """The middle ``keep`` columns when only these are encoded: each column carries what lies whole fields away, too."""
    rows, columns = picture.shape
    first = (columns - keep) // 2
    out = np.zeros((rows, keep))
    for column in range(columns):
        out[:, (column - first) % keep] += picture[:, column]
    return out
