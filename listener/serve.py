"""One listener: doors, filer, completeness and the tick, put together."""

from __future__ import annotations

import math
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.routing import Route

from cauda.core import doorbell, intake, journal, ledger, liveness, log, processes, spool
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.ledger import Ledger
from cauda.core.processes import Own
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.core.slots import Slots
from cauda.core.steady_clock import boot_seconds
from cauda.listener import commitment, completeness, descriptors, dicomweb, dimse, http, landing, pages
from cauda.listener.adopting import Adopter
from cauda.listener.archive import Asker
from cauda.listener.committer import Committer
from cauda.listener.filer import Filer
from cauda.listener.filing import PASSING
from cauda.listener.guests import Guests
from cauda.listener.sessions import Sessions
from cauda.listener.tls import Certificates

_TICK_S = 0.5
_SEEN_EVERY_S = 5.0
_SEEN_AMONG_S = 1.0  # where other listeners wait to hear how far we have filed
_LEDGER_RETRY_S = 2.0
_SWITCH_S = 0.0005  # a thread that answers a sender gets the interpreter sooner than the default 5 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the doors really are (settings may say 0 for any free port); 0 where there is none."""

    dimse: int
    http: int
    tls: int = 0


def run(
    settings: Settings,
    fingerprint: Fingerprint,
    stop: threading.Event,
    *,
    on_ready: Callable[[Ports], None] | None = None,
) -> None:
    """Serve until ``stop`` is set, then drain. Raises Misconfigured when it cannot start."""
    store = _prepared(settings)
    sys.setswitchinterval(_SWITCH_S)
    book = _opened(settings, stop)
    if book is None:
        return
    token = liveness.token("listener")
    arrivals = _own_arrivals(store)
    filer = Filer(book, store, token, arrivals.folder.name)
    own = Own(token=token, backlog=filer.backlog)
    if not _registered(book, own, stop):
        arrivals.close()
        return
    guests = Guests(settings.peers)
    guests.refresh(book)
    slots = _slots(settings, store, arrivals)
    door = landing.Door(settings, store, arrivals.folder, filer.tell, guests, slots)
    certificates = Certificates(settings.tls) if settings.tls.certificate else None
    committer = Committer(book, settings, token) if settings.commitment.enabled else None
    desk = pages.Desk(
        settings=settings, ledger=book, store=store, fingerprint=fingerprint, sessions=_sessions(settings)
    )
    shown = _bound_http(settings, book, store, certificates, [*dicomweb.routes(door), *pages.routes(desk)])
    try:
        servers = dimse.start(door, certificates, commitment.handlers(book, committer, settings))
    except Misconfigured:
        shown.stop()
        _close(slots)
        raise
    asker = Asker(book, settings)
    adopter = Adopter(book, store, arrivals.folder, filer)
    filer.start()
    shown.start()
    asker.start()
    if committer is not None:
        committer.start()
    ports = Ports(dimse=dimse.port_of(servers.plain), http=shown.port, tls=dimse.port_of(servers.tls))
    log.get("listener").info(
        "listening", aet=settings.node.aet, dimse_port=ports.dimse, tls_port=ports.tls, http_port=ports.http
    )
    if on_ready is not None:
        on_ready(ports)
    try:
        _tick_until(stop, settings, book, adopter.adopt, fingerprint, own, _beside(book, door, filer, certificates))
    finally:
        door.closing.set()
        shown.close()
        _drain(servers, door, filer)
        shown.stop()  # before the filer: a request that ends tells it so
        filer.finish()
        adopter.close()
        asker.finish()
        if committer is not None:
            committer.finish()
        _goodbye(book, arrivals, slots, own)


def _own_arrivals(store: spool.Spool) -> spool.Arrivals:
    arrivals = spool.open_arrivals(store, secrets.token_hex(8))
    with suppress(OSError):  # before files of our own are prepared: the disk may be full of them
        spool.remove_prepared(store, arrivals.folder)
    return arrivals


def _registered(book: Ledger, own: Own, stop: threading.Event) -> bool:
    """Before the first image is acknowledged the ledger knows that somebody may have some; False when told to stop."""
    while not stop.is_set():
        try:
            _say_seen(book, own)
        except PASSING as error:
            log.get("listener").warning("ledger_away", reason=getattr(error, "reason", type(error).__name__))
            stop.wait(_LEDGER_RETRY_S)
        else:
            return True
    return False


def _prepared(settings: Settings) -> spool.Spool:
    store = spool.Spool(settings.data, settings.limits.min_free_bytes)
    store.prepare()
    _check(settings, store)
    return store


def _drain(servers: dimse.Servers, door: landing.Door, filer: Filer) -> None:
    """Let associations finish; who was refused until then is listed."""
    dimse.drain(servers, door.settings.limits.drain_s)
    door.refusals.flush(filer.tell)


def _check(settings: Settings, store: spool.Spool) -> None:
    """Enough descriptors; and what was asked to land with one sync must be where that is enough."""
    descriptors.reserve(settings)
    if settings.listener.sync == "one" and (why := journal.one_sync(store.arrivals)) is not None:
        raise Misconfigured(f'listener.sync: "one" is not safe in {store.arrivals}: {why}; use "portable"')


