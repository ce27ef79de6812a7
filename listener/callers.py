"""Who sent an HTTP request: an address that is believed, whether it is this machine, and by which name it came.

No forwarded header is believed unless the connection comes from a proxy that `http.trusted_proxies` names. A request
that was forwarded is never this machine's own, whatever its connection says. A web site may make its own name point
here (DNS rebinding): what is open without a login or token answers to this machine's names alone.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.requests import Request

from cauda.core.peers import Address, Network, address_of
from cauda.core.settings import Http, is_loopback

UNKNOWN = ""  # the address of a caller whom a trusted proxy does not name
_MOST_HOPS = 20
_FORWARDED = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "client-ip", "true-client-ip",
     "cf-connecting-ip", "x-original-forwarded-for", "x-proxyuser-ip"}
)  # fmt: skip
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?")
_PAIR = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s";,]*)\s*')


def is_forwarded(headers: Headers) -> bool:
    """Whether somebody between says that it passed the request on."""
    return any(name in _FORWARDED or name.startswith("x-forwarded") for name in headers)


def address(request: Request, http: Http) -> str:
    """The caller's address; behind a trusted proxy the one that it names, `UNKNOWN` where it names none."""
    peer = _peer(request)
    if peer is None:
        return UNKNOWN
    if not is_forwarded(request.headers) or not _is_trusted(peer, http):
        return str(peer)
    lists = [hops for hops in (_x_forwarded_for(request.headers), _forwarded_for(request.headers)) if hops is not None]
    named = {_client(hops, http) for hops in lists}
    # A caller can add the header that its proxy does not set: two that differ are worth nothing.
    found = named.pop() if len(named) == 1 else None
    return UNKNOWN if found is None else str(found)


def is_secure(request: Request, http: Http) -> bool:
    """Whether the caller came by TLS, as a trusted proxy says it."""
    peer = _peer(request)
    if peer is None or not _is_trusted(peer, http):
        return False
    said = ",".join(request.headers.getlist("x-forwarded-proto")).rpartition(",")[2].strip().lower()
    pairs = _pairs(request.headers)
    return said == "https" or bool(pairs and pairs[-1].get("proto", "").lower() == "https")


def is_this_machine(request: Request) -> bool:
    """Whether the request was made on this machine, by a name of loopback, and by no web site of another name."""
    peer = _peer(request)
    if peer is None or not peer.is_loopback or is_forwarded(request.headers):
        return False
    origin = _origin(request.headers)
    return is_loopback(_host(request.headers.getlist("host")) or "") and (origin is None or is_loopback(origin))


def is_behind_stranger(request: Request, http: Http) -> bool:
    """Whether it was forwarded on this machine by a proxy that nobody named: its address says nothing."""
    peer = _peer(request)
    return peer is not None and peer.is_loopback and is_forwarded(request.headers) and not _is_trusted(peer, http)


def may_watch(request: Request, http: Http) -> bool:
    """Whether the probes that need no login answer: to this machine, or beyond it by an address or a known name."""
    if is_this_machine(request):
        return True
    peer = _peer(request)
    forwarded = is_forwarded(request.headers)
    if peer is None or (forwarded and not _is_trusted(peer, http)) or (is_loopback(http.host) and not forwarded):
        return False
    host, origin = _host(request.headers.getlist("host")), _origin(request.headers)
    return host is not None and _is_known(host, http) and origin in {None, host}


def throttle_key(text: str) -> str:
    """Under which an address is counted: of IPv6 its /64, of which a caller has as many addresses as it likes."""
    place = address_of(text)
    if isinstance(place, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((place, 64), strict=False))
    return str(place)


def _peer(request: Request) -> Address | None:
    return address_of(request.client.host) if request.client else None


def _is_trusted(place: Address, http: Http) -> bool:
    return any(place in network for network in _networks(http.trusted_proxies))


def _networks(texts: Iterable[str]) -> list[Network]:
    return [ipaddress.ip_network(one, strict=False) for one in texts]


def _client(hops: list[str], http: Http) -> Address | None:
    """The last hop that is no trusted proxy, or the first of all; None where a hop that counts is no address."""
    found = None
    for hop in reversed(hops[-_MOST_HOPS:]):
        found = _hop(hop)
        if found is None or not _is_trusted(found, http):
            return found
    return found


def _hop(text: str) -> Address | None:
    """An address with or without a port, IPv6 with brackets or without."""
    text = text.strip()
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::\d{1,5})?", text)
    if bracketed:
        return address_of(bracketed[1])
    with_port = re.fullmatch(r"([0-9.]+):\d{1,5}", text)
    return address_of(with_port[1] if with_port else text)


def _x_forwarded_for(headers: Headers) -> list[str] | None:
    lines = headers.getlist("x-forwarded-for")
    return ",".join(lines).split(",") if lines else None


def _forwarded_for(headers: Headers) -> list[str] | None:
    """The ``for`` of each element of Forwarded (RFC 7239); empty text where one has none."""
    pairs = _pairs(headers)
    return None if pairs is None else [one.get("for", "") for one in pairs]


def _pairs(headers: Headers) -> list[dict[str, str]] | None:
    """The elements of Forwarded, names in lower case; one empty element where it cannot be read."""
    lines = headers.getlist("forwarded")
    if not lines:
        return None
    text, at, elements = ",".join(lines), 0, [dict[str, str]()]
    while (match := _PAIR.match(text, at)) is not None:
        value = match[2]
        elements[-1][match[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        at = match.end()
        if at == len(text):
            return elements
        if text[at] == ",":
            elements.append({})
        elif text[at] != ";":
            break
        at += 1
    return [{}]


def _host(lines: list[str]) -> str | None:
    """The name or address in Host; None where there is none, several, or what is no host."""
    match = _HOST.fullmatch(lines[0].strip()) if len(lines) == 1 else None
    return None if match is None else (match[1] or match[2]).lower()


def _origin(headers: Headers) -> str | None:
    """The host in Origin; empty where it names none, None where there is no such header."""
    lines = headers.getlist("origin")
    if not lines:
        return None
    scheme, _, host = lines[0].partition("://")
    return (_host([host]) or "") if len(lines) == 1 and scheme in {"http", "https"} else ""


def _is_known(host: str, http: Http) -> bool:
    """An address, or a name that is this machine's own or set: no web site's name."""
    if address_of(host) is not None:
        return True
    own = {"localhost", socket.gethostname().lower(), *(name.lower() for name in http.names)}
    return host.removesuffix(".") in own
