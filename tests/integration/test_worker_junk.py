"""What lies in Redis is anybody's: whatever it is, it is dropped and logged, and the workers go on."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders
import pytest
import redis as client
from kombu.serialization import pickle
from peers import Redis, redis_server, until
from worker_house import house

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


class Evil:
    """Unpickled it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


def message(task: Any = "cauda.grade", body: Any = None, **changes: Any) -> dict[str, Any]:
    """A message as Celery writes it (its protocol 2)."""
    content = json.dumps([[], {}, {}] if body is None else body).encode()
    return {
        "body": base64.b64encode(content).decode(), "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": task, "id": "1", "lang": "py", "retries": 0, "timelimit": [None, None]},
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "correlation_id": "1",
                       "delivery_info": {"exchange": "", "routing_key": "grade"}},
    } | changes  # fmt: skip


def junk(tmp_path: Path) -> list[bytes]:
    """Bytes, JSON of another shape, another serializer, other tasks, arguments, huge things, random ones."""
    draw = random.Random(5)
    pickled = base64.b64encode(pickle.dumps(Evil(tmp_path / "run"))).decode()
    whole = message()
    broken = [
        [], {}, None, 7, "x", [1, 2, 3], {"headers": None}, {"headers": []}, {"headers": {"task": ["x"]}},
        {key: value for key, value in whole.items() if key != "properties"}, message(properties=[]),
        message(properties={}), message(headers={}), message(headers="text"), message(headers={"task": {"a": 1}}),
        message("celery.chord_unlock"), message("os.system"), message("cauda.deliver"), message(7), message(None),
        message(body=[[1, 2], {}, {}]), message(body=[[], {"a": 1}, {}]), message(body="x"), message(body=[[]]),
        message(body="!!!"), message(**{"content-type": "application/x-python-serialize", "body": pickled}),
        message(**{"content-type": "application/x-yaml"}), message(**{"content-encoding": "binary", "body": pickled}),
        message(headers=whole["headers"] | {"expires": "never"}),
        message(headers=whole["headers"] | {"expires": {"__type__": "datetime", "__value__": "x"}}),
        message(properties=whole["properties"] | {"body_encoding": "rot13"}),
        message(body=["x" * 4_000_000, {}, {}]),
    ]  # fmt: skip
    texts = [json.dumps(one).encode() for one in broken]
    deep = b"[" * 100_000 + b"]" * 100_000
    return [
        *texts, b"", b"\x00\xff" * 40, b"not json", b'{"__type__": "uuid", "__value__": 1}', deep, b"x" * 20_000_000,
        *(draw.randbytes(draw.randint(1, 300)) for _ in range(40)),
        *(bytes(b for b in json.dumps(whole).encode() if draw.random() > 0.05) for _ in range(20)),
    ]  # fmt: skip


def test_junk_in_redis_is_dropped_and_logged_and_no_worker_dies_of_it(tmp_path: Path, redis: Redis) -> None:
    at = house(tmp_path / "data", destinations=[f"folder:{tmp_path}/out"])
    database = client.Redis.from_url(redis.url)
    heap = junk(tmp_path)
    for name in ("grade", "deliver"):
        database.set(f"{name}\x06\x163", "a text where a list belongs")
        database.sadd(f"_kombu.binding.{name}", b"junk", b"a\x06\x16b", b"\xff\x06\x16x\x06\x16y")
        for one in heap:
            database.lpush(name, one)
    database.set("unacked", "text")
    database.lpush("unacked_index", "list")
    with at.worker("grade", broker_url=redis.url) as grader, at.worker("deliver", broker_url=redis.url) as deliverer:
        at.complete(builders.mr_study(1))
        until(lambda: set(at.states("delivery")) == {"accepted"}, timeout=90, what="delivered in spite of it")
        for name in ("grade", "deliver"):
            until(lambda name=name: database.llen(name) == 0, timeout=60, what="the heap is gone")
        database.delete("grade", "deliver")
        database.set("grade", "a text where the list was")
        database.hset("deliver", "a", "hash")
        at.complete(builders.mr_study(2))
        until(lambda: len(at.states("delivery")) == 4 and set(at.states("delivery")) == {"accepted"}, timeout=90,
              what="delivered although the queues were no lists")  # fmt: skip
        assert (grader.poll(), deliverer.poll()) == (None, None)
        said = at.log("grade") + at.log("deliver")
    assert said.count("message_dropped") >= 2 * len(heap) - 10
    assert "worker_leaves" not in said
    assert not (tmp_path / "run").exists()
    assert "xxxxxxxx" not in said, "no word of a message is logged"


@pytest.mark.parametrize("kind", ["wrong password", "no password"])
def test_the_brokers_password_is_in_no_log(tmp_path: Path, redis: Redis, kind: str) -> None:
    at = house(tmp_path / "data")
    url = redis.url.replace("redis://", "redis://:hunter2-hunter2@")
    if kind == "no password":
        url = url.replace(str(redis.port), "1")  # nobody listens
    with at.worker("grade", broker_url=url):
        until(lambda: "Cannot connect" in at.log("grade") or "broker" in at.log("grade"), what="it fails")
    assert "hunter2-hunter2" not in at.log("grade")
