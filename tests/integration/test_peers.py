"""The tests' own peers are the programs that are meant, whatever stands before them on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import program

pytestmark = pytest.mark.peers


def test_a_program_of_the_same_name_on_the_path_does_not_hide_dcmtks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pynetdicom brings a `storescu` into the virtual environment, which has other options."""
    for name in ("storescu", "storescp", "echoscu"):
        script = tmp_path / name
        script.write_text(f"#!{sys.executable}\nprint('{name}.py v1')\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        found = program.__wrapped__(name)
        assert found != str(script)
        assert "$dcmtk" in subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout


def test_a_program_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="no-such-program is not installed"):
        program.__wrapped__("no-such-program")