def _opened(settings: Settings, stop: threading.Event) -> Ledger | None:
    """The ledger, migrated; waits for a database that is away. None when told to stop meanwhile."""
    book = ledger.open_ledger(settings.ledger)
    said = False
    while True:
        try:
            ledger.migrate(book)
        except Unavailable as error:
            if not said:
                log.get("listener").warning("ledger_away", message=error.message)
            said = True
            if stop.wait(_LEDGER_RETRY_S):
                return None
        else:
            return book


def _sessions(settings: Settings) -> Sessions:
    users = {one.name: one.hash.get_secret_value() for one in settings.http.users}
    return Sessions(users, time.time)


def _bound_http(
    settings: Settings,
    book: Ledger,
    store: spool.Spool,
    certificates: Certificates | None,
    doors: Sequence[Route],
) -> http.Server:
    app = http.application(settings, book, store, certificates, doors)
    try:
        return http.Server(app, settings)
    except OSError as error:
        where = f"{settings.http.host}:{settings.http.port}"
        raise Misconfigured(f"http: cannot listen on {where} ({error.strerror}); is another Cauda running?") from error


def _beside(book: Ledger, door: landing.Door, filer: Filer, certificates: Certificates | None) -> Callable[[], None]:
    """What the doors themselves want looked at in each tick."""

    def look() -> None:
        if certificates is not None:
            certificates.warn(time.time())
        door.refusals.flush(filer.tell)
        door.guests.refresh(book)

    return look


def _tick_until(
    stop: threading.Event,
    settings: Settings,
    book: Ledger,
    adopting: Callable[[], int],
    fingerprint: Fingerprint,
    own: Own,
    beside: Callable[[], None],
) -> None:
    broker = settings.broker
    bell = doorbell.doorbell(doorbell.application(broker)) if broker else doorbell.silent  # then nobody is rung for
    known = [one.name for one in settings.destinations]
    logger = log.get("listener")
    beat = _Heartbeat(book=book, own=own)
    away = False
    while not stop.is_set():
        try:
            beside()
            beat.due(at_once=away)
            if beat.adoption_due():
                adopted = adopting()
                if adopted:
                    logger.info("arrivals_adopted", count=adopted)
            for uid in completeness.tick(book, settings.completeness, fingerprint, own):
                logger.info("study_complete", study=uid)
                bell(doorbell.GRADE)
            if broker:
                processes.ring_due(book, bell, known)
        except PASSING as error:
            if not away:
                logger.warning("tick_waits", reason=getattr(error, "reason", type(error).__name__))
            away = True
        else:
            if away:
                logger.info("tick_goes_on")
            away = False
        stop.wait(_TICK_S)


@dataclass(slots=True, kw_only=True)
class _Heartbeat:
    """When this listener last said that it is there. Times are boot_seconds."""

    book: Ledger
    own: Own
    seen_s: float = -math.inf
    looked_s: float = -math.inf  # for what dead listeners left behind
    alone: bool = True  # no other listener waits to hear how far we have filed

    def due(self, *, at_once: bool) -> None:
        """Say it when it is time: after a pause of any kind, before anything is decided."""
        every_s = _SEEN_EVERY_S if self.alone else _SEEN_AMONG_S
        if at_once or boot_seconds() - self.seen_s >= every_s:
            self.alone = _say_seen(self.book, self.own)
            self.seen_s = boot_seconds()

    def adoption_due(self) -> bool:
        """Whether to look now; what cannot be adopted must not stop the rest, so only once in a while."""
        due = boot_seconds() - self.looked_s >= _SEEN_EVERY_S
        if due:
            self.looked_s = boot_seconds()
        return due


def _say_seen(book: Ledger, own: Own) -> bool:
    """Say that we are there and how far we have filed; whether nobody else waits to hear it."""
    with book.write() as conn:
        # ourselves first: after a pause (a suspended machine) we would take ourselves for dead
        processes.seen(book, conn, token=own.token, role="listener", slots=0, backlog=own.backlog)
        intake.lose_dead(book, conn, processes.dead(book, conn, "listener"))
        processes.forget_dead(book, conn)
        return processes.listeners(conn) < 2


def _slots(settings: Settings, store: spool.Spool, arrivals: spool.Arrivals) -> Slots | None:
    """Some of them ready before the first image comes."""
    if settings.listener.sync != "prepared" or settings.listener.data_path != "replaced":
        return None
    slots = Slots(arrivals.folder, settings.listener.slots, store.check_room)
    slots.start()
    return slots


def _close(slots: Slots | None) -> None:
    if slots is not None:
        slots.close()


def _goodbye(book: Ledger, arrivals: spool.Arrivals, slots: Slots | None, own: Own) -> None:
    """Leave the ledger; not with something unfiled, which whoever adopts it says then."""
    _close(slots)
    try:
        if not spool.waiting(arrivals.folder):
            with book.write() as conn:
                processes.gone(conn, own.token)
            spool.remove_if_empty(arrivals)
    except Unavailable:
        log.get("listener").warning("goodbye_unsaid")
    finally:
        arrivals.close()
    book.engine.dispose()
