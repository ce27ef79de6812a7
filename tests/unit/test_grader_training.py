"""What a grader is trained on: the truth is the anatomy's, whoever shows it and whatever lies around it."""

from __future__ import annotations

import numpy as np
import torch

from cauda.core.domain import Level
from cauda.models.augment import elsewhere
from cauda.models.phantom.crops import crops


def test_scanners_differ_in_what_they_show_and_not_in_what_is_true() -> None:
    found = crops(31, 1, looks=2)
    assert found.levels == tuple(level for level in Level for _ in range(2))
    assert np.array_equal(found.rsna[::2], found.rsna[1::2])
    assert np.array_equal(found.csf_share[::2], found.csf_share[1::2])
    assert all(np.abs(a - b).mean() > 0.01 for a, b in zip(found.pixels[::2], found.pixels[1::2], strict=True))


def test_a_canal_keeps_its_pixels_in_the_surroundings_of_another() -> None:
    """The label goes with the canal: a canal that went elsewhere would teach the wrong grade."""
    crop = torch.stack([torch.full((128, 128), value) for value in (0.2, 0.5, 0.9)])
    found = elsewhere(crop, np.random.default_rng(3))
    assert torch.allclose(found[:, 64, 64], crop[:, 64, 64], atol=1e-3)
    assert torch.allclose(found[:, 64, 84], crop[:, 64, 84], atol=0.01)  # 10 mm aside: still the sac
    assert torch.allclose(found[:, 0, 0], crop[[2, 0, 1], 0, 0], atol=1e-3)
