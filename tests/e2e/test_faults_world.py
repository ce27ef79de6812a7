"""The world fails around Cauda and comes back: nothing lost, nothing twice, nothing stuck, nothing polling hot."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from builders import mr_study, write
from dicom_peers import orthanc, storescp, storescu
from harness import Sender, assert_each_once, cpu_seconds, node, pids_below, prepared, settled
from peers import Postgres, postgres, redis_server, until
from pydicom import Dataset

pytestmark = pytest.mark.peers


def studies_of(seed: str, count: int) -> tuple[list[list[Dataset]], list[str]]:
    """Some studies and their UIDs."""
    made = [mr_study(f"{seed} {n}") for n in range(count)]
    return made, [str(study[0].StudyInstanceUID) for study in made]


@pytest.mark.timeout(900)
def test_redis_wiped_stopped_and_restarted(tmp_path: Path) -> None:
    """The broker is a doorbell: what it forgets, the ledger knows."""
    studies, names = studies_of("redis", 4)
    data, out = tmp_path / "data", f"folder:{tmp_path / 'out'}"
    with redis_server() as redis, ExitStack() as nodes:
        env = {"CAUDA_BROKER_URL": redis.url}
        listener = nodes.enter_context(node(data, out, command=("listen",), env=env))
        worker = nodes.enter_context(node(data, out, command=("work",), env=env))
        sender = Sender(listener.port)
        sender.insist(studies[0])
        settled(listener, names[:1], 2)
        redis.flush()
        sender.insist(studies[1])
        redis.flush()
        settled(listener, names[:2], 2)
        redis.stop()
        sender.insist(studies[2])
        completed = f"SELECT complete_reason FROM study WHERE uid = '{names[2]}'"
        until(lambda: listener.one(completed) != "", 30, "the listener goes on without the broker")
        redis.start()
        settled(listener, names[:3], 2)
        redis.pause()
        sender.insist(studies[3])
        until(lambda: listener.one(completed.replace(names[2], names[3])) != "", 60, "nor does a broker that hangs")
        redis.resume()
        settled(listener, names, 2)
        assert_each_once(listener, sender, names, tmp_path / "out")
        assert worker.stop() == 0
        assert listener.stop() == 0


def ledger_env(server: Postgres) -> dict[str, str]:
    """A fresh database as the ledger, in the environment."""
    return {"CAUDA_LEDGER_URL": server.database()}


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL that a test may stop."""
    with postgres() as made:
        yield made


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["stopped", "crashed"])
def test_postgres_gone_for_a_while(tmp_path: Path, server: Postgres, how: str) -> None:
    """The listener goes on landing and acknowledging; when the ledger is back, everything follows."""
    studies, names = studies_of(f"postgres {how}", 3)
    env = ledger_env(server)
    with node(tmp_path / "data", f"folder:{tmp_path / 'out'}", env=env, postgres=server) as house:
        sender = Sender(house.port)
        sender.insist(studies[0])
        settled(house, names[:1], 2)
        before = sum(cpu_seconds(pid) for pid in [house.pid, *pids_below(house.pid)])
        server.stop(signal.SIGQUIT if how == "crashed" else signal.SIGINT)
        began = time.monotonic()
        sender.insist(studies[1], timeout=30)
        assert all(status == 0 for status in sender.statuses), "acknowledged while the ledger is away"
        until(lambda: house.said("filing_waits") or house.said("tick_waits"), 30, "it is said that the ledger is away")
        assert house.get("/healthz")[0] == 200
        assert house.get("/readyz")[0] == 503
        until(lambda: time.monotonic() - began > 5, 10, "five seconds without a ledger", every=0.2)
        spent = sum(cpu_seconds(pid) for pid in [house.pid, *pids_below(house.pid)]) - before
        assert spent < 0.7 * (time.monotonic() - began), "no spinning while it is away"
        server.start()
        sender.insist(studies[2])
        settled(house, names, 2)
        assert_each_once(house, sender, names, tmp_path / "out")
        assert house.popen is not None
        assert house.popen.poll() is None, "nobody had to restart it"


