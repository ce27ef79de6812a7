"""Worker processes as they run: without a broker, with Redis that comes and goes, killed, hung, told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import builders
import pytest
from peers import Postgres, Redis, redis_server, until
from worker_house import House, house

from cauda.core import liveness

pytestmark = pytest.mark.peers


@pytest.fixture
def at(tmp_path: Path) -> House:
    return house(tmp_path, destinations=[f"folder:{tmp_path}/out"])


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


def delivered(at: House, studies: int) -> bool:
    states = at.states("delivery")
    return len(states) == 2 * studies and set(states) <= {"accepted", "committed"}


def slow(at: House, *, on: bool) -> None:
    """Grading takes for ever, or does not."""
    path = at.data / "slow"
    path.touch() if on else path.unlink()


def claimed_by(at: House) -> int:
    """The process id of who is grading."""
    row = until(lambda: at.rows("revision", state="grading"), what="somebody grades")[0]
    until((at.data / "grading").exists, what="the grading has begun")
    return int(str(row["worker"]).split(":")[2])


def test_without_a_broker_each_worker_finds_its_work(at: House) -> None:
    with at.worker("grade") as grader, at.worker("deliver") as deliverer:
        for seed in range(3):
            at.complete(builders.mr_study(seed))
        until(lambda: delivered(at, 3), what="three studies delivered")
        assert {row["role"] for row in at.rows("process")} == {"grade", "deliver"}
        for worker in (grader, deliverer):
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
        assert at.rows("process") == []


def test_a_grader_killed_while_grading_is_replaced_and_one_pair_of_results_goes_out(at: House) -> None:
    slow(at, on=True)
    with at.worker("grade") as grader, at.worker("deliver"):
        at.complete(builders.mr_study(1))
        child = claimed_by(at)
        grader.kill()
        grader.wait(10)
        until(lambda: not _alive(child), what="the grading process ended with its parent")
        slow(at, on=False)
        with at.worker("grade"):
            until(lambda: delivered(at, 1), what="delivered by the second worker")
    (row,) = at.rows("revision")
    assert (row["state"], row["attempt"], row["deaths"]) == ("reported", 2, 1)
    assert len(list((at.data / "out").rglob("*.dcm"))) == 2


def test_a_grading_process_killed_is_replaced_by_its_worker(at: House) -> None:
    slow(at, on=True)
    with at.worker("grade"), at.worker("deliver"):
        at.complete(builders.mr_study(1))
        os.kill(claimed_by(at), signal.SIGKILL)
        slow(at, on=False)
        until(lambda: delivered(at, 1), what="delivered after the death")
    assert at.rows("revision")[0]["deaths"] == 1


def test_a_study_that_hangs_is_given_up_after_three_deaths_and_others_go_on(at: House) -> None:
    slow(at, on=True)
    grading = at.settings.grading.model_copy(update={"time_limit_s": 1.0, "max_deaths": 2})
    with at.worker("grade", grading=grading):
        at.complete(builders.mr_study(1))
        until(lambda: at.states("revision") == ["failed"], timeout=60, what="given up")
        slow(at, on=False)
        at.complete(builders.mr_study(2))
        until(lambda: at.states("revision") == ["failed", "reported"], what="the next one")
    assert at.rows("revision")[0]["reason"] == "worker_died"


def test_with_redis_stopped_restarted_and_wiped_everything_is_done(at: House, redis: Redis) -> None:
    with at.worker("grade", broker_url=redis.url), at.worker("deliver", broker_url=redis.url):
        at.complete(builders.mr_study(1))
        until(lambda: delivered(at, 1), what="delivered with Redis")
        redis.stop()
        at.complete(builders.mr_study(2))
        redis.start()
        until(lambda: delivered(at, 2), timeout=60, what="delivered after Redis came back empty")
        for seed in range(3, 6):
            at.complete(builders.mr_study(seed))
            redis.flush()
        until(lambda: delivered(at, 5), timeout=60, what="delivered though Redis was wiped")


def test_a_ledger_that_goes_away_is_said_once_and_come_back_to(tmp_path: Path, postgres_server: Postgres) -> None:
    url = postgres_server.database()
    at = house(tmp_path, url=url, destinations=[f"folder:{tmp_path}/out"])
    with at.worker("grade"), at.worker("deliver"):
        at.complete(builders.mr_study(1))
        until(lambda: delivered(at, 1), what="delivered with PostgreSQL")
        slow(at, on=True)
        at.complete(builders.mr_study(2))
        claimed_by(at)
        postgres_server.stop()
        slow(at, on=False)
        until(lambda: "ledger_awaited" in at.log("grade"), what="the grader waits for the ledger")
        until(lambda: "ledger_away" in at.log("deliver"), what="the deliverer noticed")
        postgres_server.start()
        at.ledger.engine.dispose()
        until(lambda: delivered(at, 2), timeout=60, what="delivered after PostgreSQL came back")
    assert at.log("deliver").count("ledger_away") == 1
    assert at.rows("revision")[1]["attempt"] == 1


def test_two_workers_of_each_kind_share_the_work_and_double_nothing(at: House, redis: Redis) -> None:
    url = redis.url
    with (
        at.worker("grade", broker_url=url),
        at.worker("grade", broker_url=url),
        at.worker("deliver", broker_url=url),
        at.worker("deliver", broker_url=url),
    ):
        for seed in range(6):
            at.complete(builders.mr_study(seed))
        until(lambda: delivered(at, 6), timeout=60, what="six studies delivered")
    assert all(row["attempt"] == 1 for row in (*at.rows("revision"), *at.rows("delivery")))


def test_a_worker_that_hears_no_bell_ends_to_be_started_again(at: House) -> None:
    (at.data / "deaf").touch()
    with at.worker("grade") as grader:
        at.complete(builders.mr_study(1))
        assert grader.wait(20) == 1
    assert "hears no bell" in at.log("grade")
    (at.data / "deaf").unlink()
    with at.worker("grade"):
        until(lambda: at.states("revision") == ["reported"], what="graded by the next one")


def test_a_bundle_that_is_not_one_ends_the_worker_as_misconfigured(at: House) -> None:
    empty = at.data / "bundle"
    empty.mkdir()
    grading = at.settings.grading.model_copy(update={"bundle": empty})
    with at.worker("grade", grading=grading) as grader:
        assert grader.wait(60) == 2
    assert "bundle_refused" in at.log("grade")


def _alive(pid: int) -> bool:
    return not liveness.is_dead(liveness.token(pid=pid)) and liveness._started(pid) is not None
