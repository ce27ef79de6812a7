"""Each edit listed for `make mutants` still fits the code: its text stands once in its file, and its test exists."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "mutants"


def test_every_listed_edit_fits_its_file_and_names_an_existing_test() -> None:
    spec = importlib.util.spec_from_file_location("mutants_run", _FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = runner
    spec.loader.exec_module(runner)
    runner.read_edits(_FOLDER)
