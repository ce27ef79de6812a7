"""Rings Celery by task name. A ring is a hint: losing every one of them loses no work."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from cauda.core import log
from cauda.core.broker import DELIVER, GRADE, QUEUES

HINT_EXPIRES_S = 30.0  # an old hint wakes nobody twice; the tick rings again

Doorbell = Callable[[str], object]


def application(broker: str | None) -> Celery:
    """The Celery application that both ends share. Without a broker, messages stay inside the process."""
    app = Celery("cauda", broker=broker or "memory://")
    if broker is not None and broker.startswith(("redis://", "rediss://")):
        app.conf.broker_transport = "cauda.core.broker:Transport"
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        task_routes={name: {"queue": queue} for name, queue in QUEUES.items()},
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 2,
            "socket_connect_timeout": 1,
            "polling_interval": 0.05,  # memory://; its default makes a task wait a second
        },
    )
    return app


def doorbell(app: Celery) -> Callable[[str], bool]:
    """A function that rings a task by name and never fails; False while the broker is away, which is said once."""
    away = False
    logger = log.get("doorbell")

    def ring(task: str) -> bool:
        nonlocal away
        try:
            app.send_task(task, expires=HINT_EXPIRES_S, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            if not away:
                logger.warning("broker_away", error=type(error).__name__)
            away = True
            return False
        if away:
            logger.info("broker_back")
        away = False
        return True

    return ring


def silent(_task: str) -> None:
    """The doorbell of a node without a broker: each worker's own tick finds the work."""


__all__ = ["DELIVER", "GRADE", "QUEUES", "Doorbell", "application", "doorbell", "silent"]
