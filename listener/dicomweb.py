"""The DICOMweb door: STOW-RS, streamed part by part (PS3.18 section 10.5). Nothing can be searched or retrieved."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cauda.core import log, metrics, stack, uids
from cauda.core.domain import Reason
from cauda.core.peers import Verdict
from cauda.core.settings import Settings, is_loopback
from cauda.listener import accept, auth, callers, multipart, stow
from cauda.listener.landing import Door, Session
from cauda.listener.part10 import Origin
from cauda.listener.sessions import Throttle
from cauda.listener.told import Ended, Learned, Opened

SOURCE = "STOW-RS"  # where an AE title is asked for, as in the list of peers: HTTP has none
_AT_ONCE_BYTES = 1 << 18  # gathered before a thread is asked to write
_JSON, _XML = "application/dicom+json", "application/dicom+xml"
_OFFERED = (_JSON, "application/json", _XML)  # the second is asked for by who does not know the first


class _Refusal(Exception):
    """The whole request is turned away."""

    def __init__(self, status: int, words: str, **headers: str) -> None:
        super().__init__(words)
        self.response = PlainTextResponse(f"{words}\n", status, {k.replace("_", "-"): v for k, v in headers.items()})


def routes(door: Door) -> list[Route]:
    """The endpoints; none where the setting is off."""
    if not door.settings.dicomweb.stow:
        return []
    failed = Throttle(time.monotonic)

    async def store(request: Request) -> Response:
        try:
            return await _store(request, door, failed)
        except _Refusal as refusal:
            return refusal.response
        except Exception as error:  # noqa: BLE001  the HTTP border
            log.get("stow").error("request_failed", stack=stack.of(error))
            return PlainTextResponse("internal error\n", 500)

    return [
        Route("/dicom-web/studies", store, methods=["POST"]),
        Route("/dicom-web/studies/{study}", store, methods=["POST"]),
    ]


async def _store(request: Request, door: Door, failed: Throttle) -> Response:
    address = callers.address(request, door.settings.http)
    _check_peer(request, door, address, failed)
    body, study_uid = _check_request(request)
    kind = _check_accept(request)
    async with _session(door, address) as session:
        reception = stow.Reception(door, session, body.boundary, study_uid)
        try:
            await _receive(request, reception)
        except multipart.Malformed as error:
            log.get("stow").warning("body_malformed", association=session.origin.association_id, message=str(error))
            return _answer(reception, kind, 400, str(error))
        except TimeoutError:
            return _answer(reception, kind, 408, "the body came too slowly")
        finally:
            reception.drop()
        session.ended = True  # a release; everything else is an abort
        return _answer(reception, kind, stow.http_status(reception.results))


def _check_peer(request: Request, door: Door, address: str, failed: Throttle) -> None:
    settings = door.settings
    if callers.is_behind_stranger(request, settings.http):
        door.refusals.add(SOURCE, address, Reason.PROXY_NOT_NAMED)
        raise _Refusal(403, "it came through a proxy that is not named: set http.trusted_proxies")
    verdict = door.guests.verdict(SOURCE, address)
    if verdict is Verdict.OUT:
        door.refusals.add(SOURCE, address, Reason.CALLING_AE_NOT_ALLOWED)
        raise _Refusal(403, f"{SOURCE} from this address is not on the list of peers")
    if token := _token(settings):
        _check_token(request, token, address, failed, door)
    elif not is_loopback(settings.http.host):
        raise _Refusal(403, "closed: set dicomweb.token, or bind http.host to loopback")
    elif not callers.is_this_machine(request):
        raise _Refusal(403, "without dicomweb.token only this machine may send, to localhost or 127.0.0.1")
    if door.closing.is_set():
        raise _Refusal(503, "shutting down", Retry_After="30")
    if verdict is Verdict.LEARN:
        door.tell(Learned(aet=SOURCE, address=address))


def _check_token(request: Request, token: str, address: str, failed: Throttle, door: Door) -> None:
    """The right token, from an address that has not just tried many; who shows none is asked for it."""
    given, counted = request.headers.get("authorization", ""), callers.throttle_key(address)
    if given and (wait_s := failed.blocked_s(counted)):
        log.get("stow").warning("token_throttled", address=address)
        door.refusals.add(SOURCE, address, Reason.TOKEN_THROTTLED)
        raise _Refusal(429, "too many wrong tokens", Retry_After=str(int(wait_s) + 1))
    if auth.has_token(given, token):
        failed.forget(counted)
        return
    if given:
        failed.wait_s(counted)
        log.get("stow").warning("token_wrong", address=address)
        door.refusals.add(SOURCE, address, Reason.TOKEN_WRONG)
    raise _Refusal(401, "a token is needed", WWW_Authenticate='Basic realm="Cauda", Bearer')


def _token(settings: Settings) -> str:
    return settings.dicomweb.token.get_secret_value() if settings.dicomweb.token else ""


def _check_request(request: Request) -> tuple[multipart.MediaType, str | None]:
    """How the body is split, and the study in the URL."""
    try:
        body = multipart.media_type(request.headers.get("content-type", ""))
    except multipart.Malformed as error:
        raise _Refusal(400, str(error)) from error
    if body.name != "multipart/related" or body.root_type not in {"application/dicom", ""}:
        raise _Refusal(415, 'the body must be multipart/related; type="application/dicom"')
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _Refusal(415, "a body with a Content-Encoding is not taken")
    if not body.boundary:
        raise _Refusal(400, "multipart/related without a boundary")
    study: str | None = request.path_params.get("study")
    if study is not None and not uids.is_uid(study):
        raise _Refusal(400, "the study in the URL is not a valid UID")
    return body, study


def _check_accept(request: Request) -> str:
    """The media type of the answer; nothing is taken from who could not read it (PS3.18 8.7.5)."""
    kind = accept.best(",".join(request.headers.getlist("accept")), _OFFERED)
    if kind is None:
        raise _Refusal(406, f"the answer can be {_JSON} or {_XML}, and Accept admits neither; nothing was stored")
    return kind


@asynccontextmanager
async def _session(door: Door, address: str) -> AsyncIterator[Session]:
    """What an association is on the DIMSE side: its end counts like a release for completeness. _Refusal: too many."""
    origin = Origin(
        association_id=secrets.token_hex(16), calling_aet=SOURCE, called_aet=door.settings.node.aet, address=address
    )
    caps = door.guests.caps(SOURCE, address, door.settings.limits)
    session = Session(origin, time.monotonic(), caps.max_object_bytes, "stow")
    with door.lock:  # of both doors: counted and let in at once
        here = [one.origin.address for one in door.sessions.values()]
        full = len(here) >= door.settings.limits.max_associations or here.count(address) >= caps.max_associations
        if not full:
            door.sessions[id(session)] = session
    if full:
        door.refusals.add(SOURCE, address, Reason.TOO_MANY_ASSOCIATIONS)
        raise _Refusal(503, "too many transfers at once", Retry_After="5")
    door.tell(Opened(origin))
    try:
        yield session
    finally:
        with door.lock:
            del door.sessions[id(session)]
        how = "released" if session.ended else "aborted"
        metrics.associations.labels(how).inc()
        door.tell(Ended(origin.association_id, how))
        log.get("stow").info(
            "request_ended", association=origin.association_id, address=address, how=how, instances=session.instances,
            refused=session.refused, bytes=session.bytes, seconds=round(time.monotonic() - session.began, 2),
        )  # fmt: skip


async def _receive(request: Request, reception: stow.Reception) -> None:
    """Feed the body; TimeoutError when it stops or drips (`http_bounds`), Malformed when it ends too soon."""
    gathered = bytearray()
    try:
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= _AT_ONCE_BYTES:
                await run_in_threadpool(reception.feed, bytes(gathered))
                gathered.clear()
    except ClientDisconnect as error:
        raise multipart.Malformed("the peer hung up") from error
    await run_in_threadpool(reception.feed, bytes(gathered))
    reception.finish()


def _answer(reception: stow.Reception, kind: str, status: int, words: str = "") -> Response:
    """What was stored and what was not; in words, too, where somebody reads headers (PS3.18 10.5.3)."""
    failed = {one.answer.comment for one in reception.results if not one.stored}
    warned = [words] if words else sorted(failed)[:3]
    headers = {"Warning": ", ".join(f'299 Cauda "{one.replace(chr(34), "")}"' for one in warned)} if warned else {}
    if status in {400, 408}:
        headers["Connection"] = "close"
    said = stow.response(reception.results)
    if kind == _XML:
        return Response(stow.native(said), status, headers, media_type=_XML)
    return JSONResponse(said, status, headers, media_type=kind)
