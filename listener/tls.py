"""DICOM over TLS (PS3.15 B.12): certificates that are read again when they change, and the handshake.

A handshake has a thread, a deadline and a bound of its own: a caller that opens a connection and says nothing holds up
nobody.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pynetdicom.transport import ThreadedAssociationServer

from cauda.core import log, metrics
from cauda.core.errors import Misconfigured
from cauda.core.settings import Limits, Tls

# RFC 9325, 4.2: forward secrecy and authenticated encryption; TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_DAY_S = 86_400.0

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The files as they were when they were read: the context that they make, and until when it is good."""

    context: ssl.SSLContext
    expires_at: float  # seconds since 1970: the first of all certificates in the files
    expires: str  # which file that is, and the day
    certificate: bytes  # ours, DER


def load(settings: Tls) -> Loaded:
    """Read certificate, key and authorities; Misconfigured names the file that is wrong."""
    if settings.certificate is None or settings.key is None:
        raise Misconfigured("tls.certificate and tls.key are not set")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[settings.minimum]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    ours = _certificates("tls.certificate", settings.certificate)
    ends = [(one.not_valid_after_utc, settings.certificate) for one in ours]
    try:
        # without a password OpenSSL would ask for that of an encrypted key at the terminal
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"tls.key: {settings.key} is not the unencrypted PEM key of {settings.certificate} ({_words(error)})"
        ) from error
    if settings.ca is not None:
        ends += [(one.not_valid_after_utc, settings.ca) for one in _certificates("tls.ca", settings.ca)]
        context.load_verify_locations(settings.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    end, path = min(ends)
    return Loaded(context, end.timestamp(), f"{path} expires on {end:%Y-%m-%d}", ours[0].public_bytes(Encoding.DER))


def _certificates(key: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{key}: {path} holds no certificate in PEM ({_words(error)})") from error


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__)


def trouble(settings: Tls, loaded: Loaded, now: float) -> str | None:
    """Words about a certificate that has expired or will soon; None when all is well."""
    left_days = (loaded.expires_at - now) / _DAY_S
    if left_days > settings.warn_days:
        return None
    what = "callers that check it are turned away" if left_days <= 0 else f"{left_days:.0f} days are left"
    return f"TLS: {loaded.expires}: {what}; put a new one in its place, it is read without a restart"


class Certificates:
    """What new handshakes use: the files as they were last whole."""

    def __init__(self, settings: Tls) -> None:
        """Raises Misconfigured: a door that cannot open is said at the start."""
        self.settings = settings
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._loaded = load(settings)
        self._broken: str | None = None
        self._said: str | None = None

    def current(self) -> Loaded:
        """Read again what has changed; files that are not whole leave what was there, and it is said once."""
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read()
            return self._loaded

    def _read(self) -> None:
        logger = log.get("tls")
        try:
            self._loaded = load(self.settings)
        except Misconfigured as error:
            self._broken = f"TLS: the certificate in use is the one read before: {error.message}"
            logger.error("certificate_not_taken", message=error.message)
        else:
            self._broken = None
            logger.info("certificate_taken", message=self._loaded.expires)

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in (self.settings.certificate, self.settings.key, self.settings.ca))

    def troubles(self, now: float) -> list[str]:
        """What the operator should know: files that cannot be read, a certificate near its end."""
        loaded = self.current()
        metrics.certificate_expires.labels("dimse").set(loaded.expires_at)
        return [words for words in (self._broken, trouble(self.settings, loaded, now)) if words]

    def warn(self, now: float) -> None:
        """Say in the log that the end is near: once at each start and with each file, and each day of the last ones."""
        words = trouble(self.settings, self.current(), now)
        if words is not None and words != self._said:
            log.get("tls").warning("certificate_expires", message=words)
        self._said = words


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None


class TlsServer(ThreadedAssociationServer):
    """The port whose connections begin with a handshake."""

    request_queue_size = 128  # as on the plain port
    daemon_threads = True  # nobody waits for a handshake at the end

    def __init__(self, *args: Any, certificates: Certificates, limits: Limits, **kwargs: Any) -> None:
        """As pynetdicom's, which would shake hands in the thread that accepts."""
        super().__init__(*args, **kwargs)
        self._certificates = certificates
        self._limits = limits
        self._under_way = Counter[str]()
        self._lock = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, then as on the plain port."""
        address = str(client_address[0])
        if not self._begin(address):
            _failed(address, "too_many")
            self.shutdown_request(request)
            return
        try:
            settings = self._certificates.settings
            wrapped = handshake(request, self._certificates.current().context, settings.handshake_timeout_s)
        except (OSError, ValueError) as error:  # wrap_socket raises ValueError for some sockets that are closed
            _failed(address, _words(error).lower())
            self.shutdown_request(request)
            return
        finally:
            self._end(address)
        if self.socket is None or self.socket.fileno() < 0:  # drained meanwhile
            self.shutdown_request(wrapped)
            return
        wrapped.settimeout(self._limits.network_timeout_s)
        super().process_request_thread(wrapped, client_address)

    def _begin(self, address: str) -> bool:
        """Whether one more handshake may be under way: a silent caller must not take the place of all."""
        with self._lock:
            if (
                self._under_way[address] >= self._limits.max_associations_per_peer
                or self._under_way.total() >= 4 * self._limits.max_associations
            ):
                return False
            self._under_way[address] += 1
            return True

    def _end(self, address: str) -> None:
        with self._lock:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]


def _failed(address: str, why: str) -> None:
    metrics.handshakes_failed.labels(why).inc()
    log.get("tls").warning("handshake_failed", address=address, why=why)


def handshake(
    sock: socket.socket, context: ssl.SSLContext, within_s: float, clock: Callable[[], float] = time.monotonic
) -> ssl.SSLSocket:
    """Our side of a handshake; OSError when it fails or is not done in time, however it drips. Closes on failure."""
    deadline = clock() + within_s
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    wrapped = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    try:
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                _wait(wrapped, select.POLLIN, deadline - clock())
            except ssl.SSLWantWriteError:
                _wait(wrapped, select.POLLOUT, deadline - clock())
            else:
                return wrapped
    except Exception:
        wrapped.close()
        raise


def _wait(sock: ssl.SSLSocket, what: int, left_s: float) -> None:
    poller = select.poll()
    poller.register(sock, what)
    if left_s <= 0 or not poller.poll(left_s * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "timeout")


def shown(sock: socket.socket | None) -> bool:
    """Whether the caller has shown a certificate, and it was checked."""
    return isinstance(sock, ssl.SSLSocket) and bool(sock.getpeercert())
