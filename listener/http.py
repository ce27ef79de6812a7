"""The HTTP door: probes and metrics for what watches a node, and the routes that others bring."""

from __future__ import annotations

import math
import re
import shutil
import socket
import threading
import time
from collections.abc import Sequence

import uvicorn
from prometheus_client import generate_latest
from sqlalchemy import ColumnElement, Connection, func, select
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cauda.core import claims, deliveries, metrics, schema, unfiled
from cauda.core.errors import CaudaError
from cauda.core.ledger import Ledger
from cauda.core.schema import RevisionState, StudyState
from cauda.core.settings import Settings
from cauda.core.spool import Spool
from cauda.core.steady_clock import last_step
from cauda.listener import callers, http_bounds
from cauda.listener.tls import Certificates

DEAF_AFTER_S = 120.0  # work was due for so long and nobody claimed any


def application(
    settings: Settings,
    ledger: Ledger,
    store: Spool,
    certificates: Certificates | None = None,
    doors: Sequence[Route] = (),
) -> Starlette:
    """The ASGI application, with the ``doors`` that others bring."""
    destinations = [one.name for one in settings.destinations]

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def stranger(request: Request) -> Response | None:
        if callers.may_watch(request, settings.http):
            return None
        return PlainTextResponse("not by this name or through this proxy: see http.names, http.trusted_proxies\n", 403)

    async def readyz(request: Request) -> Response:
        if (refusal := stranger(request)) is not None:
            return refusal
        problems = await run_in_threadpool(not_ready, ledger, store, destinations)
        notes = await run_in_threadpool(certificates.troubles, time.time()) if certificates else []
        notes = [*notes, *await run_in_threadpool(things_to_know, ledger, store)]
        return JSONResponse({"ready": not problems, "reasons": problems, "notes": notes}, 503 if problems else 200)

    async def scrape(request: Request) -> Response:
        if (refusal := stranger(request)) is not None:
            return refusal
        if certificates is not None:
            await run_in_threadpool(certificates.troubles, time.time())  # sets its gauge
        await run_in_threadpool(_gauge, ledger, store)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    made = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", scrape),
            *doors,
        ],
        exception_handlers={TimeoutError: http_bounds.too_slow},
    )
    made.router.redirect_slashes = False  # `_plain` serves them: a redirect of a POST is lost on many clients
    return made


def _plain(app: ASGIApp) -> ASGIApp:
    """The same application under paths with doubled slashes or one at the end."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = dict(scope) | {"path": re.sub("/{2,}", "/", scope["path"]).rstrip("/") or "/"}
        await app(scope, receive, send)

    return served


def not_ready(ledger: Ledger, store: Spool, destinations: Sequence[str]) -> list[str]:
    """Why this node should get no traffic or attention; empty when all is well."""
    problems = []
    try:
        store.check_room()
    except CaudaError as error:
        problems.append(error.message)
    except OSError as error:
        problems.append(f"data folder: {error.strerror}")
    try:
        with ledger.read() as conn:
            problems += [one.words for one in unfiled.unfiled(ledger, conn, store) if one.passing]
            if _deaf_grader(ledger, conn):
                problems.append("a worker is deaf: studies are due and nobody claims them")
            if _deaf_deliverer(ledger, conn, destinations):
                problems.append("a worker is deaf: results are due and nobody sends them")
    except CaudaError as error:
        problems.append(error.message)
    return problems


def things_to_know(ledger: Ledger, store: Spool) -> list[str]:
    """What needs a person and keeps nothing from this node: the clock was set, something stays unfiled."""
    try:
        with ledger.read() as conn:
            step = last_step(conn, ledger.time(conn))
            left = unfiled.unfiled(ledger, conn, store)
    except CaudaError:
        return []
    return [*([step.words] if step else []), *(one.words for one in left if not one.passing)]


def _deaf_grader(ledger: Ledger, conn: Connection) -> bool:
    if not claims.due(ledger, conn):
        return False
    table = schema.revision
    oldest = conn.execute(select(func.min(table.c.not_before)).where(table.c.state == RevisionState.DUE)).scalar_one()
    return _silent(ledger, conn, oldest, func.max(schema.source.c.served_at))


def _deaf_deliverer(ledger: Ledger, conn: Connection, destinations: Sequence[str]) -> bool:
    oldest = deliveries.due_since(ledger, conn, destinations)
    return _silent(ledger, conn, oldest, func.max(schema.delivery.c.sent_at))


def _silent(ledger: Ledger, conn: Connection, oldest: float | None, last: ColumnElement[float]) -> bool:
    """Work has been due for long, and nothing of its kind was claimed for as long."""
    claimed = conn.execute(select(last)).scalar_one()
    return oldest is not None and ledger.time(conn) - max(oldest, claimed or 0.0) > DEAF_AFTER_S


def _gauge(ledger: Ledger, store: Spool) -> None:
    metrics.free_bytes.set(shutil.disk_usage(store.data).free)
    try:
        with ledger.read() as conn:
            study, revision, delivery = schema.study.c, schema.revision.c, schema.delivery.c
            for state in StudyState:
                metrics.studies.labels(state).set(0)
            for state, count in conn.execute(select(study.state, func.count()).group_by(study.state)):
                metrics.studies.labels(state).set(count)
            held = conn.execute(select(func.count()).where(study.hold.is_not(None))).scalar_one()
            metrics.held.set(held)
            for one in RevisionState:
                metrics.revisions.labels(one).set(0)
            for state, count in conn.execute(select(revision.state, func.count()).group_by(revision.state)):
                metrics.revisions.labels(state).set(count)
            metrics.deliveries.clear()
            query = select(delivery.destination, delivery.state, func.count())
            for name, state, count in conn.execute(query.group_by(delivery.destination, delivery.state)):
                metrics.deliveries.labels(name, state).set(count)
            for name, failures in conn.execute(select(schema.destination.c.name, schema.destination.c.failures)):
                metrics.breaker.labels(name).set(failures)
    except CaudaError:
        return  # what the listener counts itself is still worth scraping


class Server:
    """uvicorn in a thread, on a socket that is bound before the thread starts."""

    def __init__(self, app: Starlette, settings: Settings) -> None:
        """Raises OSError when the port is taken."""
        host, port, limits = settings.http.host, settings.http.port, settings.limits
        self._drain_s = limits.drain_s  # given to requests under way at the end
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(128)  # from here on a caller waits instead of being refused
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            http_bounds.bodies(_plain(app), limits.network_timeout_s),
            http=http_bounds.protocol(settings.http, limits.network_timeout_s),
            log_config=None,
            access_log=False,
            proxy_headers=False,  # `callers` reads them, where a trusted proxy wrote them
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=math.ceil(limits.drain_s),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more; does not wait."""
        self._server.should_exit = True

    def stop(self) -> None:
        """Finish what is being answered and close."""
        self.close()
        if self._thread.ident is not None:  # it may never have been started
            self._thread.join(timeout=self._drain_s + 10)
        self._socket.close()
