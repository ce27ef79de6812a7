"""Somebody sets the machine's clock while a study is being received: it is noticed and said, and no wait is shorter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from builders import mr_study
from harness import QUICK, Node, Sender, assert_each_once, node, settled
from needs import absent
from peers import own_folder, postgres, until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

SOURCE = Path(__file__).parents[1] / "clock_step.c"


@contextmanager
def settable_clock(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a process whose clock `set_clock` sets."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        absent("no C compiler")
    library = folder / "clock_step.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    set_clock(folder, 0)
    yield {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(folder / "step")}


def set_clock(folder: Path, seconds: int) -> None:
    """Set the clock so far from the true time."""
    (folder / "step.new").write_text(str(seconds))
    (folder / "step.new").rename(folder / "step")


def doctor(house: Node, env: dict[str, str]) -> str:
    """What `cauda doctor` says of the clock."""
    argv = [sys.executable, "-P", "-m", "cauda.deploy", "doctor", "--data", str(house.data)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=house.data.parent,
                          env={**os.environ, **QUICK, **house.env, **env})  # fmt: skip
    return next(line for line in done.stdout.splitlines() if " clock " in f" {line} ")


@pytest.mark.parametrize(("step_s", "ledger"), [(-3600, "sqlite"), (3600, "sqlite"), (3600, "postgresql")])
def test_a_step_of_the_clock_shortens_no_wait_and_lengthens_none(tmp_path: Path, step_s: int, ledger: str) -> None:
    """Two series with a step between them, a wait that the second comes within, and an end without another step."""
    study = mr_study(f"clock {step_s} {ledger}")
    name, half = str(study[0].StudyInstanceUID), len(study) // 2
    with settable_clock(tmp_path) as env, ExitStack() as opened:
        options = {}
        if ledger == "postgresql":
            server = opened.enter_context(postgres())  # whose own clock stays: only the listener's machine is wrong
            options = {"postgres": server}
            env["CAUDA_LEDGER_URL"] = server.database()
        waits = {"CAUDA_COMPLETENESS__AFTER_RELEASE_S": "8", "CAUDA_COMPLETENESS__QUIET_S": "60"}
        house = opened.enter_context(node(tmp_path / "data", f"folder:{tmp_path / 'out'}", env=env | waits, **options))
        sender = Sender(house.port)
        sender.insist(study[:half])
        until(lambda: house.one("SELECT released_at FROM study") not in {"", "None"}, 20, "released")
        set_clock(tmp_path, step_s)
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 4, 10, "most of the wait is over", every=0.2)
        assert house.one("SELECT state FROM study") == "receiving"
        if ledger == "sqlite":
            until(lambda: house.said("clock_stepped"), 20, "it is said in the log")
            assert "by 3600 s" in str(json.loads(house.get("/readyz")[1])["notes"])
            assert f"{'forward' if step_s > 0 else 'back'} by 3600 s" in doctor(house, env)
        sender.insist(study[half:])
        settled(house, [name], 2)
        assert_each_once(house, sender, [name], tmp_path / "out")
        frozen = house.one("SELECT count(*) FROM revision_input")
        assert int(frozen) == len(study)
        assert len(house.said("clock_stepped")) == (ledger == "sqlite")


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_step_of_a_database_servers_clock_is_noticed_by_who_asks_it(tmp_path: Path, step_s: int) -> None:
    """PostgreSQL's clock is the ledger's, on whatever machine it runs."""
    study = mr_study(f"database clock {step_s}")
    name, half = str(study[0].StudyInstanceUID), len(study) // 2
    with (
        own_folder("clock") as folder,
        settable_clock(folder) as env,
        pytest.MonkeyPatch.context() as patch,
        ExitStack() as opened,
    ):
        folder.chmod(0o755)  # the server runs as another user
        for key, value in env.items():
            patch.setenv(key, value)
        server = opened.enter_context(postgres())
        for key in env:
            patch.delenv(key)
        waits = {"CAUDA_COMPLETENESS__AFTER_RELEASE_S": "8", "CAUDA_COMPLETENESS__QUIET_S": "60"}
        house = opened.enter_context(
            node(tmp_path / "data", f"folder:{tmp_path / 'out'}", postgres=server,
                 env=waits | {"CAUDA_LEDGER_URL": server.database()})
        )  # fmt: skip
        true_time = float(server.sql("SELECT extract(epoch FROM clock_timestamp())"))
        sender = Sender(house.port)
        sender.insist(study[:half])
        until(lambda: house.one("SELECT released_at FROM study") not in {"", "None"}, 20, "released")
        set_clock(folder, step_s)
        assert abs(float(server.sql("SELECT extract(epoch FROM clock_timestamp())")) - true_time - step_s) < 60
        until(lambda: house.said("clock_stepped"), 20, "it is said in the log")
        assert house.one("SELECT state FROM study") == "receiving"
        sender.insist(study[half:])
        settled(house, [name], 2)
        assert int(house.one("SELECT count(*) FROM revision_input")) == len(study)
        assert house.one("SELECT count(*) FROM event WHERE kind = 'clock_stepped'") == "1"
