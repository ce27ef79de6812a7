"""What the status of a stored object means, of C-STORE and STOW-RS alike (PS3.7 annex C, PS3.4 B.2.3)."""

from __future__ import annotations

from enum import StrEnum


class Meaning(StrEnum):
    """What follows from a C-STORE status."""

    ACCEPTED = "accepted"
    PASSING = "passing"
    REFUSED = "refused"


# First match; what is not listed is refused.
_MEANINGS: tuple[tuple[int, int, Meaning], ...] = (
    (0x0000, 0x0000, Meaning.ACCEPTED),
    (0x0001, 0x0001, Meaning.ACCEPTED),  # warning
    (0x0107, 0x0107, Meaning.ACCEPTED),  # attribute list warning
    (0x0116, 0x0116, Meaning.ACCEPTED),  # attribute value warning
    (0x0111, 0x0111, Meaning.ACCEPTED),  # duplicate SOP instance: our own bytes, sent before a crash
    (0xB000, 0xBFFF, Meaning.ACCEPTED),  # stored with warnings
    (0x0110, 0x0110, Meaning.PASSING),  # processing failure: something of theirs broke
    (0x0213, 0x0213, Meaning.PASSING),  # resource limitation
    (0xA700, 0xA7FF, Meaning.PASSING),  # out of resources
    (0xFE00, 0xFE00, Meaning.PASSING),  # cancelled
    # A9xx data set does not match, Cxxx cannot understand, 0122 class not supported, 0124 not authorised, ...
    (0x0000, 0xFFFF, Meaning.REFUSED),
)


def meaning(status: int) -> Meaning:
    """What a C-STORE status means for the delivery."""
    return next(meant for low, high, meant in _MEANINGS if low <= status <= high)
