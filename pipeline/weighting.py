"""What a series is weighted by, as its tags and then its words say it; None leaves it to the picture."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydicom import Dataset

from cauda.pipeline import words
from cauda.pipeline.exclusions import series_text
from cauda.pipeline.frames import number


class Weighting(StrEnum):
    """Contrast weighting."""

    T2 = "T2"
    STIR = "STIR"
    T1 = "T1"
    PD = "PD"


def weighting(header: Dataset, stated: str | None = None) -> Weighting | None:
    """By TE, TR and TI where they decide, then by words."""
    return _by_timing(*timing(header)) or _by_words(series_text(header) if stated is None else stated)


def timing(header: Dataset) -> tuple[float | None, float | None, float | None]:
    """TE, TR and TI in ms, from the data set or from an Enhanced object's functional groups."""
    return (
        number(header, "EchoTime") or _grouped(header, "MREchoSequence", "EffectiveEchoTime"),
        number(header, "RepetitionTime") or _grouped(header, "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
        number(header, "InversionTime") or _grouped(header, "MRModifierSequence", "InversionTimes"),
    )


def _grouped(header: Dataset, sequence: str, keyword: str) -> float | None:
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        item = _first(_first(header, groups), sequence)
        if item is not None and (value := number(item, keyword)) is not None:
            return value
    return None


def _first(dataset: Any, keyword: str) -> Any:
    if dataset is None:
        return None
    try:
        items = dataset.get(keyword)
        return items[0] if items else None
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, NotImplementedError):
        return None


def _by_timing(echo: float | None, repetition: float | None, inversion: float | None) -> Weighting | None:
    if not echo:  # absent, or 0 from an anonymiser
        return None
    slow = repetition is not None and repetition >= 1500
    if inversion is not None and 50 <= inversion <= 300 and slow:
        return Weighting.STIR
    if echo >= 60:
        return Weighting.T2
    if echo < 40 and ((repetition is not None and repetition < 1400) or (inversion is not None and inversion > 400)):
        return Weighting.T1
    return Weighting.PD if echo < 45 and slow else None


def _by_words(said: str) -> Weighting | None:
    if words.STIR.search(said):
        return Weighting.STIR
    t1, t2 = words.T1.search(said), words.T2.search(said)
    if t1 and not t2:
        return Weighting.T1
    if t2 and not t1:
        return Weighting.T2
    return Weighting.PD if words.PROTON_DENSITY.search(said) else None
