"""The generator's own labels."""

from __future__ import annotations

from enum import IntEnum


class Tissue(IntEnum):
    """What a pixel of a sheet is."""

    FAT = 0  # between muscles
    SKIN_FAT = 1
    MUSCLE = 2
    PSOAS = 3
    CORTEX = 4
    MARROW = 5
    ANNULUS = 6
    NUCLEUS = 7
    EPIDURAL_FAT = 8
    FLAVUM = 9
    JOINT = 10  # cartilage and fluid
    LIGAMENT = 11
    NERVE = 12  # outside the sac
    VESSEL = 13  # slow blood, bright
    FLOW = 14  # fast blood, dark
    DURA = 15
    CSF = 16
    ROOTLET = 17
    CORD = 18
    HERNIATION = 19  # disc tissue in the canal
    STREAK = 20  # fat within muscle
