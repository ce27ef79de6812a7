"""A virtual scanner: carries plans of sending out against a node and measures how fast it acknowledges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, get_ident
from typing import Protocol

from pydicom import Dataset

from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.deploy.tally import NO_ASSOCIATION, Answer, Sent, Tally
from cauda.models.phantom.habits import Association, End, Plan

_LOOK_S = 0.1


class Line(Protocol):
    """What images are sent over: a DIMSE association, a connection for a STOW-RS request."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used, or ended."""

    def serves(self, images: Sequence[Dataset]) -> bool:
        """Whether images may be sent over it later."""

    def sent(self, images: Sequence[Dataset], stopped: Callable[[], bool]) -> Iterator[Answer]:
        """Send images, fewer when ``stopped``; what each was answered."""

    def release(self) -> None:
        """End it in order."""

    def abort(self) -> None:
        """Break it off."""


class Door(Protocol):
    """Where images are sent to."""

    @property
    def name(self) -> str:
        """As a person writes it."""

    def opened(self, images: Sequence[Dataset], on_sent: Callable[[int], None]) -> Line:
        """A new line for images; Unavailable says why there is none. ``on_sent`` is told of bytes that went out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, and how many at once."""

    rate: float | None = None  # studies a minute; as fast as they come without
    scale: float = 0.0  # seconds that a second of a plan takes
    at_once: int = 1  # studies that are on their way at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the threads of one run share."""

    to: Door
    pace: Pace
    tally: Tally
    stop: Event = field(default_factory=Event)
    held: dict[int, tuple[Line, float]] = field(default_factory=dict)  # by thread; how long it is to stay open


def push(
    to: Door,
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
            for line, _ in run.held.values():
                line.abort()
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
        line = _line(run, one)
    except Unavailable as error:
        yield from (Answer(None, error.message) for _ in one.images)
        return
    try:
        yield from line.sent(one.images, run.stop.is_set)
    finally:
        if line.alive:
            if one.ends is End.NEVER and line.serves(()):
                run.held[get_ident()] = line, one.held_s
            elif one.ends is End.ABORT:
                line.abort()
            else:
                line.release()


def _line(run: _Run, one: Association) -> Line:
    """A new one, or this thread's that was never released, where it serves."""
    if one.ends is End.NEVER and get_ident() in run.held:
        held, _ = run.held.pop(get_ident())
        if held.alive and held.serves(one.images):
            return held
        if held.alive:
            held.abort()
    made = run.to.opened(one.images, lambda size: run.tally.add(sent_bytes=size))
    run.tally.add(associations=1)
    return made
