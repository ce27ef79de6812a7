"""The kinds of series that a lumbar exam consists of, and how each is acquired."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from cauda.models.phantom.imaging import SPACE, STIR, SURVEY, T1, T1_CONTRAST, T2, Sequence

PlaneName = Literal["sagittal", "axial", "survey"]


class Kind(StrEnum):
    """One kind of series."""

    SURVEY = "survey"  # three planes, to plan the others on
    SAGITTAL_T2 = "sagittal_t2"
    SAGITTAL_T1 = "sagittal_t1"
    SAGITTAL_STIR = "sagittal_stir"
    AXIAL_T2 = "axial_t2"
    AXIAL_T1 = "axial_t1"
    DIXON_WATER = "dixon_water"
    DIXON_FAT = "dixon_fat"
    DIXON_IN = "dixon_in"
    DIXON_OPPOSED = "dixon_opposed"
    SPACE = "space"  # 3D, sagittal
    SPACE_AXIAL = "space_axial"  # reformatted from it
    SAGITTAL_T1_CONTRAST = "sagittal_t1_contrast"  # fat-suppressed


class Pulse(StrEnum):
    """Families of pulse sequences: tags follow from these."""

    SPIN_ECHO = "spin_echo"
    INVERSION = "inversion"
    GRADIENT = "gradient"
    DIXON = "dixon"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How a kind of series is acquired."""

    contrast: Sequence
    plane: PlaneName
    pulse: Pulse
    train: int = 15  # echoes
    flip: int = 150
    bandwidth: int = 190  # Hz a pixel

    @property
    def phase_axis(self) -> int:
        """Along which array axis phase is encoded: head to feet on sagittal images, side to side on axial ones."""
        return 0 if self.plane == "sagittal" else 1


DIXONS = (Kind.DIXON_WATER, Kind.DIXON_FAT, Kind.DIXON_IN, Kind.DIXON_OPPOSED)

TRAITS: dict[Kind, Traits] = {
    Kind.SURVEY: Traits(contrast=SURVEY, plane="survey", pulse=Pulse.GRADIENT, train=1, flip=20, bandwidth=320),
    Kind.SAGITTAL_T2: Traits(contrast=T2, plane="sagittal", pulse=Pulse.SPIN_ECHO),
    Kind.SAGITTAL_T1: Traits(contrast=T1, plane="sagittal", pulse=Pulse.SPIN_ECHO, train=3),
    Kind.SAGITTAL_STIR: Traits(contrast=STIR, plane="sagittal", pulse=Pulse.INVERSION),
    Kind.AXIAL_T2: Traits(contrast=replace(T2, te=110), plane="axial", pulse=Pulse.SPIN_ECHO),
    Kind.AXIAL_T1: Traits(contrast=replace(T1, tr=640), plane="axial", pulse=Pulse.SPIN_ECHO, train=3),
    Kind.DIXON_WATER: Traits(contrast=replace(T2, part="water"), plane="sagittal", pulse=Pulse.DIXON),
    Kind.DIXON_FAT: Traits(contrast=replace(T2, part="fat"), plane="sagittal", pulse=Pulse.DIXON),
    Kind.DIXON_IN: Traits(contrast=T2, plane="sagittal", pulse=Pulse.DIXON),
    Kind.DIXON_OPPOSED: Traits(contrast=replace(T2, part="opposed"), plane="sagittal", pulse=Pulse.DIXON),
    Kind.SPACE: Traits(contrast=SPACE, plane="sagittal", pulse=Pulse.VOLUME, train=60, flip=120, bandwidth=620),
    Kind.SPACE_AXIAL: Traits(contrast=SPACE, plane="axial", pulse=Pulse.VOLUME, train=60, flip=120, bandwidth=620),
    Kind.SAGITTAL_T1_CONTRAST: Traits(contrast=T1_CONTRAST, plane="sagittal", pulse=Pulse.SPIN_ECHO, train=3),
}
