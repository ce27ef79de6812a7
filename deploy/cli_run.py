"""`cauda up`, `listen`, `work`: the processes that stay."""

from __future__ import annotations

import gc
from enum import StrEnum
from typing import Annotated

import typer

from cauda.core import log
from cauda.deploy import bootstrap, lifeline
from cauda.deploy.options import Options, common
from cauda.deploy.signals import stop_event


class Queue(StrEnum):
    """What a worker works off."""

    GRADE = "grade"
    DELIVER = "deliver"


Supervisor = Annotated[int | None, typer.Option(hidden=True, help="End with this process.")]


@common
def up(options: Options, *, supervisor: Supervisor = None) -> None:
    """Run the whole node: listener, grader and deliverer, in the foreground until SIGTERM or Ctrl-C.

    Needs no configuration. Any sender on this machine may send; --allow lets in others.
    """
    from cauda.deploy import up as node

    if supervisor is not None:
        lifeline.tie(supervisor)
    settings = bootstrap.for_up(bootstrap.with_bundle(options.start(), default=bootstrap.STARTER))
    fingerprint = bootstrap.fingerprint(settings)
    with stop_event() as stop:
        node.run(
            options,
            settings,
            fingerprint,
            stop,
            on_ready=lambda ports: _ready(
                "up",
                aet=settings.node.aet,
                dimse=ports.dimse,
                **({"tls": ports.tls} if ports.tls else {}),
                http=ports.http,
                data=str(settings.data.resolve()),
            ),
        )


def _ready(part: str, **what: object) -> None:
    """Say so. What is loaded by now stays and is not searched for garbage again.

    pynetdicom has all of it searched every 60 connections, or every half minute without any, and nobody was answered
    meanwhile for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    log.get(part).info("ready", **what)


@common
def listen(options: Options) -> None:
    """Run the doors alone, as on a server: receive, file, say when a study is complete."""
    from cauda.listener import serve

    settings = bootstrap.with_bundle(options.start())
    fingerprint = bootstrap.fingerprint(settings)
    with stop_event() as stop:
        serve.run(
            settings,
            fingerprint,
            stop,
            on_ready=lambda ports: _ready("listen", dimse=ports.dimse, tls=ports.tls, http=ports.http),
        )


@common
def work(
    options: Options,
    *,
    queue: Annotated[Queue | None, typer.Option(help="One queue in this process; both, supervised, without.")] = None,
    supervisor: Supervisor = None,
) -> None:
    """Run the workers, as on a server: grade studies, deliver results."""
    if supervisor is not None:
        lifeline.tie(supervisor)
    settings = bootstrap.with_bundle(options.start())
    if queue is not None:
        from cauda.worker import serve

        serve.run(settings, bootstrap.fingerprint(settings), queue.value)
        return
    from cauda.deploy.supervisor import supervise, workers

    bootstrap.fingerprint(settings)  # what is wrong is said once, here
    with stop_event() as stop:
        supervise(workers(options, settings), stop, grace_s=settings.limits.drain_s)
