"""Logins to the pages: passwords kept as scrypt hashes, sessions as signed cookies, attempts counted by address."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cauda.core.passwords import verified

COOKIE = "cauda"
SESSION_S = 10 * 3600.0  # a long shift
_ATTEMPTS = 5  # of one address, before it has to wait
_REFILL_S = 20.0  # for each further one
_ADDRESSES = 4096  # remembered at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One browser: who logged in with it (nobody where no login is asked), and what its forms must carry."""

    user: str | None
    expires_at: float
    cookie: str
    form_token: str


@dataclass(slots=True)
class Throttle:
    """How often an address may try: a few at once, then one every so often. Bounded in what it remembers."""

    clock: Callable[[], float]
    _tried: dict[str, tuple[float, float]] = field(default_factory=dict)  # address -> tokens left, when
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def blocked_s(self, address: str) -> float:
        """How long until the next attempt is answered, without counting one; 0 where it is answered now."""
        with self._lock:
            left, since = self._tried.get(address, (float(_ATTEMPTS), 0.0))
            left += (self.clock() - since) / _REFILL_S
            return 0.0 if left >= 1 else (1 - left) * _REFILL_S

    def wait_s(self, address: str) -> float:
        """Count one attempt; how long until the next is answered when this one is too many, else 0."""
        with self._lock:
            now = self.clock()
            left, since = self._tried.pop(address, (float(_ATTEMPTS), now))
            left = min(_ATTEMPTS, left + (now - since) / _REFILL_S)
            allowed = left >= 1
            self._tried[address] = (left - 1 if allowed else left, now)  # the latest stand last
            if len(self._tried) > _ADDRESSES:
                del self._tried[next(iter(self._tried))]
            return 0.0 if allowed else (1 - left) * _REFILL_S

    def forget(self, address: str) -> None:
        """Whoever logged in starts afresh."""
        with self._lock:
            self._tried.pop(address, None)


class Sessions:
    """Logins of one listener. Its key is drawn at the start: after a restart everybody logs in again."""

    def __init__(self, users: Mapping[str, str], clock: Callable[[], float]) -> None:
        """``users``: name to password hash."""
        self.throttle = Throttle(clock)
        self._users = dict(users)
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._ended: dict[str, float] = {}  # cookies that logged out -> when they would have ended by themselves
        self._one_at_a_time = threading.Lock()  # scrypt is made to be dear: a crowd at the door must not have it all

    @property
    def wanted(self) -> bool:
        """Whether anybody can log in."""
        return bool(self._users)

    def login(self, name: str, password: str) -> Session | None:
        """A session for who knows the password. An unknown name takes as long to refuse."""
        with self._one_at_a_time:
            known = verified(password, self._users.get(name))
        return self._made(name) if known else None

    def anonymous(self) -> Session:
        """A session of nobody, which only ties forms to the browser that asked for them."""
        return self._made("")

    def of(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None unless we made it, it has time left and nobody logged out of it."""
        match = re.fullmatch(r"([\w-]*)\.(\d{1,12})\.([\w-]{22})\.([\w-]{43})", cookie or "", re.ASCII)
        if cookie is None or match is None or not hmac.compare_digest(match[4], self._mac(cookie.rpartition(".")[0])):
            return None
        user, expires_at = base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)).decode(), float(match[2])
        if expires_at <= self._clock() or cookie in self._ended:
            return None
        return self._session(user, expires_at, cookie)

    def end(self, session: Session) -> None:
        """Log out: the cookie is worth nothing any more, whoever has a copy."""
        now = self._clock()
        self._ended = {one: until for one, until in self._ended.items() if until > now}
        self._ended[session.cookie] = session.expires_at

    def _made(self, user: str) -> Session:
        expires_at = int(self._clock() + SESSION_S)
        name = base64.urlsafe_b64encode(user.encode()).decode().rstrip("=")
        said = f"{name}.{expires_at}.{secrets.token_urlsafe(16)}"
        return self._session(user, expires_at, f"{said}.{self._mac(said)}")

    def _session(self, user: str, expires_at: float, cookie: str) -> Session:
        token = self._mac(f"form {cookie}")
        return Session(user=user or None, expires_at=expires_at, cookie=cookie, form_token=token)

    def _mac(self, text: str) -> str:
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
