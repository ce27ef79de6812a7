"""Whether a bundle may be served: it loads as released, and what it withholds is not disease (CLINICAL.md 12)."""

from __future__ import annotations

from pathlib import Path

from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured
from cauda.models.bundle import load_bundle
from cauda.models.evaluate import ABSTENTION
from cauda.models.manifest import read_manifest
from cauda.pipeline.parts import Parts

MOST = 1.5  # times the Normal/Mild rate of abstention


def verify(folder: Path, expected_digest: str | None = None) -> Parts:
    """Load a bundle and judge its evaluation; Misconfigured(bundle_invalid) says what is wrong."""
    parts = load_bundle(folder, expected_digest)
    said = read_manifest(folder)[0].evaluation
    mild, worst = (f"{ABSTENTION}{name}" for name in ("normal_mild", "severe"))
    if mild not in said or worst not in said:
        raise Misconfigured(f"grading.bundle: {folder} does not say how often it abstains by grade",
                            Reason.BUNDLE_INVALID)  # fmt: skip
    if said[worst] > MOST * said[mild]:
        raise Misconfigured(
            f"grading.bundle: {folder} withholds {said[worst]:.1%} of Severe levels and {said[mild]:.1%} of "
            f"Normal/Mild ones; at most {MOST} times as many are allowed",
            Reason.BUNDLE_INVALID,
        )
    return parts
