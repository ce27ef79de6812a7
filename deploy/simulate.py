"""A virtual scanner: carries plans of sending out against a node and measures how fast it acknowledges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, get_ident
from urllib.parse import quote

from pynetdicom.association import Association as Connection

from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.settings import Destination
from cauda.deploy import storage_scu
from cauda.deploy.tally import NO_ASSOCIATION, NO_CONTEXT, Answer, Sent, Tally
from cauda.models.phantom.habits import Association, End, Plan

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, and how many at once."""

    rate: float | None = None  # studies a minute; as fast as they come without
    scale: float = 0.0  # seconds that a second of a plan takes
    at_once: int = 1  # studies that are on their way at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the threads of one run share."""

    to: Destination
    pace: Pace
    tally: Tally
    stop: Event = field(default_factory=Event)
    held: dict[int, tuple[Connection, float]] = field(default_factory=dict)  # by thread; how long it is to stay open


def target(to: str, *, yes: bool, aet: str = "CAUDA", calling: str | None = None) -> Destination:
    """The node to send to, from HOST:PORT or dimse://AET@HOST:PORT; Misconfigured for another machine without ``yes``.

    ``aet`` is called where the address names none.
    """
    url = to if "://" in to else f"dimse://{quote(aet)}@{to}"
    try:
        found = Destination.model_validate({"url": url, "calling_aet": calling})
    except ValueError as error:
        raise Misconfigured(
            f"--to: {to} is neither HOST:PORT nor dimse://AET@HOST:PORT, or an AE title is none"
        ) from error
    if found.kind != "dimse":
        raise Misconfigured(f"--to: {to}: only HOST:PORT or dimse://AET@HOST:PORT is sent to")
    if not found.local and not yes:
        raise Misconfigured(f"--to: {found.host} is not this machine; add --yes to send test studies there")
    return found


def push(
    to: Destination,
    plans: Iterable[Plan],
    pace: Pace = Pace(),
    *,
    tally: Tally | None = None,
    tell: Callable[[], None] = lambda: None,
) -> Tally:
    """Carry the plans out; returns when everything is answered or will never be.

    ``tell`` is called in this thread while it waits. Unavailable when the first study finds no association. Ctrl-C lets
    every study end after the image that is on its way; the tally tells what was sent until then.
    """
    run = _Run(to=to, pace=pace, tally=Tally() if tally is None else tally)
    waiting: list[Future[Sent]] = []
    with ThreadPoolExecutor(pace.at_once) as scanners:
        try:
            _send(run, plans, scanners, waiting, tell)
        except KeyboardInterrupt:
            run.tally.interrupted = True
            run.stop.set()
            while waiting:
                _settle(run, waiting, tell)
        finally:
            run.stop.set()
            for connection, _ in run.held.values():
                connection.abort()
    return run.tally


def _send(
    run: _Run,
    plans: Iterable[Plan],
    scanners: ThreadPoolExecutor,
    waiting: list[Future[Sent]],
    tell: Callable[[], None],
) -> None:
    """Start each study when it is due and a scanner is free; returns when all have arrived and routers let go."""
    tally, pace = run.tally, run.pace
    for number, plan in enumerate(plans):
        tally.began = time.monotonic() if tally.began is None else tally.began
        due = tally.began + number * 60.0 / pace.rate if pace.rate else time.monotonic()
        _wait(due, tell)
        while len(waiting) >= pace.at_once:
            _settle(run, waiting, tell)
        tally.behind_s = time.monotonic() - due if pace.rate else 0.0
        waiting.append(scanners.submit(_study, run, plan))
    while waiting:
        _settle(run, waiting, tell)
    held_s = max((held_s for _, held_s in run.held.values()), default=0.0)
    _wait(time.monotonic() + held_s * pace.scale, tell)


def _wait(moment: float, tell: Callable[[], None]) -> None:
    while (left := moment - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_S))
        tell()


def _settle(run: _Run, waiting: list[Future[Sent]], tell: Callable[[], None]) -> None:
    """Wait a moment, and enter the studies that arrived; Unavailable when nobody was let in yet."""
    with suppress(TimeoutError):
        waiting[0].exception(timeout=_LOOK_S)
    arrived = [one for one in waiting if one.done()]
    waiting[:] = [one for one in waiting if one not in arrived]
    run.tally.studies += [one.result() for one in arrived]
    tell()
    if run.tally.studies and run.tally.images and not run.tally.associations:
        why = run.tally.answers[0].refusal or NO_ASSOCIATION
        raise Unavailable(Reason.DESTINATION_DOWN, f"{run.to.name}: {why}")


def _study(run: _Run, plan: Plan) -> Sent:
    answers: list[Answer] = []
    for one in plan:
        if one.after_s:
            run.stop.wait(one.after_s * run.pace.scale)
        if run.stop.is_set():
            break
        for answer in _answers(run, one):
            answers.append(answer)
            run.tally.add(answer, now=time.monotonic())
        if not run.tally.associations:
            break  # nobody is there; the next ones would wait for it again
    planned = sum(len(one.images) for one in plan)
    return Sent(
        study_uid=str(plan[0].images[0].StudyInstanceUID), answers=tuple(answers), unsent=planned - len(answers)
    )


def _answers(run: _Run, one: Association) -> Iterator[Answer]:
    """What each image of an association was answered, as it is."""
    try:
        connection = _connection(run, one)
    except Unavailable as error:
        yield from (Answer(None, error.message) for _ in one.images)
        return
    accepted = storage_scu.accepted(connection)
    try:
        for image in one.images:
            if run.stop.is_set():
                break
            taken = storage_scu.kind(image) in accepted
            yield storage_scu.stored(connection, image) if taken else Answer(None, NO_CONTEXT)
    finally:
        if connection.is_established:
            if one.ends is End.NEVER:
                run.held[get_ident()] = connection, one.held_s
            elif one.ends is End.ABORT:
                connection.abort()
            else:
                connection.release()


def _connection(run: _Run, one: Association) -> Connection:
    """A new association, or this thread's that was never released, where it serves."""
    kinds = {storage_scu.kind(image) for image in one.images}
    if one.ends is End.NEVER and get_ident() in run.held:
        held, _ = run.held.pop(get_ident())
        if held.is_established and kinds <= storage_scu.accepted(held):
            return held
        if held.is_established:
            held.abort()
    made = storage_scu.associated(run.to, kinds, lambda size: run.tally.add(sent_bytes=size))
    run.tally.add(associations=1)
    return made
