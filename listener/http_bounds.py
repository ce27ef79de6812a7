"""Bounds on HTTP callers: how many there are, and how slowly a head or a body may come, or an answer be taken.

uvicorn has a deadline only for a connection that is silent after an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cauda.core.settings import Http

SLOWEST_BODY_BYTES_S = 1024  # what comes slower on the whole is no honest body


class BoundedProtocol(H11Protocol):
    """uvicorn's, with a deadline for each head, and for an answer that nobody takes."""

    bounds: Http
    patience_s: float
    _head: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Hang up where there is one too many."""
        super().connection_made(transport)
        addresses = [one.client[0] for one in self.connections if isinstance(one, H11Protocol) and one.client]
        most = self.bounds.max_connections
        if len(addresses) > most or (self.client and addresses.count(self.client[0]) > most // 2):
            transport.abort()
        else:
            self._await_head()

    def handle_events(self) -> None:
        """As uvicorn's; a head that is whole has no deadline any more."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._head)

    def on_response_complete(self) -> None:
        """As uvicorn's; the next head has its own deadline."""
        self._await_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer takes nothing and the buffer is full."""
        super().pause_writing()
        self._stuck = self.loop.call_later(self.patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes again."""
        super().resume_writing()
        _cancel(self._stuck)

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer stays."""
        _cancel(self._head)
        _cancel(self._stuck)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        _cancel(self._head)
        self._head = self.loop.call_later(self.bounds.head_timeout_s, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def protocol(bounds: Http, patience_s: float) -> type[BoundedProtocol]:
    """The class with these bounds; an answer that is not taken for ``patience_s`` ends its connection."""
    return type("Bounded", (BoundedProtocol,), {"bounds": bounds, "patience_s": patience_s})


def bodies(app: ASGIApp, patience_s: float, clock: Callable[[], float] = time.monotonic) -> ASGIApp:
    """An application whose ``receive`` raises TimeoutError when a body stops or drips (`too_slow` answers).

    Only time spent waiting for the peer counts.
    """

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        waited, count, more = 0.0, 0, scope["type"] == "http"

        async def received() -> Message:
            nonlocal waited, count, more
            if not more:  # what is awaited now is the end of the connection
                return await receive()
            began = clock()
            left = patience_s + count / SLOWEST_BODY_BYTES_S - waited
            message = await asyncio.wait_for(receive(), max(min(patience_s, left), 0))
            waited += clock() - began
            count += len(message.get("body", b""))
            more = bool(message.get("more_body", False))
            return message

        await app(scope, received, send)

    return bounded


async def too_slow(_request: Request, _error: Exception) -> Response:
    """The answer to a body that `bodies` has given up."""
    return PlainTextResponse("the body came too slowly\n", 408, {"Connection": "close"})
