"""A bundle's manifest, `bundle.toml`: what it is, and the hash of every file in it. Read without torch."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cauda.core.domain import BundleInfo, GradeScale, Reason
from cauda.core.errors import Misconfigured

NAME = "bundle.toml"
FORMAT = 2  # 1 kept its graders as a pickle, which can run code when it is loaded
ABSTENTION = "abstention_"  # of a grade's rate in the evaluation
MAX_RATIO = 1.5  # of the Severe rate of abstention to the Normal/Mild one (CLINICAL.md 12)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneSpec(_Part):
    """How the embedding network is made and fed."""

    name: str
    size_px: int
    channels: int = 1
    mean: float = 0.5
    std: float = 0.5
    field: float = 1.0


class PreprocessingSpec(_Part):
    """Constants that travel with the weights; see `cauda.pipeline.parts.Preprocessing`."""

    crop_mm: float
    crop_px: int
    noise_ssim_min: float
    max_distance: float
    set_coverage: float
    uncertain_below: float


class Manifest(_Part):
    """The whole manifest."""

    format: int = 1
    name: str
    version: str
    clinical: bool
    scale: GradeScale
    conditions: tuple[str, ...]
    footer: str
    intended_use: str
    exclusions: str
    training_data: tuple[str, ...]
    grader: str
    backbone: BackboneSpec
    preprocessing: PreprocessingSpec
    evaluation: dict[str, float] = Field(default_factory=dict)
    libraries: dict[str, str]
    files: dict[str, str]  # name -> SHA-256


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest of a bundle folder and its digest: the SHA-256 of the manifest's bytes, which name every hash."""
    path = folder / NAME
    try:
        content = path.read_bytes()
        manifest = Manifest(**tomllib.loads(content.decode()))
    except FileNotFoundError as error:
        raise _invalid(f"grading.bundle: no {NAME} in {folder}") from error
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(f"grading.bundle: {path} is not a manifest ({error})") from error
    return manifest, hashlib.sha256(content).hexdigest()


def info(manifest: Manifest, digest: str) -> BundleInfo:
    """What results say of a bundle."""
    return BundleInfo(
        name=manifest.name,
        version=manifest.version,
        digest=digest,
        scale=manifest.scale,
        clinical=manifest.clinical,
        footer=manifest.footer,
    )


def check_served(folder: Path, manifest: Manifest, digest: str, pinned: str | None) -> None:
    """Raise Misconfigured(bundle_invalid) for a bundle that may not grade, by its manifest alone.

    ``pinned`` is the digest that the settings name. A bundle that calls itself clinical needs one: its results go to
    live archives without the word RESEARCH, and another bundle in its place must not.
    """
    if pinned is not None and digest != pinned:
        raise _invalid(f"grading.bundle_digest: {folder} has the digest {digest}, not {pinned}")
    if manifest.clinical and pinned is None:
        raise _invalid(f'grading.bundle_digest: {folder} is marked clinical; pin it: bundle_digest = "{digest}"')
    check_format(folder, manifest)
    if why := withholds_disease(manifest):
        raise _invalid(f"grading.bundle: {folder} {why}")


def check_format(folder: Path, manifest: Manifest) -> None:
    """Raise Misconfigured(bundle_invalid) for a bundle in the form of another version."""
    if manifest.format < FORMAT:
        raise _invalid(
            f"grading.bundle: {folder} has an old form, which can run code when it is loaded. If you trust where it "
            f"comes from: cauda models convert {folder} NEW_FOLDER --trust-pickle"
        )
    if manifest.format > FORMAT:
        raise _invalid(f"grading.bundle: {folder} has the form {manifest.format}; this version reads {FORMAT}")


def withholds_disease(manifest: Manifest) -> str | None:
    """Why the bundle's own evaluation forbids to serve it (CLINICAL.md 12); None when it does not."""
    rates = [manifest.evaluation.get(f"{ABSTENTION}{name}") for name in ("normal_mild", "severe")]
    mild, severe = (rate if rate is not None and 0 <= rate <= 1 else None for rate in rates)  # TOML has nan and inf
    if mild is None or severe is None:
        return "does not say how often it abstains by grade"
    if severe > MAX_RATIO * mild:
        return (
            f"withholds {severe:.1%} of Severe levels and {mild:.1%} of Normal/Mild ones; "
            f"at most {MAX_RATIO} times as many are allowed"
        )
    return None


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Raise Misconfigured unless every listed file is there, unchanged, and directly in the folder."""
    for name in manifest.files:
        with _opened(folder, name) as file:
            _check_hash(folder, name, manifest, hashlib.file_digest(file, "sha256").hexdigest())


def read_files(folder: Path, manifest: Manifest, names: Iterable[str]) -> dict[str, bytes]:
    """The bytes of files, read once and hashed: what is loaded is what was checked, whatever the disk holds later.

    Raises Misconfigured for one that the manifest does not list, or that is not what it lists.
    """
    read = {}
    for name in names:
        if name not in manifest.files:
            raise _invalid(f"grading.bundle: {folder / NAME} does not list {name}")
        with _opened(folder, name) as file:
            read[name] = file.read()
        _check_hash(folder, name, manifest, hashlib.sha256(read[name]).hexdigest())
    return read


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[io.BufferedReader]:
    """A regular file directly in the folder; no link is followed, and a pipe is not waited for."""
    problem = _invalid(f"grading.bundle: {name} is not a file in {folder}")
    if Path(name).name != name:
        raise problem
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise problem from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise problem
        yield file


def _check_hash(folder: Path, name: str, manifest: Manifest, found: str) -> None:
    if found != manifest.files[name]:
        raise _invalid(f"grading.bundle: {folder / name} is not the file that was released")


def _invalid(message: str) -> Misconfigured:
    return Misconfigured(message, Reason.BUNDLE_INVALID)


def to_toml(manifest: Manifest) -> str:
    """The manifest as TOML: scalars first, then one table a mapping."""
    fields: dict[str, Any] = manifest.model_dump(mode="json")
    tables = {key: value for key, value in fields.items() if isinstance(value, dict)}
    lines = [f"{key} = {_value(value)}" for key, value in fields.items() if key not in tables]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(f"{_key(name)} = {_value(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
