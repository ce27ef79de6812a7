"""A bundle of format 1, whose graders are a pickle, made into one of today's format. Nothing else here unpickles."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import safetensors.torch

from cauda.core.domain import Level, Reason
from cauda.core.errors import Misconfigured
from cauda.models import bundle
from cauda.models import manifest as manifests
from cauda.models.backbones import Backbone, TimmEmbedder
from cauda.models.classifiers import Array, plain
from cauda.models.graders import LevelGraders, tempered

_GRADERS, _TEMPLATES, _REFERENCE = "graders.joblib", "templates.npz", "reference.npz"
_SAME = 1e-9  # of a probability


def convert(old: Path, new: Path, pinned: str | None = None) -> tuple[str, str]:
    """Write the bundle ``old`` in today's format to ``new``; returns both digests.

    THIS RUNS WHATEVER CODE THE OLD BUNDLE HOLDS: for bundles from a trusted place only. ``pinned`` is the digest that
    it must have. Raises Misconfigured where a hash is wrong, probabilities would differ, or ``new`` may not be served.
    """
    manifest, digest = manifests.read_manifest(old)
    if pinned is not None and digest != pinned:
        raise _invalid(f"{old} has the digest {digest}, not {pinned}")
    if manifest.format != 1:
        raise _invalid(f"{old} has the format {manifest.format}; only format 1 is converted")
    if new.exists():
        raise _invalid(f"{new} exists; name a folder that does not")
    weights = (bundle.LOCALISER, bundle.BACKBONE)
    content = manifests.read_files(old, manifest, (*weights, _GRADERS, _TEMPLATES, _REFERENCE))
    stored: dict[str, Any] = joblib.load(io.BytesIO(content[_GRADERS]))
    templates, reference = _arrays(content[_TEMPLATES]), _arrays(content[_REFERENCE])
    graders = _graders(manifest.grader, stored, templates)
    embedder = TimmEmbedder(
        Backbone(**manifest.backbone.model_dump()), safetensors.torch.load(content[bundle.BACKBONE])
    )
    _compare(stored, graders, embedder, reference)
    new.mkdir(parents=True)
    try:
        for name in weights:
            (new / name).write_bytes(content[name])
        bundle.write_graders(new, graders)
        bundle.write_arrays(new / bundle.TEMPLATES, {"templates": templates["templates"]})
        bundle.write_arrays(new / bundle.REFERENCE, reference)
        converted = bundle.write_manifest(new, manifest.model_copy(update={"format": manifests.FORMAT}))
        _copy_card(old, new, digest, converted)
        bundle.load_bundle(new, converted)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return digest, converted


def _arrays(content: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: np.ascontiguousarray(file[name]) for name in file.files}


def _graders(kind: str, stored: Mapping[str, Any], templates: Mapping[str, Array]) -> LevelGraders:
    return LevelGraders(
        classifiers={Level(name): plain(kind, one) for name, one in stored["classifiers"].items()},
        temperatures={Level(name): float(one) for name, one in stored["temperatures"].items()},
        grades=int(stored["grades"]),
        centre=templates["centre"],
        spread=templates["spread"],
        held_out={Level(name): int(cases) for name, cases in stored.get("held_out", {}).items()},
    )


def _compare(
    stored: Mapping[str, Any], graders: LevelGraders, embedder: TimmEmbedder, reference: Mapping[str, Array]
) -> None:
    """Every level's classifier on every reference crop, before and after."""
    features = embedder.embed((reference["crops"].astype(np.float32) / np.float32(255)).astype(np.float32))
    for name, fitted in stored["classifiers"].items():
        level = Level(name)
        raw = np.zeros((len(features), graders.grades))
        raw[:, fitted.classes_.astype(int)] = fitted.predict_proba(features)
        before = tempered(raw, graders.temperatures[level])
        apart = np.abs(graders.predict_proba(features, [level] * len(features)) - before).max()
        if not apart <= _SAME:
            raise _invalid(f"the grader of {name} would give other probabilities (off by {apart:.2g})")


def _copy_card(old: Path, new: Path, before: str, after: str) -> None:
    """The card for people names the digest."""
    card = old / "CARD.md"
    if card.is_file():
        (new / card.name).write_text(card.read_text().replace(before, after))


def _invalid(message: str) -> Misconfigured:
    return Misconfigured(f"models convert: {message}", Reason.BUNDLE_INVALID)
