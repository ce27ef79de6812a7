"""A study that takes more memory than it may: it fails with its reason, and others are graded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders
import pytest
from worker_house import House, house

from cauda.core.errors import Misconfigured
from cauda.pipeline.analyse import Analysis
from cauda.worker import child, revision
from cauda.worker.grade import grade_next

_LIMITED = """
import sys
from cauda.worker.child import is_out_of_memory, limit_memory
limit_memory(2 << 30)
try:
    {allocate}
except Exception as error:
    sys.exit(10 if is_out_of_memory(error) else 11)
"""


@pytest.mark.parametrize(
    ("allocate", "status"),
    [
        ("held = bytearray(3 << 30)", 10),
        ("import numpy; held = numpy.ones(3 << 30, 'u1')", 10),
        ("import torch; held = torch.ones(3 << 28)", 10),
        ("held = bytearray(1 << 28)", 0),
        ("raise RuntimeError('another error')", 11),
    ],
)
def test_a_process_that_grades_holds_no_more_than_it_may(allocate: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED.format(allocate=allocate)], check=False, timeout=120)
    assert done.returncode == status


def test_a_limit_below_what_the_bundle_takes_is_a_wrong_setting() -> None:
    with pytest.raises(Misconfigured) as caught:
        child.limit_memory(1 << 20)
    assert "grading.memory_bytes" in caught.value.message


def test_a_study_beyond_the_limit_fails_with_its_reason_and_the_next_is_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at: House = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    large = at.complete(builders.mr_study(1))
    analyse: Callable[..., Analysis] = vars(revision)["analyse_study"]

    def analysed(study_uid: str, *arguments: Any) -> Analysis:
        if study_uid == large:
            raise MemoryError
        return analyse(study_uid, *arguments)

    monkeypatch.setattr(revision, "analyse_study", analysed)
    other = at.complete(builders.mr_study(2))
    while grade_next(at.post()):
        pass
    ends = {row["study_uid"]: (row["state"], row["reason"]) for row in at.rows("revision")}
    assert ends == {large: ("failed", "out_of_memory"), other: ("reported", None)}
    (failed,) = (row for row in at.rows("revision") if row["study_uid"] == large)
    assert "grading.memory_bytes" in failed["reason_text"]
