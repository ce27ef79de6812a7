"""Apply each listed edit of a safety guard and check that its test notices (`make mutants`).

A list entry (tests/mutants/*.toml) names the guard, the file, the exact text (once in that file), its replacement and
the test that must fail. Edits are made in a copy of the tree, never in the checkout. Verdicts are kept in a log, keyed
by what they depend on, so a run that was stopped goes on where it ended. Exit 0: every edit was noticed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_IGNORED = shutil.ignore_patterns(".venv", ".git", ".typings", "out", "build", "dist", "__pycache__", ".*_cache")
_NOTICED, _UNNOTICED, _NO_TEST = "noticed", "UNNOTICED", "TEST DOES NOT PASS WITHOUT THE EDIT"
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One guard, the edit that removes or weakens it, and the test that must fail then."""

    area: str
    guard: str
    file: str
    old: str
    new: str
    test: str

    def key(self) -> str:
        """Changes with the edit, the edited file and the test's file."""
        digest = hashlib.sha256()
        for part in (self.guard, self.old, self.new, self.test):
            digest.update(part.encode() + b"\0")
        for path in (self.file, self.test.partition("::")[0]):
            digest.update((_ROOT / path).read_bytes())
        return digest.hexdigest()[:16]


def read_edits(folder: Path, only: Sequence[str] = ()) -> list[Edit]:
    """Every entry of the lists, in order; raises ValueError for one that names no file, text or test."""
    edits = []
    for path in sorted(folder.glob("*.toml")):
        if only and path.stem not in only:
            continue
        edits += [Edit(area=path.stem, **entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["edit"]]
    for edit in edits:
        if why := _misfit(edit):
            raise ValueError(f"{edit.area}.toml, {edit.guard!r}: {why}")
    return edits


def _misfit(edit: Edit) -> str | None:
    file, test = _ROOT / edit.file, _ROOT / edit.test.partition("::")[0]
    if not file.is_file():
        return f"no file {edit.file}"
    if not test.is_file():
        return f"no file {edit.test}"
    count = file.read_text(encoding="utf-8").count(edit.old)
    if count != 1:
        return f"its text stands {count} times in {edit.file}, not once"
    name = edit.test.rpartition("::")[2].partition("[")[0]
    if f"def {name}(" not in test.read_text(encoding="utf-8"):
        return f"no test {name} in {test.name}"
    return None if edit.old != edit.new else "it changes nothing"


def _copied(scratch: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the tree, and an environment in which `import cauda` and its processes take that copy."""
    tree = scratch / "tree"
    shutil.copytree(_ROOT, tree, ignore=_IGNORED, symlinks=True)
    (scratch / "path").mkdir()
    (scratch / "path" / "cauda").symlink_to(tree)
    data = os.environ.get("CAUDA_REALDATA") or str(_ROOT.parent / "shared" / "data")
    return tree, {**os.environ, "PYTHONPATH": str(scratch / "path"), "CAUDA_REALDATA": data, "CI": "true"}


def _passes(tree: Path, environment: dict[str, str], test: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and " passed" in done.stdout


def _verdicts(edits: Sequence[Edit], known: dict[str, str], scratch: Path) -> Iterator[tuple[Edit, str]]:
    tree, environment = _copied(scratch)
    sound: dict[str, bool] = {}
    for edit in edits:
        if (verdict := known.get(edit.key())) is not None:
            yield edit, verdict
            continue
        if edit.test not in sound:
            sound[edit.test] = _passes(tree, environment, edit.test)
        if not sound[edit.test]:
            yield edit, _NO_TEST
            continue
        path = tree / edit.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
        try:
            verdict = _UNNOTICED if _passes(tree, environment, edit.test) else _NOTICED
        finally:
            path.write_text(text, encoding="utf-8")
        yield edit, verdict


def main() -> int:
    """Run the edits that have no verdict yet; print one line an edit and the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="AREA", help="names of lists in tests/mutants")
    parser.add_argument("--log", type=Path, default=_ROOT / "out" / "mutants.jsonl", help="verdicts, kept over runs")
    arguments = parser.parse_args()
    edits = read_edits(_HERE, arguments.only)
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.log.read_text(encoding="utf-8").splitlines() if arguments.log.exists() else []
    known = {row["key"]: row["verdict"] for row in map(json.loads, lines) if row["verdict"] == _NOTICED}
    counts = dict.fromkeys((_NOTICED, _UNNOTICED, _NO_TEST), 0)
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        for edit, verdict in _verdicts(edits, known, Path(scratch)):
            counts[verdict] += 1
            print(f"{verdict}: {edit.area}: {edit.guard}", flush=True)
            row = {"key": edit.key(), "area": edit.area, "guard": edit.guard, "test": edit.test, "verdict": verdict}
            with arguments.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
    print(f"{len(edits)} edits: " + ", ".join(f"{count} {verdict.lower()}" for verdict, count in counts.items()))
    return 0 if counts[_NOTICED] == len(edits) else 1


if __name__ == "__main__":
    sys.exit(main())
