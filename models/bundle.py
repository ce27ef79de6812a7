"""A bundle: the trained parts in one folder, checked before anything in it is trusted (DESIGN.md 6).

All of it is arrays (safetensors) and TOML: a bundle cannot run code. What is loaded are the bytes that were hashed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from cauda.core.domain import F32, GradeScale, Level, Reason
from cauda.core.errors import Misconfigured
from cauda.models import manifest as manifests
from cauda.models.backbones import Backbone, TimmEmbedder
from cauda.models.classifiers import Array, arrays, classifier
from cauda.models.graders import LevelGraders
from cauda.models.localiser import UNetLocaliser
from cauda.models.manifest import BackboneSpec, Manifest, PreprocessingSpec
from cauda.pipeline.parts import Parts, Preprocessing

LOCALISER, BACKBONE, GRADERS = "localiser.safetensors", "backbone.safetensors", "graders.safetensors"
TEMPLATES, REFERENCE = "templates.safetensors", "reference.safetensors"
FILES = (BACKBONE, GRADERS, LOCALISER, REFERENCE, TEMPLATES)
_LIBRARIES = ("torch", "timm", "scikit-learn", "numpy", "safetensors")
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
    for name, weights in ((LOCALISER, made.localiser), (BACKBONE, made.backbone_weights)):
        safetensors.torch.save_file({key: value.contiguous() for key, value in weights.items()}, folder / name)
    templates = np.stack([made.templates[level] for level in Level]).astype(np.float16)
    write_arrays(folder / TEMPLATES, {"templates": templates})
    write_graders(folder, made.graders)
    embedder = TimmEmbedder(made.backbone, made.backbone_weights)
    reference = {
        "crops": np.round(made.reference_crops * 255).astype(np.uint8),
        "levels": np.array([list(Level).index(level) for level in made.reference_levels]),
        "probabilities": made.graders.predict_proba(embedder.embed(made.reference_crops), made.reference_levels),
    }
    write_arrays(folder / REFERENCE, reference)
    manifest = Manifest(
        **asdict(card),
        format=manifests.FORMAT,
        conditions=("canal",),
        grader=made.grader,
        backbone=BackboneSpec(
            name=made.backbone.name, size_px=made.backbone.size_px, channels=made.backbone.channels,
            mean=made.backbone.mean, std=made.backbone.std, field=made.backbone.field,
        ),
        preprocessing=PreprocessingSpec(**asdict(made.preprocessing)),
        evaluation=dict(made.evaluation),
        libraries={name: version(name) for name in _LIBRARIES},
        files={},
    )  # fmt: skip
    return write_manifest(folder, manifest)


def write_graders(folder: Path, graders: LevelGraders) -> None:
    """The graders' arrays in one file; those of a level's classifier have its place in front."""
    order = list(Level)
    stored: dict[str, Array] = {
        "temperatures": np.array([graders.temperatures[level] for level in order]),
        "held_out": np.array([graders.held_out.get(level, 0) for level in order]),
        "centre": graders.centre,
        "spread": graders.spread,
    }
    for place, level in enumerate(order):
        stored |= {f"{place}.{name}": array for name, array in arrays(graders.classifiers[level]).items()}
    write_arrays(folder / GRADERS, stored)


def write_arrays(path: Path, stored: Mapping[str, Array]) -> None:
    """Write arrays by name; safetensors' own function keeps the file from everybody but its owner."""
    path.write_bytes(safetensors.numpy.save(dict(stored)))


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write the manifest over the files that are in the folder; returns the bundle's digest."""
    listed = manifest.model_copy(update={"files": {name: _sha256(folder / name) for name in FILES}})
    (folder / manifests.NAME).write_text(manifests.to_toml(listed))
    return manifests.read_manifest(folder)[1]


