"""The process that listens is made ready before it says so."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cauda.deploy.cli import app
from cauda.listener import serve


@pytest.fixture
def thawed() -> Iterator[None]:
    """What a test freezes is garbage collected again after it."""
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_what_is_loaded_is_not_searched_for_garbage_while_senders_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything would be searched again and again: a tenth of a second in which nobody is answered."""
    frozen: list[int] = []

    def run(*_: Any, on_ready: Any) -> None:
        on_ready(serve.Ports(dimse=1, http=2))
        frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(serve, "run", run)
    said = CliRunner().invoke(app, ["listen", "--data", str(tmp_path), "--bundle", "none"])
    assert said.exit_code == 0, said.output
    assert frozen[0] > 0
    assert len(gc.get_objects()) < frozen[0], "most of what there is"
