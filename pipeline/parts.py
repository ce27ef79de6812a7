"""What the pipeline needs from trained parts. `cauda.models` implements these; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cauda.core.domain import F32, F64, BundleInfo, Level


class Localiser(Protocol):
    """Labels the pixels of sagittal slices."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Channel names, background first; at least background, vertebra, disc, canal."""

    def segment(self, slices: F32, spacing_mm: tuple[float, float]) -> F32:
        """Class probabilities (N, C, H, W) for slices (N, H, W) with (row, column) spacing, at the input's size.

        Rows run head to feet and columns anterior to posterior: the caller orients by the tags first.
        """


class LumbarCheck(Protocol):
    """Says by picture whether sagittal slices show a lumbar spine."""

    def lumbar_probability(self, slices: F32, spacing_mm: tuple[float, float]) -> float:
        """Probability in 0..1 for slices (N, H, W), oriented as for the localiser."""


class Embedder(Protocol):
    """Turns crops into features."""

    def embed(self, crops: F32) -> F32:
        """Features (N, D) for crops (N, P, P) in 0..1, one batch, patient's right on the left."""


class Grader(Protocol):
    """Turns features into calibrated probabilities."""

    def predict_proba(self, features: F32, levels: Sequence[Level]) -> F64:
        """Probabilities (N, G) over the scale's grades, mildest first; one level per row of features (N, D)."""

    def distance(self, features: F32) -> F64:
        """Distance (N,) of each row from the training embeddings; compared with ``Preprocessing.max_distance``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Constants that travel with the weights."""

    crop_mm: float = 64.0  # side of the square crop around the canal
    crop_px: int = 128
    noise_ssim_min: float = 0.80  # paper A's threshold: slice against its denoised self
    max_distance: float = float("inf")
    set_coverage: float = 0.90  # the prediction set is the smallest that reaches this probability
    uncertain_below: float = 0.0  # abstain when the best grade's probability is lower


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """One bundle, ready to use."""

    info: BundleInfo
    localiser: Localiser
    embedder: Embedder
    grader: Grader
    lumbar_check: LumbarCheck | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    templates: dict[Level, F32] = field(default_factory=dict)  # (P, P) mean normal crop per level
