"""One Celery worker for one queue, in the foreground until SIGTERM (DESIGN.md 7).

Celery moves hints and keeps a process; what work there is, and whose it is, says the ledger. Its own recovery is off:
messages are acknowledged early, nothing is retried, delayed or returned.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, NoReturn

from celery import Celery, signals
from celery.worker import state

from cauda.core import doorbell, liveness, log, spool, stack
from cauda.core.errors import Unavailable
from cauda.core.ledger import Ledger, migrate, open_ledger
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.worker.child import EXIT_BUG, Readiness, settle
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next
from cauda.worker.post import Post
from cauda.worker.tick import Ear, Tick, Work

_TICK_S = {True: 2.0, False: 0.5}  # with a broker others ring too
# Without a broker only the pool can be deaf: a child killed while it waited takes the lock of their pipe with it.
_DEAF_AFTER_S = {True: 60.0, False: 10.0}
_LOADING_S = 600.0  # a bundle that takes longer than this to load is not going to


def run(settings: Settings, fingerprint: Fingerprint, queue: Literal["grade", "deliver"]) -> None:
    """Work off one queue; returns after SIGTERM, when the work at hand is done.

    Ends the process with a status other than 0 when it cannot work: for the supervisor to start it again.
    """
    spool.Spool(settings.data).prepare()
    ledger = open_ledger(settings.ledger)
    _await(ledger)
    app = doorbell.application(settings.broker)
    app.conf.update(
        worker_enable_remote_control=False,
        worker_proc_alive_timeout=_LOADING_S,
        # Without a broker nobody else takes what we fetch, and the tick rings for no more than we can do.
        worker_prefetch_multiplier=1 if settings.broker else 4,
    )
    if not settings.broker:
        logging.getLogger("kombu.connection").setLevel(logging.ERROR)  # it warns that memory has no host name
    signals.setup_logging.connect(_our_logging_stays, weak=False)
    bell = _bell(app, settings, queue)
    readiness = Readiness()
    if queue == "grade":
        _grading(app, settings, fingerprint, readiness)
        slots, pool = 1, {"pool_cls": "prefork", "time_limit": settings.grading.time_limit_s}
    else:
        readiness.ready()
        _delivering(app, settings, fingerprint, bell)
        slots, pool = settings.delivery.threads, {"pool_cls": "threads"}
    worker = app.Worker(
        hostname=f"{queue}.{os.getpid()}@{socket.gethostname()}",
        queues=[queue],
        concurrency=slots,
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
        quiet=True,
        **pool,
    )
    tick = _tick(ledger, settings, queue, bell, readiness, slots)
    if queue == "grade":
        tick.guard_forks()
    thread = threading.Thread(target=_guarded(tick.run), name="tick", daemon=True)
    signals.worker_ready.connect(lambda **_: thread.start(), weak=False)
    log.get(queue).info("worker_starts", pid=os.getpid(), slots=slots, broker=settings.broker is not None)
    worker.start()
    tick.goodbye()
    log.get(queue).info("worker_ended", status=worker.exitcode or 0)
    if worker.exitcode:
        sys.exit(worker.exitcode)


def _await(ledger: Ledger) -> None:
    """Bring the ledger to this version, waiting for it to be there."""
    away = False
    while True:
        try:
            migrate(ledger)
        except Unavailable as error:
            if not away:
                log.get("worker").warning("ledger_awaited", reason=error.reason)
            away = True
            time.sleep(2)
        else:
            ledger.engine.dispose()
            return


def _our_logging_stays(**_: Any) -> None:
    """Celery asks who sets logging up; the command line has done so."""


def _bell(app: Celery, settings: Settings, queue: str) -> doorbell.Doorbell:
    """Rings anybody through the broker; without one only ourselves, and no more than we can do."""
    ring = doorbell.doorbell(app)
    if settings.broker:
        return ring
    slots = 1 if queue == "grade" else settings.delivery.threads

    def ring_ourselves(task: str) -> bool:
        if doorbell.QUEUES[task] == queue and len(state.reserved_requests) < 2 * slots:
            return ring(task)
        return True

    return ring_ourselves


def _grading(app: Celery, settings: Settings, fingerprint: Fingerprint, readiness: Readiness) -> None:
    """The grade task, and what each forked child does first."""
    posts: list[Post | None] = []
    parent = os.getpid()
    # what a child puts into a queue in memory nobody ever sees
    bell = doorbell.doorbell(app) if settings.broker else doorbell.silent

    def settle_child(**_: Any) -> None:
        posts[:] = [settle(settings, fingerprint, bell, readiness, parent)]

    def grade() -> None:
        if posts and posts[0] is not None:
            _at_the_border(grade_next, posts[0])

    signals.worker_process_init.connect(settle_child, weak=False)
    app.task(name=doorbell.GRADE)(grade)


def _delivering(app: Celery, settings: Settings, fingerprint: Fingerprint, bell: doorbell.Doorbell) -> None:
    """The deliver task; its threads share the process's ledger."""
    post = Post(
        ledger=open_ledger(settings.ledger),
        spool=spool.Spool(settings.data),
        settings=settings,
        fingerprint=fingerprint,
        token=liveness.token("deliver"),
        bell=bell,
    )

    def deliver() -> None:
        _at_the_border(deliver_next, post)

    app.task(name=doorbell.DELIVER)(deliver)


def _at_the_border(work: Callable[[Post], bool], post: Post) -> None:
    """Run a task; whatever it raises is said here, and the ledger still knows what is to be done."""
    try:
        work(post)
    except Unavailable as error:
        log.get("task").warning("ledger_away", reason=error.reason)
    except Exception as error:  # noqa: BLE001  the task border
        log.get("task").error("task_failed", stack=stack.of(error))


def _tick(ledger: Ledger, settings: Settings, queue: str, bell: doorbell.Doorbell, readiness: Readiness,
          slots: int) -> Tick:  # fmt: skip
    def usable() -> int:
        if readiness.exit_code is not None:
            _leave(queue, readiness.exit_code, "the grading process cannot start")
        return slots if readiness.is_ready else 0

    return Tick(
        ledger=ledger,
        bell=bell,
        task=doorbell.GRADE if queue == "grade" else doorbell.DELIVER,
        role=queue,
        token=liveness.token(f"{queue}-worker"),
        known=tuple(one.name for one in settings.destinations),
        every_s=_TICK_S[settings.broker is not None],
        work=Work(
            slots=usable,
            busy=lambda: len(state.active_requests) > 0,
            begun=lambda: int(state.all_total_count[0]),
            deaf=lambda: _leave(queue, EXIT_BUG, "there is work, and the consumer hears no bell"),
        ),
        ear=Ear(patience_s=_DEAF_AFTER_S[settings.broker is not None]),
        clock=time.monotonic,
    )


def _guarded(run_tick: Callable[[], None]) -> Callable[[], None]:
    """A worker without its tick would look alive and do nothing."""

    def target() -> None:
        try:
            run_tick()
        except Exception as error:  # noqa: BLE001  the end of the thread is the end of the process
            _leave("tick", EXIT_BUG, stack.of(error))

    return target


def _leave(part: str, status: int, why: str) -> NoReturn:
    """End at once, from any thread; the kernel ends the grading process with us, and leases do the rest."""
    log.get(part).critical("worker_leaves", why=why, status=status)
    os._exit(status)
