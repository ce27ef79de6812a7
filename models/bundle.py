"""A bundle: the trained parts in one folder, checked before anything in it is trusted (DESIGN.md 6)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from cauda.core.domain import F32, F64, GradeScale, Level, Reason
from cauda.core.errors import Misconfigured
from cauda.models import manifest as manifests
from cauda.models.backbones import Backbone, TimmEmbedder
from cauda.models.graders import LevelGraders
from cauda.models.localiser import UNetLocaliser
from cauda.models.manifest import BackboneSpec, Manifest, PreprocessingSpec
from cauda.pipeline.parts import Parts, Preprocessing

LOCALISER, BACKBONE, GRADERS = "localiser.safetensors", "backbone.safetensors", "graders.joblib"
TEMPLATES, REFERENCE = "templates.npz", "reference.npz"
_LIBRARIES = ("torch", "timm", "scikit-learn", "numpy", "safetensors", "joblib")
# Another machine's arithmetic differs in the last digits; a wrong file differs in the first.
_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What training leaves to be put into a bundle."""

    localiser: Mapping[str, Tensor]
    backbone: Backbone
    backbone_weights: Mapping[str, Tensor]
    grader: str
    graders: LevelGraders
    preprocessing: Preprocessing
    templates: Mapping[Level, F32]
    reference_crops: F32  # (N, P, P) in 0..1
    reference_levels: tuple[Level, ...]
    evaluation: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What people are told of a bundle."""

    name: str
    version: str
    scale: GradeScale
    footer: str
    intended_use: str
    exclusions: str
    training_data: tuple[str, ...]
    clinical: bool = False


def save_bundle(folder: Path, made: Made, card: Card) -> str:
    """Write a bundle and return its digest. Whatever was in the folder goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in made.localiser.items()}, folder / LOCALISER)
    save_file({k: v.contiguous() for k, v in made.backbone_weights.items()}, folder / BACKBONE)
    g = made.graders
    joblib.dump(
        {
            "classifiers": {level.value: one for level, one in g.classifiers.items()},
            "temperatures": {level.value: one for level, one in g.temperatures.items()},
            "grades": g.grades,
            "held_out": {level.value: cases for level, cases in g.held_out.items()},
        },
        folder / GRADERS,
        compress=3,
    )
    np.savez_compressed(
        folder / TEMPLATES,
        centre=g.centre,
        spread=g.spread,
        templates=np.stack([made.templates[level] for level in Level]).astype(np.float16),
    )
    embedder = TimmEmbedder(made.backbone, made.backbone_weights)
    expected = g.predict_proba(embedder.embed(made.reference_crops), made.reference_levels)
    np.savez_compressed(
        folder / REFERENCE,
        crops=np.round(made.reference_crops * 255).astype(np.uint8),
        levels=np.array([list(Level).index(level) for level in made.reference_levels]),
        probabilities=expected,
    )
    manifest = Manifest(
        **asdict(card),
        conditions=("canal",),
        grader=made.grader,
        backbone=BackboneSpec(
            name=made.backbone.name, size_px=made.backbone.size_px, channels=made.backbone.channels,
            mean=made.backbone.mean, std=made.backbone.std, field=made.backbone.field,
        ),
        preprocessing=PreprocessingSpec(**asdict(made.preprocessing)),
        evaluation=dict(made.evaluation),
        libraries={name: version(name) for name in _LIBRARIES},
        files={path.name: _sha256(path) for path in sorted(folder.iterdir())},
    )  # fmt: skip
    (folder / manifests.NAME).write_text(manifests.to_toml(manifest))
    return manifests.read_manifest(folder)[1]


def load_bundle(folder: Path, expected_digest: str | None = None, *, device: str = "cpu") -> Parts:
    """The parts of a bundle. Every hash is checked before anything is unpickled, reference inputs are recomputed.

    Raises Misconfigured(bundle_invalid) naming what does not match.
    """
    manifest, digest = manifests.read_manifest(folder)
    if expected_digest is not None and digest != expected_digest:
        raise Misconfigured(
            f"grading.bundle_digest: {folder} has {digest}, the setting says {expected_digest}", Reason.BUNDLE_INVALID
        )
    manifests.verify_files(folder, manifest)
    stored: dict[str, Any] = joblib.load(folder / GRADERS)
    with np.load(folder / TEMPLATES) as arrays:
        centre, spread, templates = arrays["centre"], arrays["spread"], arrays["templates"].astype(np.float32)
    graders = LevelGraders(
        classifiers={Level(name): one for name, one in stored["classifiers"].items()},
        temperatures={Level(name): one for name, one in stored["temperatures"].items()},
        grades=stored["grades"],
        centre=centre,
        spread=spread,
        held_out={Level(name): cases for name, cases in stored.get("held_out", {}).items()},
    )
    embedder = TimmEmbedder(Backbone(**manifest.backbone.model_dump()), load_file(folder / BACKBONE), device=device)
    _recompute(folder, embedder, graders)
    return Parts(
        info=replace(manifests.info(manifest, digest), calibration=_calibration(graders, manifest)),
        localiser=UNetLocaliser(load_file(folder / LOCALISER), device=device),
        embedder=embedder,
        grader=graders,
        preprocessing=Preprocessing(**manifest.preprocessing.model_dump()),
        templates=dict(zip(Level, templates, strict=True)),
    )


def _calibration(graders: LevelGraders, manifest: Manifest) -> str:
    """The temperatures do not know whose images they were fitted on; the manifest does."""
    data = [one.removeprefix("Grader: ") for one in manifest.training_data if not one.startswith("Localiser: ")]
    return f"{graders.calibration()}; data: {'; '.join(data) or 'not stated'}"


def _recompute(folder: Path, embedder: TimmEmbedder, graders: LevelGraders) -> None:
    with np.load(folder / REFERENCE) as arrays:
        crops: F32 = (arrays["crops"].astype(np.float32) / np.float32(255)).astype(np.float32)
        levels = [list(Level)[i] for i in arrays["levels"]]
        expected: F64 = arrays["probabilities"]
    found = graders.predict_proba(embedder.embed(crops), levels)
    worst = float(np.abs(found - expected).max())
    if worst > _TOLERANCE:
        raise Misconfigured(
            f"grading.bundle: reference inputs give other probabilities here (off by {worst:.3f}); "
            "are the library versions those of bundle.toml?",
            Reason.BUNDLE_INVALID,
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
