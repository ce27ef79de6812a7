"""K-means over slice positions: what it can tell, and that it is wrong where a level was not imaged."""

from __future__ import annotations

import numpy as np
import pytest

from cauda.models.slice_kmeans import clusters


def blocks(tops_mm: list[float], slices: int = 4, step_mm: float = 4.0) -> np.ndarray:
    return np.concatenate([top - step_mm * np.arange(slices) for top in tops_mm])


def test_five_separate_blocks_are_five_clusters_from_head_to_feet() -> None:
    found = clusters(blocks([0.0, -36.0, -72.0, -108.0, -144.0]))
    assert [sorted(one.tolist()) for one in found] == [list(range(4 * i, 4 * i + 4)) for i in range(5)]


def test_the_order_of_the_slices_does_not_matter() -> None:
    heights = blocks([0.0, -36.0, -72.0, -108.0, -144.0])
    order = np.random.default_rng(0).permutation(len(heights))
    middles = [float(heights[order][one].mean()) for one in clusters(heights[order])]
    assert middles == pytest.approx([-6.0, -42.0, -78.0, -114.0, -150.0])


def test_four_imaged_levels_still_make_five_clusters() -> None:
    """Why it never names a level: a block is torn in two and every name above it shifts (CLINICAL.md 10)."""
    found = clusters(blocks([-36.0, -72.0, -108.0, -144.0]))
    assert len(found) == 5
    assert sorted(len(one) for one in found) == [2, 2, 4, 4, 4]


def test_too_few_slices_are_said() -> None:
    with pytest.raises(ValueError, match="3 slices"):
        clusters(np.array([0.0, 4.0, 8.0]))
