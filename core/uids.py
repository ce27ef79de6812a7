"""DICOM unique identifiers: checking foreign ones, making our own (PS3.5 section 9)."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from cauda.core.domain import Reason
from cauda.core.errors import Rejected

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
MAX_LENGTH = 64

# Names this implementation in association negotiation and File Meta. Derived from the product's name (B.2).
IMPLEMENTATION_CLASS_UID = "2.25.187339425127434517935712069013812674201"
IMPLEMENTATION_VERSION_NAME = "CAUDA_0_1"


def is_uid(text: str) -> bool:
    """Whether the text may name a file: digits and single dots, at most 64 characters.

    Leading zeros are let through: real scanners send them and they are harmless in a path.
    """
    return len(text) <= MAX_LENGTH and _well_formed(text)


@lru_cache(maxsize=1024)  # those of a study and its series come with each of its images
def _well_formed(text: str) -> bool:
    return _UID.fullmatch(text) is not None


def checked(text: str, what: str) -> str:
    """The UID itself, or Rejected naming which one was wrong; the value is not repeated."""
    if not is_uid(text):
        raise Rejected(Reason.UID_INVALID, f"{what} is not a valid UID")
    return text


def derived(*parts: str) -> str:
    """A UID (PS3.5 B.2: 2.25 + 128 bits) that is the same for the same parts."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()[:16]
    value = bytearray(digest)
    value[6] = (value[6] & 0x0F) | 0x80  # UUID version 8: custom
    value[8] = (value[8] & 0x3F) | 0x80
    return f"2.25.{int.from_bytes(value, 'big')}"
