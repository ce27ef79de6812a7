"""What a place in the phantom's body can consist of."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Labels = NDArray[np.uint8]


class Tissue(IntEnum):
    """What a pixel can be."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    MARROW = 3
    CORTEX = 4
    NUCLEUS = 5
    ANNULUS = 6
    ARCH = 7  # pedicles, laminae, processes, facets
    FLAVUM = 8
    EPIDURAL_FAT = 9
    CSF = 10
    ROOT = 11  # in the sac
    CORD = 12
    VESSEL = 13
    LIGAMENT = 14
    BOWEL = 15
    SACRUM = 16
    FRAGMENT = 17  # disc that has left the disc
    NERVE = 18  # root outside the sac, with its ganglion
    FLUID = 19  # in a joint
    FATTY_MARROW = 20  # beside worn endplates, around the basivertebral vein
    KIDNEY = 21
    GAS = 22
    SKIN = 23
    ILIUM = 24
    DRY_NUCLEUS = 25


SAC = (Tissue.CSF, Tissue.ROOT, Tissue.CORD)


def drawn(out: Tensor, where: Tensor, tissue: Tissue) -> Tensor:
    """Labels (N,), uint8, with a tissue where a mask (N,) says so; `torch.where` is not vectorised for bytes."""
    return out ^ ((out ^ int(tissue)) & -where.view(torch.uint8))
