"""The pages for people: studies, one study, and what an operator can do. Readable without scripts, none is sent.

They name UIDs, states and reasons, never a patient: the one picture is the Secondary Capture, in which there is no
identity (CLINICAL.md 22). Who looked at which study is written to the log, who did something also to the ledger.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode
from zoneinfo import ZoneInfo

import jinja2
from sqlalchemy import and_, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cauda.core import log, schema, spool, stack, uids, unfiled, views
from cauda.core.domain import Json
from cauda.core.errors import CaudaError
from cauda.core.ledger import Ledger
from cauda.core.plain_text import plain
from cauda.core.revisions import Fingerprint
from cauda.core.schema import ResultKind
from cauda.core.settings import Settings, is_loopback
from cauda.core.spool import Spool
from cauda.core.unfiled import Unfiled
from cauda.listener import callers, completeness, phrases, pictures
from cauda.listener.actions import ACTIONS, Said, missing, perform
from cauda.listener.sessions import COOKIE, Session, Sessions

_TEMPLATES = Path(__file__).with_name("templates")
_LISTED = 50
_PICTURES = {ResultKind.SC: "pictures", ResultKind.WARNING: "pictures", ResultKind.HEAT_MAP: "heat_maps"}
_FORM_BYTES = 8192
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the pages show, and who may see them."""

    settings: Settings
    ledger: Ledger
    store: Spool
    fingerprint: Fingerprint
    sessions: Sessions

    @property
    def open_here(self) -> bool:
        """Whether no login is asked: nobody can log in, and only this machine reaches the pages."""
        return not self.sessions.wanted and is_loopback(self.settings.http.host)


