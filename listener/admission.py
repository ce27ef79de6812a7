"""Which connections are taken: decided by the peer list when one is accepted, before anything is read from it.

Listed networks have a share of their own that nobody else can fill. Who cannot be judged by address gets another, and
a short time to state a title. An unlisted address is heard for a moment, so that the list of refused peers can name
its title; beyond that it is closed at once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom.transport import ThreadedAssociationServer

from cauda.core.domain import Reason
from cauda.core.peers import Standing
from cauda.core.settings import Limits
from cauda.listener.guests import Guests
from cauda.listener.refusals import Refusals

UNLISTED_CONNECTIONS = 8  # at once, from all unlisted addresses together
_UNLISTED_PER_WINDOW, _WINDOW_S = 8, 2.0  # connections of one unlisted address that are heard
_MOST_REMEMBERED = 1000  # unlisted addresses
FIRST_WORDS_S = {Standing.OPEN: 5.0, Standing.UNLISTED: 2.0}  # for a handshake, and for an association request


def connections_for_listed(limits: Limits) -> int:
    """How many connections listed networks may hold; one address half of them."""
    return 4 * limits.max_associations


def connections_for_open(limits: Limits) -> int:
    """How many connections may wait to be judged whose address says nothing; one address half of them."""
    return 2 * limits.max_associations


@dataclass(slots=True, eq=False)
class Ticket:
    """One connection that was taken."""

    address: str
    standing: Standing

    def patience_s(self, most_s: float) -> float:
        """How long its first words may take."""
        return min(most_s, FIRST_WORDS_S.get(self.standing, most_s))


class Admission:
    """The connections of both ports."""

    def __init__(
        self, guests: Guests, limits: Limits, refusals: Refusals, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``guests`` is the peer list; who is not taken is added to ``refusals``."""
        self._guests = guests
        self._refusals = refusals
        self._clock = clock
        self._most = {
            Standing.LISTED: connections_for_listed(limits),
            Standing.OPEN: connections_for_open(limits),
            Standing.UNLISTED: UNLISTED_CONNECTIONS,
        }
        self._held = Counter[tuple[Standing, str]]()
        self._totals = Counter[Standing]()
        self._heard = OrderedDict[str, tuple[float, int]]()  # by unlisted address: the window's start, and how often
        self._lock = threading.Lock()

    def admit(self, address: str, *, anywhere: bool = False) -> Ticket | None:
        """A ticket for a new connection, to be given back; None when it must be closed. ``anywhere`` as in `peers`."""
        standing = self._guests.standing(address, anywhere=anywhere)
        with self._lock:
            reason = self._reason_against(standing, address)
            if reason is None:
                self._totals[standing] += 1
                self._held[standing, address] += 1
        if reason is not None:
            self._refusals.add("", address, reason)
            return None
        return Ticket(address, standing)

    def promote(self, ticket: Ticket) -> None:
        """Count a caller that was let in by its title or certificate with those of listed networks."""
        with self._lock:
            if ticket.standing is Standing.OPEN:
                self._drop(ticket)
                ticket.standing = Standing.LISTED
                self._totals[ticket.standing] += 1
                self._held[ticket.standing, ticket.address] += 1

    def release(self, ticket: Ticket) -> None:
        """The connection is over."""
        with self._lock:
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        key = (ticket.standing, ticket.address)
        self._totals[ticket.standing] -= 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]

    def _reason_against(self, standing: Standing, address: str) -> Reason | None:
        if standing is Standing.FORBIDDEN:
            return Reason.ADDRESS_NOT_ALLOWED
        most = self._most[standing]
        if standing is Standing.UNLISTED:
            room = self._totals[standing] < most and self._held[standing, address] < most // 2
            return None if room and self._may_speak(address) else Reason.ADDRESS_NOT_ALLOWED
        if self._totals[standing] >= most or self._held[standing, address] >= most // 2:
            return Reason.TOO_MANY_CONNECTIONS
        return None

    def _may_speak(self, address: str) -> bool:
        now = self._clock()
        began, count = self._heard.get(address, (now, 0))
        if now - began >= _WINDOW_S:
            began, count = now, 0
        self._heard[address] = began, count + 1
        self._heard.move_to_end(address)
        if len(self._heard) > _MOST_REMEMBERED:
            self._heard.popitem(last=False)
        return count < _UNLISTED_PER_WINDOW


class AdmittingServer(ThreadedAssociationServer):
    """A port that takes the connections that `Admission` does."""

    request_queue_size = 128  # with the default of 5 a burst of probes costs the next caller a second
    daemon_threads = True  # nobody waits for a handshake at the end
    anywhere = False  # whether a certificate may speak for an address that the list does not name

    def __init__(self, *args: Any, admission: Admission, **kwargs: Any) -> None:
        """As pynetdicom's."""
        super().__init__(*args, **kwargs)
        self.admission = admission
        self._tickets: dict[int, Ticket] = {}  # by id() of a socket that nobody serves yet

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection is taken; it is closed otherwise."""
        ticket = self.admission.admit(str(client_address[0]), anywhere=self.anywhere)
        if ticket is not None:
            self._tickets[id(request)] = ticket
        return ticket is not None

    def take_ticket(self, request: Any) -> Ticket:
        """The ticket of a connection that is served from now on; whoever takes it gives it back at the end."""
        return self._tickets.pop(id(request))

    def hand_over(self, ticket: Ticket, request: Any) -> None:
        """Keep a ticket with the socket that stands for the connection now."""
        self._tickets[id(request)] = ticket

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; one that was never served gives back its ticket."""
        ticket = self._tickets.pop(id(request), None)
        if ticket is not None:
            self.admission.release(ticket)
        super().shutdown_request(request)
