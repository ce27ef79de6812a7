"""`make demo` is the first thing anybody sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread

pytestmark = pytest.mark.peers


def demo(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "cauda.deploy", "demo", "--out", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=240)


def lives(data: Path) -> list[str]:
    """Command lines of processes that name the data folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(data) in words:
            found.append(" ".join(words))
    return found


def test_it_shows_a_line_a_level_and_where_the_results_lie(tmp_path: Path) -> None:
    """Also where no bundle is installed: then every level says why it is not graded. Twice in one folder is fine."""
    for bundle, said in (("none", "NOT GRADED: no grading model installed"), ("starter", "")):
        done = demo(tmp_path / "out", "--bundle", bundle)
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert ("REPORTED by starter" in done.stdout) == (bundle == "starter")
        for level in ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"):
            assert f"\n{level}  {said}" in done.stdout
        files = [Path(word) for word in done.stdout.split() if word.endswith((".dcm", ".png"))]
        assert [path.suffix for path in files] == [".dcm", ".dcm", ".png"]
        assert dcmread(files[0]).Modality == "SR"
        assert Image.open(files[2]).size == (dcmread(files[1]).Columns, dcmread(files[1]).Rows)
        assert str(dcmread(files[1]).PatientName).startswith("PHANTOM^CAUDA")
        assert not lives(tmp_path / "out" / "data")


def test_a_node_that_cannot_start_is_said_with_its_log(tmp_path: Path) -> None:
    done = demo(tmp_path / "out", "--bundle", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert str(tmp_path / "out" / "cauda.log") in done.stderr
    assert "Traceback" not in done.stderr
