"""Install the built wheel beside nothing of the checkout, compare its content with git, run the unit suite on it.

Run by `make wheel-test`: ``python tests/wheel.py DIST [OPTIONS OF PYTEST]``. The dependencies are those of the running
environment.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "archive", "pipeline", "models", "worker", "listener", "deploy")


def compare(wheel: Path) -> None:
    """The wheel holds exactly the tracked files of the packages."""
    listing = subprocess.run(["git", "ls-files", "--", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {f"cauda/{name}" for name in listing.stdout.splitlines() if (ROOT / name).exists()}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if missing := tracked - held:
        sys.exit(f"missing from the wheel (packages, package-data): {sorted(missing)}")
    if extra := held - tracked:
        sys.exit(f"in the wheel and not in git: {sorted(extra)}")
    print(f"{wheel.name}: {len(held)} files, as in git")


def install(wheel: Path, place: Path) -> Path:
    """An environment with the wheel and, by path, this environment's dependencies; returns its Python."""
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    purelib = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True,
            check=True,
        ).stdout.strip()
    )  # fmt: skip
    # A path in a .pth file does not have its own .pth files read: the editable checkout stays out.
    (purelib / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(purelib), str(wheel)]
    subprocess.run(pip, check=True)
    return python


def main() -> None:
    """Compare, install, test."""
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    compare(wheel)
    with tempfile.TemporaryDirectory() as folder:
        python = install(wheel, Path(folder) / "venv")
        where = subprocess.run(
            [python, "-P", "-c", "import cauda.core; print(cauda.core.__file__)"], capture_output=True, text=True,
            check=True, cwd=folder,
        ).stdout.strip()  # fmt: skip
        if not where.startswith(folder):
            sys.exit(f"the checkout is imported instead of the wheel: {where}")
        suite = [python, "-P", "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), str(ROOT / "tests" / "unit")]
        suite += sys.argv[2:]
        sys.exit(subprocess.run(suite, check=False, cwd=folder).returncode)


if __name__ == "__main__":
    main()
