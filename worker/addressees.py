"""Who gets a revision's results, and to whom they are only made and shown (CLINICAL.md 16, 33)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from cauda.core.claims import Addressee
from cauda.core.domain import Reason
from cauda.core.settings import Destination


def addressees(destinations: Sequence[Destination], *, research: bool, phantom: bool) -> list[Addressee]:
    """Every destination, each with the reason that keeps results from being sent there, if there is one."""
    return [
        Addressee(name=one.name, parked=_parked(one, research=research, phantom=phantom), sr=one.sr)
        for one in destinations
    ]


def _parked(one: Destination, *, research: bool, phantom: bool) -> Reason | None:
    if phantom and not (one.test or one.local):
        return Reason.PHANTOM_NOT_LIVE
    if one.shadow:
        return Reason.SHADOW
    if research and not (one.research or one.local):
        return Reason.NOT_RESEARCH
    return None


def is_phantom(header: Dataset) -> bool:
    """Whether the image names one of our phantoms as its patient."""
    name, patient = str(header.get("PatientName") or ""), str(header.get("PatientID") or "")
    return name.upper().startswith("PHANTOM^CAUDA") or patient.startswith("CAUDA-TEST-")