class _Refusal(Exception):
    """The answer is no, in words."""

    def __init__(self, status: int, title: str, words: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(title)
        self.status, self.title, self.words, self.headers = status, title, words, headers or {}


_Handler = Callable[[Desk, Request, Session], Awaitable[Response]]


def routes(desk: Desk) -> list[Route]:
    """The pages' routes."""

    def route(path: str, handler: _Handler, method: str = "GET", *, login: bool = True) -> Route:
        async def answer(request: Request) -> Response:
            return await _answered(desk, request, handler, login=login)

        return Route(path, answer, methods=[method])

    async def style(_request: Request) -> Response:
        return Response(_STYLE, media_type="text/css", headers=_HEADERS | {"Cache-Control": "max-age=3600"})

    return [
        route("/", _list),
        route("/studies/{uid}", _study),
        route("/studies/{uid}/results/{sop_uid}.png", _picture),
        route("/studies/{uid}/{action}", _act, "POST"),
        route("/login", _login_form, login=False),
        route("/login", _login, "POST", login=False),
        route("/logout", _logout, "POST"),
        Route("/cauda.css", style),
    ]


async def _answered(desk: Desk, request: Request, handler: _Handler, *, login: bool) -> Response:
    """The border of the pages: who asks, what they may, and every refusal as a page."""
    session = desk.sessions.of(request.cookies.get(COOKIE))
    fresh = session is None
    session = session or desk.sessions.anonymous()
    try:
        _check_reachable(desk, request)
        if login and session.user is None and not desk.open_here:
            return _redirect(f"/login?{urlencode({'next': request.url.path})}" if request.method == "GET" else "/login")
        response = await handler(desk, request, session)
    except _Refusal as no:
        response = _rendered(desk, session, "message.html", no.status, title=no.title, words=no.words)
        response.headers.update(no.headers)
    except CaudaError as error:
        response = _rendered(desk, session, "message.html", 503, title="Not now", words=error.message)
    except TimeoutError:  # a form that comes too slowly: `http_bounds` answers
        raise
    except Exception as error:  # noqa: BLE001  the border: a bug is a page here, and its stack without values a log line
        log.get("pages").error("page_failed", path=request.scope["path"], stack=stack.of(error))
        words = "This is a bug; the log of the listener says where."
        response = _rendered(desk, session, "message.html", 500, title="Something broke", words=words)
    if fresh and COOKIE not in response.headers.get("set-cookie", ""):
        _keep(desk, request, response, session)
    return response


def _check_reachable(desk: Desk, request: Request) -> None:
    """On loopback without a login, only by this machine's own name: a web site's name may be made to point here."""
    if not desk.sessions.wanted and (not desk.open_here or callers.is_forwarded(request.headers)):
        raise _Refusal(403, "Nobody can log in yet", "Pages beyond this machine need a login: `cauda config user NAME` "
                       "prints what belongs under [http] in the configuration.")  # fmt: skip
    if desk.open_here and not callers.is_this_machine(request):
        raise _Refusal(403, "Not by this name", "Without a login the pages answer to localhost and 127.0.0.1 only.")


async def _list(desk: Desk, request: Request, session: Session) -> Response:
    """The newest studies, by state; or the one whose UID was typed in."""
    wanted = request.query_params.get("uid", "").strip()
    if wanted:
        return _redirect(f"/studies/{_uid(wanted)}")
    state = request.query_params.get("state", "").upper()
    if state and state not in phrases.STATES:
        raise _Refusal(404, "No such state", f"The states are {', '.join(phrases.STATES).lower()}.")
    before = request.query_params.get("before")
    rows, left = await run_in_threadpool(_studies, desk, state or None, _uid(before) if before else None)
    _seen(desk, request, session, what="list")
    older = urlencode({"state": state.lower(), "before": rows[_LISTED - 1]["study_uid"]}) if len(rows) > _LISTED else ""
    return _rendered(desk, session, "studies.html", rows=rows[:_LISTED], state=state, before=before, older=older,
                     unfiled=left)  # fmt: skip


def _studies(desk: Desk, state: str | None, before: str | None) -> tuple[list[Json], list[Unfiled]]:
    """The studies, and what is in none of them yet."""
    with desk.ledger.read() as conn:
        left = unfiled.unfiled(desk.ledger, conn, desk.store)
        rows = views.studies(conn, limit=_LISTED + 1, state=state, before=before)
        receiving = [row["study_uid"] for row in rows if row["state"] == "RECEIVING"]
        waits = completeness.waits_for(desk.ledger, conn, receiving, desk.settings.completeness)
    for row in rows:
        row["waits_for"] = waits.get(row["study_uid"])
    return rows, left


async def _study(desk: Desk, request: Request, session: Session) -> Response:
    """One study: what became of it and why."""
    uid = _uid(request.path_params["uid"])
    found = await run_in_threadpool(_found, desk, uid)
    _seen(desk, request, session, what="study", study=uid)
    said = request.query_params.get("said", "")
    action = ACTIONS.get(said.removeprefix("not-"))
    words = (action.refused if said.startswith("not-") else action.done) if action else ""
    shown = [one for one in reversed(found["revisions"]) if one["findings"] or one["pictures"]]
    numbers = {one["id"]: one["number"] for one in found["revisions"]}
    offered = {name: one for name, one in ACTIONS.items() if one.offered(found)}
    return _rendered(desk, session, "study.html", study=found, said=words, offered=offered, shown=shown,
                     numbers=numbers)  # fmt: skip


def _found(desk: Desk, uid: str) -> Json:
    with desk.ledger.read() as conn:
        found = views.study(conn, uid)
        if found is None:
            raise _Refusal(404, "No such study", f"No study {uid} came to this node.")
        found["unfiled"] = unfiled.of_study(desk.ledger, conn, desk.store, uid, found["state"])
        found["waits_for"] = completeness.waits_for(desk.ledger, conn, [uid], desk.settings.completeness).get(uid)
        result = schema.result.c
        made = conn.execute(
            select(result.revision_id, result.sop_uid, result.kind)
            .where(result.study_uid == uid, result.kind.in_(_PICTURES))
            .order_by(result.id)
        ).all()
    for revision in found["revisions"]:
        revision |= {name: [] for name in _PICTURES.values()}
        for one in made:
            if one.revision_id == revision["id"]:
                revision[_PICTURES[ResultKind(one.kind)]].append(one.sop_uid)
    return found


async def _picture(desk: Desk, request: Request, session: Session) -> Response:
    """A Secondary Capture as readers see it."""
    uid, sop_uid = _uid(request.path_params["uid"]), _uid(request.path_params["sop_uid"])
    content = await run_in_threadpool(_drawn, desk, uid, sop_uid)
    _seen(desk, request, session, what="picture", study=uid)
    return Response(content, media_type="image/png", headers=_HEADERS)


def _drawn(desk: Desk, uid: str, sop_uid: str) -> bytes:
    result = schema.result.c
    of_study = and_(result.study_uid == uid, result.kind.in_(_PICTURES))
    where = select(result.path).where(of_study, result.sop_uid == sop_uid)
    with desk.ledger.read() as conn:
        path = conn.execute(where).scalar_one_or_none()
    if path is None:
        raise _Refusal(404, "No such picture", "This study has no such result.")
    return pictures.png(spool.read(desk.store, path))


async def _act(desk: Desk, request: Request, session: Session) -> Response:
    """Do what a button says, once, for who asked for the page that it was on."""
    uid, name = _uid(request.path_params["uid"]), request.path_params["action"]
    form = await _form(request, session)
    if name not in ACTIONS:
        raise _Refusal(404, "No such action", f"The actions are {', '.join(ACTIONS)}.")
    await run_in_threadpool(_found, desk, uid)
    said = Said(text=form.get("text", "")[:256], choice=form.get("choice", ""), fingerprint=desk.fingerprint)
    if missing(ACTIONS[name], said):
        raise _Refusal(400, "Nothing was done", missing(ACTIONS[name], said))
    user = session.user or "somebody at this machine"
    done = await run_in_threadpool(lambda: perform(desk.ledger, uid, name, said=said, user=user))
    log.get("pages").info("page_action", action=name, study=uid, done=done, **_who(desk, request, session))
    return _redirect(f"/studies/{uid}?said={'' if done else 'not-'}{name}")


async def _login_form(desk: Desk, request: Request, session: Session) -> Response:
    return _rendered(desk, session, "login.html", where=_back(request.query_params.get("next", "")), wrong=False)


async def _login(desk: Desk, request: Request, session: Session) -> Response:
    form = await _form(request, session)
    where, address = _back(form.get("next", "")), callers.address(request, desk.settings.http)
    counted = callers.throttle_key(address)
    wait_s = desk.sessions.throttle.wait_s(counted)
    if wait_s:
        log.get("pages").warning("login_throttled", address=address)
        after = {"Retry-After": str(int(wait_s) + 1)}
        raise _Refusal(429, "Too many attempts", f"Try again in {int(wait_s) + 1} seconds.", after)
    made = await run_in_threadpool(desk.sessions.login, form.get("name", "")[:64], form.get("password", "")[:256])
    if made is None:
        log.get("pages").warning("login_failed", address=address)  # no name: a password is typed there at times
        return _rendered(desk, session, "login.html", 403, where=where, wrong=True)
    desk.sessions.throttle.forget(counted)
    log.get("pages").info("login", user=made.user, address=address)
    response = _redirect(where)
    _keep(desk, request, response, made)
    return response


async def _logout(desk: Desk, request: Request, session: Session) -> Response:
    await _form(request, session)
    desk.sessions.end(session)
    log.get("pages").info("logout", **_who(desk, request, session))
    response = _redirect("/login" if desk.sessions.wanted else "/")
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


async def _form(request: Request, session: Session) -> dict[str, str]:
    """A form's fields, of bounded size; refused without the token that only our own page has."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _FORM_BYTES:
            raise _Refusal(413, "Too much", "A form of these pages is small.")
    fields = {key: values[-1] for key, values in parse_qs(content.decode(errors="replace")).items()}
    if not hmac.compare_digest(fields.get("token", "").encode(), session.form_token.encode()):
        raise _Refusal(403, "Not from our page", "The form is old or came from elsewhere. Go back, reload, try again.")
    return fields


def _uid(text: str) -> str:
    try:
        return uids.checked(text, "UID")
    except CaudaError as error:
        raise _Refusal(404, "No such study", "That is no DICOM UID: digits and dots, at most 64.") from error


def _back(path: str) -> str:
    """Where to go after the login: one of our own pages."""
    return path if re.fullmatch(r"/(studies/[0-9.]{1,64})?", path) else "/"


def _who(desk: Desk, request: Request, session: Session) -> dict[str, Any]:
    return {"user": session.user, "address": callers.address(request, desk.settings.http)}


def _seen(desk: Desk, request: Request, session: Session, **what: str) -> None:
    log.get("pages").info("page_seen", **what, **_who(desk, request, session))


def _keep(desk: Desk, request: Request, response: Response, session: Session) -> None:
    response.set_cookie(
        COOKIE, session.cookie, httponly=True, samesite="strict", secure=callers.is_secure(request, desk.settings.http)
    )


def _redirect(where: str) -> Response:
    return RedirectResponse(where, 303, headers=_HEADERS)


def _rendered(desk: Desk, session: Session, template: str, status: int = 200, **context: Any) -> Response:
    zone = desk.settings.site.timezone
    page = _ENVIRONMENT.get_template(template).render(
        session=session, login_wanted=desk.sessions.wanted, phrases=phrases, aet=desk.settings.node.aet,
        clock=lambda text: _clock(text, zone), zone=zone or "UTC", **context,
    )  # fmt: skip
    return Response(page, status, media_type="text/html", headers=_HEADERS)


def _clock(text: str | None, zone: str | None) -> str:
    """An ISO time of the ledger as people read it, on the site's clock."""
    if text is None:
        return ""
    moment = datetime.fromisoformat(text).astimezone(ZoneInfo(zone) if zone else UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _seen_text(value: object) -> object:
    """What came from outside without characters that hide or turn round what stands beside them."""
    return plain(value, lines=True) if type(value) is str else value


_STYLE = (_TEMPLATES / "cauda.css").read_text()
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, finalize=_seen_text,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
