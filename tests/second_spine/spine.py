"""A second synthetic lumbar spine, for testing graders only: it shares nothing with the one they are trained on.

Axial slices at the five discs, drawn as curves through landmarks on a fine grid (`section`), with a sac fitted between
them by signed distances and strands that settle in it (`sac`), graded from the label maps (`truth`), shown as a scanner
would (`picture`). It was frozen before any grader was scored on it and is never changed to suit one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cauda.core.domain import F32, Level

from . import picture, section, truth
from .drawing import Labels
from .plan import Plan, plans


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice:
    """One level: ``crop`` (128, 128) of 64 mm in 0..1, patient's right on the left, belly up; what is so, and why."""

    plan: Plan
    crop: F32
    labels: Labels  # (S, H, W), not turned and not off centre
    truth: truth.Truth

    @property
    def level(self) -> Level:
        """The level's name."""
        return self.plan.level


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Specimen:
    """One person's five levels, cranial to caudal, by one scanner."""

    seed: int
    slices: tuple[Slice, ...]


def make(seed: int) -> Specimen:
    """The specimen of a seed."""
    scan = picture.scanner(np.random.default_rng([seed, 613]))
    return Specimen(seed=seed, slices=tuple(cut(plan, scan) for plan in plans(seed)))


def cut(plan: Plan, scan: picture.Scanner) -> Slice:
    """One level as planned, seen by a scanner."""
    labels = section.sheets(plan)
    return Slice(plan=plan, crop=picture.crop(labels, plan, scan), labels=labels, truth=truth.grade(labels))
