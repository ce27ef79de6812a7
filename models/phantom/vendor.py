"""What tells one maker's images from another's: words, tags, numbers, private elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian

from cauda.models.phantom.imaging import Sequence as Contrast
from cauda.models.phantom.kinds import Kind, Pulse
from cauda.models.phantom.looks import AS_USUAL, Look

_LONGEST = 16  # characters of a decimal string (PS3.5 6.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """A pulse sequence as its maker's tags name it."""

    sequence: tuple[str, ...]  # Scanning Sequence
    variant: tuple[str, ...]
    options: tuple[str, ...] = ()
    name: str = ""  # Sequence Name; empty where the maker sends none
    image_type: tuple[str, ...] = ()  # from the third value on


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """A private element; text values may name facts of the slice, as {rows} or {plane}."""

    group: int
    creator: str
    element: int
    vr: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One maker's dialect."""

    manufacturer: str
    model: str
    software: tuple[str, ...]
    study: str  # what the exam is called, in the site's language
    character_set: tuple[str, ...] = ("ISO_IR 100",)
    patient: str = "PHANTOM^CAUDA"  # with ideographic and phonetic groups where names have them
    descriptions: Mapping[Kind, str]
    exam_protocol: str | None = None  # one Protocol Name for the whole exam; else the series' own description
    pulses: Mapping[Pulse, Tags]
    image_types: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)  # whole, where not the pulse's
    echo_factor: float = 1.0  # its echo times by those of the plain protocol
    significant: int = 12  # digits of decimal strings
    fixed: int | None = None  # digits after the point instead, trailing zeros kept
    numbered_by_100: bool = False  # series 201, 301, … instead of 2, 3, …
    backwards: frozenset[str] = frozenset()  # planes whose instance numbers run against the geometry here
    own_frame: bool = False  # each series has a Frame of Reference of its own
    dixon_together: bool = False  # water, fat, in and opposed phase in one series
    bits: int = 12
    signed: bool = False
    slope: float | None = None  # Rescale Slope; None where it is not sent
    agent: str | None = None  # Contrast/Bolus Agent, where it is filled in
    syntax: UID = ExplicitVRLittleEndian
    look: Look = AS_USUAL
    coil: str = "SPINE"
    station: str = "MR1"
    private: tuple[Private, ...] = ()
    companions: tuple[str, ...] = ()  # what else is sent: names in `companions.KINDS`

    def timed(self, contrast: Contrast) -> Contrast:
        """The contrast with this maker's echo time."""
        return replace(contrast, te=round(contrast.te * self.echo_factor, 3))

    def decimal(self, value: float) -> str:
        """A decimal string as this maker writes it."""
        if self.fixed is not None:
            return f"{value:.{self.fixed}f}"
        if abs(value) < 1e-4:
            return f"{value:.6f}"
        digits = self.significant
        while len(written := f"{value:.{digits}g}") > _LONGEST:
            digits -= 1
        return written

    def series_number(self, number: int) -> int:
        """The Series Number of the ``number``-th acquisition."""
        return number * 100 + 1 if self.numbered_by_100 else number
