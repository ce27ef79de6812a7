"""Redis as broker of hints: whatever lies there that is no hint of ours is dropped and logged, and ends no worker.

A hint is the name of a task and a time after which it says nothing; what work there is stands in the ledger. So a hint
is rebuilt from these two before Celery sees it, nothing is kept in Redis until it is acknowledged, and where messages
go is not asked of Redis.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty
from typing import Any

from kombu.transport import redis as over_redis
from kombu.transport import virtual
from redis.exceptions import ResponseError

from cauda.core import log

GRADE = "cauda.grade"
DELIVER = "cauda.deliver"
QUEUES = {GRADE: "grade", DELIVER: "deliver"}
_MOST_BODY_CHARACTERS = 4096
_BODY = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


class NoHint(ValueError):
    """A message is none of ours; the text says why, without a word of it."""


def hint(message: object, queue: str) -> dict[str, Any]:
    """A message as Celery is to see it, rebuilt from what a hint says; `NoHint` otherwise."""
    if not isinstance(message, Mapping):
        raise NoHint("no object")
    headers = message.get("headers")
    if not isinstance(headers, Mapping):
        raise NoHint("no headers")
    task = headers.get("task")
    if not isinstance(task, str) or QUEUES.get(task) != queue:
        raise NoHint("unknown task")
    if message.get("content-type") != "application/json":
        raise NoHint("another serializer")
    properties = message.get("properties")
    encoding = properties.get("body_encoding") if isinstance(properties, Mapping) else None
    if not _is_without_arguments(message.get("body"), encoding):
        raise NoHint("arguments")
    return _rebuilt(task, queue, _expiry(headers.get("expires")))


def _is_without_arguments(body: object, encoding: object) -> bool:
    if not isinstance(body, str) or len(body) > _MOST_BODY_CHARACTERS or encoding != "base64":
        return False
    try:
        content = json.loads(base64.b64decode(body, validate=True))
    except (ValueError, RecursionError, binascii.Error):
        return False
    return isinstance(content, list) and len(content) == 3 and content[0] == [] and content[1] == {}


def _expiry(value: object) -> str | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        raise NoHint("no time to expire at") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _rebuilt(task: str, queue: str, expires: str | None) -> dict[str, Any]:
    key = str(uuid.uuid4())
    return {
        "body": base64.b64encode(json.dumps(_BODY).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py", "task": task, "id": key, "root_id": key, "parent_id": None, "group": None, "eta": None,
            "expires": expires, "retries": 0, "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": "{}",
            "ignore_result": True, "shadow": None, "stamped_headers": None, "stamps": {},
        },
        "properties": {
            "correlation_id": key, "reply_to": "", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": queue}, "delivery_tag": key,
        },
    }  # fmt: skip


class _Unkept(over_redis.QoS):
    """What is under way is known to this process alone: a hint that is lost is given again by the tick."""

    restore_at_shutdown = False

    def append(self, message: Any, delivery_tag: str) -> None:
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        del requeue
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        del client
        self._delivered.clear()

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Nothing was kept."""


class Channel(over_redis.Channel):
    """kombu's, which dies of what it cannot read, with a border around each message."""

    QoS = _Unkept

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """Where an exchange's messages go: each queue has an exchange of its name."""
        return [(exchange, "", exchange)] if exchange in QUEUES.values() else []

    def _queue_bind(self, *_: Any) -> None:
        """Nothing to write down."""

    def _brpop_read(self, **options: Any) -> object:
        found: list[object] = []
        with self._bordered():
            found.append(super()._brpop_read(**options))  # type: ignore[no-untyped-call]  # kombu has no types
        return found[0] if found else True

    def _get(self, queue: str, timeout: float | None = None) -> object:
        del timeout
        found: list[object] = []
        with self._bordered():
            found.append(super()._get(queue))  # type: ignore[no-untyped-call]  # kombu has no types
        if not found:
            raise Empty
        return found[0]

    def _size(self, queue: str) -> int:
        found: list[int] = []
        with self._bordered():
            found.append(super()._size(queue))  # type: ignore[no-untyped-call]  # kombu has no types
        return sum(found)

    def _put(self, queue: str, message: Any, **options: Any) -> Any:
        try:
            return super()._put(queue, message, **options)  # type: ignore[no-untyped-call]  # kombu has no types
        except ResponseError as error:
            if not self._cleared(error):
                raise
            return super()._put(queue, message, **options)  # type: ignore[no-untyped-call]  # kombu has no types

    @contextmanager
    def _bordered(self) -> Iterator[None]:
        """What a message, or a key of another type in a queue's place, makes anybody raise ends here."""
        try:
            yield
        except (Empty, *self.connection_errors) as error:
            # a message may raise what kombu takes for a connection that broke: a missing key, for one
            if not isinstance(error, KeyError):
                raise
            _drop("KeyError")
        except ResponseError as error:
            if not self._cleared(error):
                raise
        except NoHint as error:
            _drop(str(error))
        except Exception as error:  # noqa: BLE001  the border of messages: it was popped, and is worth nothing
            _drop(type(error).__name__)

    def _cleared(self, error: ResponseError) -> bool:
        """Remove what lies under our queues' names and is no list; False when that was not the trouble."""
        if "WRONGTYPE" not in str(error):
            return False
        with self.conn_or_acquire() as client:
            for queue in QUEUES.values():
                for priority in self.priority_steps:
                    key = self._q_for_pri(queue, priority)  # type: ignore[no-untyped-call]  # kombu has no types
                    if client.type(key) not in {b"list", b"none", "list", "none"}:
                        client.delete(key)
                        log.get("broker").warning("key_of_another_type_removed", key=key)
        return True


def _drop(why: str) -> None:
    log.get("broker").warning("message_dropped", why=why)


class Transport(over_redis.Transport):
    """kombu's Redis transport, for hints alone."""

    Channel = Channel

    def _deliver(self, message: object, queue: str) -> None:
        super()._deliver(hint(message, queue), queue)  # type: ignore[no-untyped-call]  # kombu has no types
