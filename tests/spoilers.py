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


def with_rods(picture: Picture, mm_per_px: float, places_mm: list[tuple[float, float]], reach_mm: float) -> Picture:
    """Metal rods along the slice normal, each at (right, down) millimetres of the middle; frequency runs down.

    A cylinder across B0 shifts its surroundings by the second harmonic of the angle, falling with the square of the
    distance; ``reach_mm`` is the shift at its surface. Every small piece of signal is carried to where its frequency
    is read, and shared by the two pixels that it falls between.
    """
    finer = 4  # pieces a pixel
    rows, columns = picture.shape
    y = (np.arange(rows * finer) / finer - rows / 2)[:, None] * mm_per_px
    x = (np.arange(columns) - columns / 2)[None, :] * mm_per_px
    shift = np.zeros((rows * finer, columns))
    solid = np.zeros(shift.shape, dtype=bool)
    for right, down in places_mm:
        away = np.hypot(x - right, y - down)
        solid |= away < 3.0
        angle = np.arctan2(y - down, x - right)
        shift += reach_mm * np.cos(2 * angle) * (3.0 / np.maximum(away, 3.0)) ** 2
    signal = np.where(solid, 0.0, np.repeat(picture, finer, axis=0) / finer)
    lands = np.arange(rows * finer)[:, None] / finer + shift / mm_per_px
    out = np.zeros(picture.shape)
    low = np.floor(lands).astype(int)
    for row, share in ((low, 1 - (lands - low)), (low + 1, lands - low)):
        inside = (row >= 0) & (row < rows)
        np.add.at(
            out, (np.where(inside, row, 0), np.broadcast_to(np.arange(columns), row.shape)), signal * share * inside
        )
    return out
