"""What a listener's doors tell its filer, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cauda.core.domain import Reason
from cauda.listener.part10 import Origin


@dataclass(frozen=True, slots=True)
class Opened:
    """An association was established."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class Arrived:
    """An object has landed and was acknowledged."""

    path: Path


@dataclass(frozen=True, slots=True)
class Ended:
    """An association ended: released or aborted."""

    association_id: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A peer was refused, so many times; the title is empty where none was read."""

    aet: str
    address: str
    reason: Reason
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A peer was let in to be known from now on."""

    aet: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedImage:
    """An MR image was refused for a passing reason: its sender may send it again."""

    association_id: str
    sop_uid: str
    study_uid: str | None  # where it was known by then
    reason: Reason


Told = Opened | Arrived | Ended | Refused | Learned | RefusedImage
BUSY = (Opened, Arrived)  # whoever opens an association is about to send
