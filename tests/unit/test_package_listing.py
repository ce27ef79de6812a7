"""An unlisted sub-package or data file works in editable mode and is missing from the wheel (DESIGN.md 1)."""

from __future__ import annotations

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FOLDERS = ("core", "archive", "pipeline", "models", "worker", "listener", "deploy")


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "--", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listing.stdout.splitlines()]


def test_every_package_is_listed() -> None:
    packages = {"cauda." + ".".join(path.parent.parts) for path in tracked() if path.suffix == ".py"}
    assert packages == set(SETUPTOOLS["packages"])


def test_every_package_has_an_init() -> None:
    """Without one, mypy and setuptools see another tree than Python."""
    files = set(tracked())
    assert {path.parent for path in files if path.suffix == ".py"} == {
        p.parent for p in files if p.name == "__init__.py"
    }


def test_every_data_file_is_listed() -> None:
    data = SETUPTOOLS["package-data"]
    missing = []
    for path in tracked():
        if path.suffix == ".py":
            continue
        owners = [path.parents[n] for n in range(len(path.parents) - 1)]
        fits = any(
            fnmatch(str(path.relative_to(owner)), pattern)
            for owner in owners
            for pattern in (*data.get("cauda." + ".".join(owner.parts), ()), *data["*"])
        )
        if not fits:
            missing.append(str(path))
    assert not missing


def test_what_a_pattern_names_exists() -> None:
    """A pattern that matches nothing is a promise that nobody keeps."""
    names = [str(path) for path in tracked()]
    for package, patterns in SETUPTOOLS["package-data"].items():
        folder = package.removeprefix("cauda.").replace(".", "/")
        for pattern in patterns:
            where = pattern if package == "*" else f"{folder}/{pattern}"
            assert any(fnmatch(name, where if package != "*" else f"*/{pattern}") for name in names), where


def test_runtime_dependencies_are_not_test_tools() -> None:
    """A hospital installs what runs."""
    names = " ".join(PYPROJECT["project"]["dependencies"])
    assert not any(tool in names for tool in ("pytest", "mypy", "ruff", "hypothesis", "lightgbm"))


def test_constraints_pin_every_direct_dependency_and_name_no_place() -> None:
    """What CI tests is written down, and can be had from any registry."""
    text = (ROOT / "constraints.txt").read_text()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in text.splitlines() if "==" in line}
    assert "://" not in text
    assert "@ " not in text
    wanted = [*PYPROJECT["project"]["dependencies"]]
    for extra in PYPROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    names = {dependency.partition(">=")[0].partition("[")[0].lower() for dependency in wanted}
    assert names <= pinned