@pytest.mark.timeout(900)
def test_two_listeners_and_two_workers_on_one_ledger(tmp_path: Path, server: Postgres) -> None:
    """One shared folder, one PostgreSQL, no broker; then one listener is killed and the other files what it left."""
    studies, names = studies_of("two", 6)
    data, out = tmp_path / "data", f"folder:{tmp_path / 'out'}"
    env = ledger_env(server)
    with ExitStack() as nodes:
        one, two = (
            nodes.enter_context(node(data, out, command=("listen",), env=env, postgres=server)) for _ in range(2)
        )
        workers = [
            nodes.enter_context(node(tmp_path / "data", out, command=("work",), env=env, port=n)) for n in range(2)
        ]
        senders = [Sender(one.port), Sender(two.port)]
        threads = [
            threading.Thread(target=lambda s=sender, mine=studies[n:5:2]: [s.insist(study) for study in mine])
            for n, sender in enumerate(senders)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        prepared(studies[5])
        assert senders[0].attempt(studies[5])
        one.kill()
        settled(two, names, 2, 120)
        both = Sender(0, acknowledged=senders[0].acknowledged | senders[1].acknowledged)
        assert_each_once(two, both, names, tmp_path / "out")
        graders = two.sql("SELECT DISTINCT worker FROM revision WHERE worker IS NOT NULL")
        print(f"graded by {len(graders)} processes")
        for worker in workers:
            assert worker.stop() == 0
        assert two.stop() == 0


@pytest.mark.timeout(900)
def test_a_pacs_that_is_down_hangs_and_comes_back(tmp_path: Path) -> None:
    """Results wait without a flood of attempts, and go when it is back; the order within a study is kept."""
    studies, names = studies_of("pacs", 4)
    with orthanc() as pacs:
        for n, study in enumerate(studies):
            pacs.store(write(study, tmp_path / f"files{n}"))
        pacs.stop()
        env = {"CAUDA_DELIVERY__NETWORK_TIMEOUT_S": "3"}
        with node(tmp_path / "data", pacs.dimse, env=env) as house:
            sender = Sender(house.port)
            for study in studies[:2]:
                sender.insist(study)
            down = "SELECT count(*) FROM delivery WHERE reason = 'destination_down'"
            until(lambda: house.one(down) not in {"", "0"}, 60, "it is down")
            pacs.start()
            settled(house, names[:2], 2)
            pacs.pause()
            for study in studies[2:]:
                sender.insist(study)
            hung = "SELECT count(*) FROM delivery WHERE state IN ('due', 'sent') AND attempt > 0 AND failures > 0"
            until(lambda: house.one(hung) not in {"", "0"}, 60, "it hangs, and that is noticed")
            pacs.resume()
            settled(house, names, 2)
            assert_each_once(house, sender, names)
            for name in names:
                there = sorted(one["sop_uid"] for one in pacs.results(name))
                assert there == sorted(p.stem for p in (house.data / "outbox" / name).iterdir())


@pytest.mark.timeout(900)
def test_an_archive_that_refuses_is_not_asked_again_and_again(tmp_path: Path) -> None:
    """Associations refused: a passing failure, tried with growing waits."""
    studies, names = studies_of("refusing", 2)
    with storescp("--refuse") as pacs, node(tmp_path / "data", pacs.dimse) as house:
        sender = Sender(house.port)
        for study in studies:
            sender.insist(study)
        tried = "SELECT coalesce(sum(attempt), 0) FROM delivery"
        until(lambda: house.one(tried) not in {"", "0"}, 60, "it is tried")
        first = int(house.one(tried))
        time.sleep(5)  # what is measured: attempts in five seconds, with waits of half a second to two
        assert int(house.one(tried)) - first <= 12
        assert house.one("SELECT count(*) FROM delivery WHERE state = 'accepted'") == "0"
        assert len(names) == 2


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB: the ledger's own log may take four of them."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
    mounted = subprocess.run(argv, check=False, capture_output=True)
    if mounted.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("a small disk cannot be mounted")
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.timeout(900)
def test_a_disk_that_fills_up_and_has_room_again(tmp_path: Path, tiny_disk: Path) -> None:
    """A700 with the cause; what was acknowledged before is kept, and afterwards everything goes on by itself."""
    studies, names = studies_of("disk", 2)
    with node(tiny_disk / "data", f"folder:{tmp_path / 'out'}") as house:
        sender = Sender(house.port)
        sender.insist(studies[0])
        settled(house, names[:1], 2)
        ballast = tiny_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        files = write(studies[1], tmp_path / "files")
        refused = storescu(house.port, files[:1], "-R", "-v")
        assert "OutOfResources" in refused.stdout + refused.stderr
        sender.attempt(prepared(studies[1]))
        assert set(sender.statuses[len(studies[0]) :]) == {0xA700}
        assert not (house.data / "studies" / names[1]).exists()
        ballast.unlink()
        sender.insist(studies[1])
        settled(house, names, 2)
        assert_each_once(house, sender, names, tmp_path / "out")


@pytest.mark.timeout(900)
def test_the_floor_of_free_space_is_kept_and_named_to_the_sender(tmp_path: Path) -> None:
    """The Error Comment says why (issue 2)."""
    study = mr_study("floor")
    env = {"CAUDA_LIMITS__MIN_FREE_BYTES": str(1 << 60)}
    with node(tmp_path / "data", command=("listen",), env=env) as house:
        said = storescu(house.port, write(study, tmp_path / "files")[:1], "-R", "-d")
        text = (said.stdout + said.stderr).lower()
        assert "a700" in text
        assert "no room" in text
        assert house.get("/readyz")[0] == 503
        assert not any((house.data / "arrivals").rglob("*.dcm"))


@pytest.mark.timeout(900)
def test_an_idle_node_costs_next_to_nothing(tmp_path: Path) -> None:
    """After some work, and with a destination that is down: nothing polls hot."""
    studies, names = studies_of("idle", 1)
    with node(tmp_path / "data", f"folder:{tmp_path / 'out'}") as house:
        Sender(house.port).insist(studies[0])
        settled(house, names, 2)
        until(lambda: len(house.tree()) == 4, 30, "all processes are there")

        def spent() -> float:
            return sum(cpu_seconds(pid) for pid in [house.pid, *pids_below(house.pid)])

        def calm() -> bool:
            before = spent()
            time.sleep(5)  # what is measured: CPU seconds in five seconds
            used = spent() - before
            print(f"idle: {used:.2f} CPU seconds in 5 s")
            return used < 0.75

        until(calm, 25, "less than 15 % of one core")
