"""The folders' order, and what may be loaded by whom (DESIGN.md 1)."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = {"torch", "torchvision", "timm", "sklearn", "joblib", "skimage", "highdicom"}


def loaded(*modules: str) -> set[str]:
    """Top-level names in sys.modules after importing the modules in a fresh interpreter."""
    body = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", body], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def modules_of(folder: str) -> list[str]:
    return [
        "cauda." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "__main__.py" and "migrations" not in path.parts
    ]


def test_the_listener_loads_nothing_heavy() -> None:
    """It must start in a moment and stay small, whatever grades."""
    assert not loaded(*modules_of("listener")) & (HEAVY | {"scipy"})


def test_core_loads_nothing_heavy() -> None:
    assert not loaded(*modules_of("core")) & (HEAVY | {"scipy", "pynetdicom", "starlette"})


def test_the_command_line_loads_nothing_heavy() -> None:
    """`cauda studies list` answers at once."""
    assert not loaded("cauda.deploy.cli") & HEAVY


def test_a_manifest_is_read_without_torch() -> None:
    """The listener's process computes the bundle's digest (DESIGN.md 1)."""
    assert not loaded("cauda.models.manifest") & HEAVY


def test_the_pipeline_loads_no_torch_and_no_queue() -> None:
    assert not loaded(*modules_of("pipeline")) & {"torch", "timm", "sklearn", "joblib", "celery", "sqlalchemy"}


@pytest.mark.parametrize("folder", ["core", "archive", "pipeline", "models", "worker", "listener", "deploy"])
def test_the_layer_contracts_cover_every_folder(folder: str) -> None:
    """A folder that import-linter does not know is not checked."""
    assert f"cauda.{folder}" in PYPROJECT["tool"]["importlinter"]["root_packages"]


def test_the_layers_hold() -> None:
    """import-linter's verdict; `make lint` says the same with more words."""
    tool = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_both_names_of_a_module_are_never_used() -> None:
    """`core.domain` and `cauda.core.domain` would be two modules with two sets of classes."""
    short = {"core", "archive", "pipeline", "models", "worker", "listener", "deploy"}
    assert short <= set(PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])
    assert not loaded(*modules_of("core"), "cauda.deploy.cli") & short
