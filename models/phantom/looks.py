"""How sagittal pictures of one maker look beside another's: crispness, matrix, saturated band, coil."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cauda.models.phantom.imaging import Spoil
from cauda.models.phantom.kinds import TRAITS, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """By how much a sagittal picture departs from `Spoil`'s own values; 1 changes nothing."""

    noise: float = 1.0
    blur: float = 1.0
    acquired: float = 1.0  # of the share of k-space: below 1 more is interpolated
    coil: float = 1.0  # of the depth from which signal comes
    band: bool = True  # saturated in front of the spine


AS_USUAL = Look()
_VOLUME = Look(blur=0.75, acquired=0.73)  # 3D, of whatever maker


def looked(spoil: Spoil, kind: Kind, look: Look) -> Spoil:
    """What a series of this kind is spoiled by on a scanner with this look; axial ones and surveys look alike."""
    if TRAITS[kind].plane != "sagittal":
        return spoil
    look = _VOLUME if kind is Kind.SPACE else look
    return replace(
        spoil,
        noise=spoil.noise * look.noise,
        blur_mm=spoil.blur_mm * look.blur,
        acquired=spoil.acquired * look.acquired,
        coil_mm=spoil.coil_mm * look.coil,
        band=look.band,
    )
