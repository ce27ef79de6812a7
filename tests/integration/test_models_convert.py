"""Bundles of the old form: refused with the command that converts them, and converted without a changed grade."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import safetensors.numpy

import cauda.models.manifest
from cauda.core.domain import Level, Reason
from cauda.core.errors import Misconfigured
from cauda.models import bundle, convert, manifest
from cauda.models.bundle import load_bundle
from cauda.models.graders import REGISTRY

STARTER = Path(cauda.models.manifest.__file__).parent / "starter"


class _Mark:
    """A pickle that shows that it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def old_bundle(folder: Path, graders: object) -> Path:
    """The starter's networks with these graders, as version 0.1 wrote a bundle."""
    folder.mkdir()
    stored = safetensors.numpy.load((STARTER / bundle.GRADERS).read_bytes())
    templates = safetensors.numpy.load((STARTER / bundle.TEMPLATES).read_bytes())["templates"]
    reference = safetensors.numpy.load((STARTER / bundle.REFERENCE).read_bytes())
    for name in (bundle.LOCALISER, bundle.BACKBONE):
        (folder / name).write_bytes((STARTER / name).read_bytes())
    if isinstance(graders, dict):
        joblib.dump(graders, folder / "graders.joblib", compress=3)
    else:
        (folder / "graders.joblib").write_bytes(pickle.dumps(graders))
    (folder / "templates.npz").write_bytes(npz(centre=stored["centre"], spread=stored["spread"], templates=templates))
    (folder / "reference.npz").write_bytes(npz(**reference))
    hashes = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    stated = manifest.read_manifest(STARTER)[0].model_copy(update={"format": 1, "files": hashes})
    text = manifest.to_toml(stated)
    (folder / manifest.NAME).write_text(text.replace("format = 1\n", ""))
    (folder / "CARD.md").write_text(f"Digest {manifest.read_manifest(folder)[1]}.")
    return folder


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """A process of its own: one forked from this one would inherit torch's threads, and wait for them."""
    argv = [sys.executable, "-m", "cauda.deploy", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    """Graders as scikit-learn makes them, fitted to noise on the starter's features."""
    draw = np.random.default_rng(3)
    features = draw.normal(0, 1, (60, 1280)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifiers = {level.value: REGISTRY["logistic"]().fit(features, np.arange(60) % 3) for level in Level}
    return {
        "classifiers": classifiers,
        "temperatures": {level.value: 0.7 + place / 10 for place, level in enumerate(Level)},
        "grades": 3,
        "held_out": dict.fromkeys((level.value for level in Level), 12),
    }


@pytest.fixture
def old(tmp_path: Path, fitted: dict[str, Any]) -> Path:
    """A bundle of the old form whose reference probabilities are its own."""
    folder = old_bundle(tmp_path / "old", fitted)
    parts = load_bundle(STARTER)
    reference = safetensors.numpy.load((STARTER / bundle.REFERENCE).read_bytes())
    crops = (reference["crops"].astype(np.float32) / np.float32(255)).astype(np.float32)
    features = parts.embedder.embed(crops)
    expected = []
    for row, place in zip(features, reference["levels"], strict=True):
        level = list(Level)[place].value
        p = fitted["classifiers"][level].predict_proba(row[None])[0].astype(np.float64)
        tempered = np.clip(p, 1e-9, 1) ** (1 / fitted["temperatures"][level])
        expected.append(tempered / tempered.sum())
    (folder / "reference.npz").write_bytes(npz(**{**reference, "probabilities": np.array(expected)}))
    stated, _ = manifest.read_manifest(folder)
    files = stated.files | {"reference.npz": sha256((folder / "reference.npz").read_bytes()).hexdigest()}
    (folder / manifest.NAME).write_text(manifest.to_toml(stated.model_copy(update={"files": files})))
    (folder / "CARD.md").write_text(f"Digest {manifest.read_manifest(folder)[1]}.")
    return folder


def test_the_old_form_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    """Nothing in it is read as a pickle, though every hash is right."""
    folder = old_bundle(tmp_path / "old", _Mark(tmp_path / "was read"))
    with pytest.raises(Misconfigured, match=r"cauda models convert .* --trust-pickle") as caught:
        load_bundle(folder, manifest.read_manifest(folder)[1])
    assert caught.value.reason is Reason.BUNDLE_INVALID
    assert not (tmp_path / "was read").exists()


def test_a_manifest_that_lies_about_its_form_reads_no_pickle(tmp_path: Path) -> None:
    folder = old_bundle(tmp_path / "old", _Mark(tmp_path / "was read"))
    text = (folder / manifest.NAME).read_text()
    (folder / manifest.NAME).write_text(f"format = 2\n{text}")
    with pytest.raises(Misconfigured, match=r"graders\.joblib"):
        load_bundle(folder)
    (folder / bundle.GRADERS).write_bytes((folder / "graders.joblib").read_bytes())
    stated, _ = manifest.read_manifest(folder)
    for new, kept in ((bundle.TEMPLATES, "templates.npz"), (bundle.REFERENCE, "reference.npz")):
        (folder / new).write_bytes((folder / kept).read_bytes())
    files = {name: sha256((folder / name).read_bytes()).hexdigest() for name in bundle.FILES}
    (folder / manifest.NAME).write_text(manifest.to_toml(stated.model_copy(update={"files": files})))
    with pytest.raises(Misconfigured, match="does not hold"):
        load_bundle(folder)
    assert not (tmp_path / "was read").exists()


def test_converting_needs_a_word_of_trust(tmp_path: Path) -> None:
    folder = old_bundle(tmp_path / "old", _Mark(tmp_path / "was read"))
    done = command("models", "convert", folder, tmp_path / "new")
    assert (done.returncode, "--trust-pickle" in done.stderr) == (2, True)
    assert not (tmp_path / "was read").exists()
    assert not (tmp_path / "new").exists()


def test_a_changed_byte_is_found_before_anything_is_unpickled(tmp_path: Path) -> None:
    folder = old_bundle(tmp_path / "old", {"classifiers": {}})
    (folder / "graders.joblib").write_bytes(pickle.dumps(_Mark(tmp_path / "was read")))
    with pytest.raises(Misconfigured, match=r"graders\.joblib"):
        convert.convert(folder, tmp_path / "new")
    assert not (tmp_path / "was read").exists()


def test_another_old_bundle_than_the_pinned_one_is_not_converted(old: Path, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="digest"):
        convert.convert(old, tmp_path / "new", "0" * 64)
    assert not (tmp_path / "new").exists()


def test_a_converted_bundle_grades_as_before(old: Path, tmp_path: Path, fitted: dict[str, Any]) -> None:
    done = command("models", "convert", old, tmp_path / "new", "--trust-pickle")
    assert done.returncode == 0, done.stderr
    before, after = manifest.read_manifest(old), manifest.read_manifest(tmp_path / "new")
    assert after[1] in done.stdout
    assert before[0].model_dump(exclude={"format", "files"}) == after[0].model_dump(exclude={"format", "files"})
    assert (tmp_path / "new" / "CARD.md").read_text() == f"Digest {after[1]}."
    parts = load_bundle(tmp_path / "new", after[1])
    features = np.random.default_rng(8).normal(0, 1, (40, 1280)).astype(np.float32)
    for level in Level:
        p = fitted["classifiers"][level.value].predict_proba(features).astype(np.float64)
        tempered = np.clip(p, 1e-9, 1) ** (1 / fitted["temperatures"][level.value])
        expected = tempered / tempered.sum(axis=1, keepdims=True)
        assert np.abs(parts.grader.predict_proba(features, [level] * 40) - expected).max() < 1e-9
    assert "12 a level" in parts.info.calibration


def test_a_bundle_that_may_not_be_served_leaves_nothing_behind(old: Path, tmp_path: Path) -> None:
    stated, _ = manifest.read_manifest(old)
    withholding = stated.evaluation | {"abstention_severe": 0.9}
    (old / manifest.NAME).write_text(manifest.to_toml(stated.model_copy(update={"evaluation": withholding})))
    with pytest.raises(Misconfigured, match="Severe"):
        convert.convert(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_grader_process_never_loads_what_can_unpickle() -> None:
    """The module that converts is not imported where bundles are loaded to grade."""
    program = (
        "import sys; from pathlib import Path; import cauda.models.manifest as m; from cauda.models.bundle import "
        "load_bundle; load_bundle(Path(m.__file__).parent / 'starter'); sys.exit('cauda.models.convert' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0