def load_bundle(folder: Path, expected_digest: str | None = None, *, device: str = "cpu") -> Parts:
    """The parts of a bundle that may be served: every hash is checked, and the reference inputs are recomputed.

    Raises Misconfigured(bundle_invalid) naming what does not match.
    """
    manifest, digest = manifests.read_manifest(folder)
    manifests.check_served(folder, manifest, digest, expected_digest)
    if others := sorted(set(manifest.files) - set(FILES)):
        text = f"grading.bundle: {folder / manifests.NAME} lists {others[0]}, which is no part of a bundle"
        raise Misconfigured(text, Reason.BUNDLE_INVALID)
    content = manifests.read_files(folder, manifest, FILES)
    try:
        graders = _graders(safetensors.numpy.load(content[GRADERS]), manifest)
        templates = safetensors.numpy.load(content[TEMPLATES])["templates"].astype(np.float32)
        weights = safetensors.torch.load(content[BACKBONE])
        embedder = TimmEmbedder(Backbone(**manifest.backbone.model_dump()), weights, device=device)
        worst = _recompute(safetensors.numpy.load(content[REFERENCE]), embedder, graders)
        parts = Parts(
            info=replace(manifests.info(manifest, digest), calibration=_calibration(graders, manifest)),
            localiser=UNetLocaliser(safetensors.torch.load(content[LOCALISER]), device=device),
            embedder=embedder,
            grader=graders,
            preprocessing=Preprocessing(**manifest.preprocessing.model_dump()),
            templates=dict(zip(Level, templates, strict=True)),
        )
    except (SafetensorError, KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
        text = f"grading.bundle: {folder} does not hold what a bundle holds ({type(error).__name__}: {error})"
        raise Misconfigured(text, Reason.BUNDLE_INVALID) from error
    if not worst <= _TOLERANCE:
        raise Misconfigured(
            f"grading.bundle: reference inputs give other probabilities here (off by {worst:.3f}); "
            "are the library versions those of bundle.toml?",
            Reason.BUNDLE_INVALID,
        )
    return parts


def _graders(stored: Mapping[str, Array], manifest: Manifest) -> LevelGraders:
    """The graders of `write_graders`; ValueError or KeyError where arrays are missing or do not fit."""
    grades = len(manifest.scale.grades)
    classifiers = {}
    for place, level in enumerate(Level):
        own = {name.partition(".")[2]: array for name, array in stored.items() if name.startswith(f"{place}.")}
        classifiers[level] = classifier(manifest.grader, own)
        if sorted(classifiers[level].classes.tolist()) != list(range(grades)):
            raise ValueError(f"the grader of {level.value} does not know every grade")
    temperatures = [float(value) for value in stored["temperatures"]]
    held_out = [int(value) for value in stored["held_out"]]
    if not all(value > 0 for value in temperatures):
        raise ValueError("temperatures are positive")
    return LevelGraders(
        classifiers=classifiers,
        temperatures=dict(zip(Level, temperatures, strict=True)),
        grades=grades,
        centre=stored["centre"],
        spread=stored["spread"],
        held_out={level: cases for level, cases in zip(Level, held_out, strict=True) if cases},
    )


def _calibration(graders: LevelGraders, manifest: Manifest) -> str:
    """The temperatures do not know whose images they were fitted on; the manifest does."""
    data = [one.removeprefix("Grader: ") for one in manifest.training_data if not one.startswith("Localiser: ")]
    return f"{graders.calibration()}; data: {'; '.join(data) or 'not stated'}"


def _recompute(reference: Mapping[str, Array], embedder: TimmEmbedder, graders: LevelGraders) -> float:
    """How far the reference inputs' probabilities are from the stored ones here; not a number where any is none."""
    crops: F32 = (reference["crops"].astype(np.float32) / np.float32(255)).astype(np.float32)
    levels = [list(Level)[i] for i in reference["levels"]]
    found = graders.predict_proba(embedder.embed(crops), levels)
    if found.shape != reference["probabilities"].shape or not len(found):
        raise ValueError("reference inputs and probabilities do not belong together")
    return float(np.abs(found - reference["probabilities"]).max())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
