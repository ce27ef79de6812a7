"""A bundle's manifest, `bundle.toml`: what it is, and the hash of every file in it. Read without torch."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cauda.core.domain import BundleInfo, GradeScale, Reason
from cauda.core.errors import Misconfigured

NAME = "bundle.toml"


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
        raise Misconfigured(f"grading.bundle: no {NAME} in {folder}", Reason.BUNDLE_INVALID) from error
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"grading.bundle: {path} is not a manifest ({error})", Reason.BUNDLE_INVALID) from error
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


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Raise Misconfigured unless every listed file is there, unchanged, and directly in the folder."""
    for name, expected in manifest.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.is_symlink():
            raise Misconfigured(f"grading.bundle: {name} is not a file in {folder}", Reason.BUNDLE_INVALID)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise Misconfigured(f"grading.bundle: {path} is not the file that was released", Reason.BUNDLE_INVALID)


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
