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
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cauda.core import log, metrics, tolerant_pdu
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured
from cauda.core.peers import Standing
from cauda.core.settings import Limits, Tls
from cauda.listener import tls_reasons
from cauda.listener.admission import AdmittingServer, Ticket
from cauda.listener.refusals import Refusals

# RFC 9325, 4.2: forward secrecy and authenticated encryption; TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_DAY_S = 86_400.0
_TLS_HANDSHAKE = 0x16  # the first byte of a TLS record (RFC 8446 5.1)
_REQUEST_BYTES = 74  # of an A-ASSOCIATE-RQ before its items
_PROBE = (ConnectionAbortedError, ConnectionResetError, BrokenPipeError)  # a load balancer looks whether we listen

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
    _check_key(settings.key, ours[0], settings.certificate)
    try:
        # without a password OpenSSL would ask for that of an encrypted key at the terminal
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"tls.certificate: OpenSSL does not take {settings.certificate} with {settings.key} ({_words(error)}); "
            "issue a certificate with an RSA key of 2048 bits or more, or an elliptic curve"
        ) from error
    if settings.ca is not None:
        ends += [(one.not_valid_after_utc, settings.ca) for one in _certificates("tls.ca", settings.ca)]
        context.load_verify_locations(settings.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    end, path = min(ends)
    return Loaded(context, end.timestamp(), f"{path} expires on {end:%Y-%m-%d}", ours[0].public_bytes(Encoding.DER))


def _check_key(path: Path, ours: x509.Certificate, certificate: Path) -> None:
    """Misconfigured, with what to do, when the key is absent, encrypted, or that of another certificate."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"tls.key: {path} cannot be read ({_words(error)})") from error
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:  # it has a password
        raise Misconfigured(
            f"tls.key: {path} is encrypted, and nobody is asked for a password; write it without one "
            f"(openssl pkey -in {path} -out NEW), readable by the user of Cauda alone"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Misconfigured(f"tls.key: {path} holds no private key in PEM") from error
    if _public(key.public_key()) != _public(ours.public_key()):
        raise Misconfigured(
            f"tls.key: {path} is not the key of the first certificate in {certificate}; "
            "put our own certificate first, then its chain, and the key that it was issued for"
        )


def _public(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


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


class NoTlsError(OSError):
    """The peer's first bytes are no TLS; ``calling`` is the title of an A-ASSOCIATE-RQ, empty where it is none."""

    def __init__(self, calling: str) -> None:
        super().__init__("no TLS")
        self.calling = calling


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


class TlsServer(AdmittingServer):
    """The port whose connections begin with a handshake."""

    def __init__(
        self, *args: Any, certificates: Certificates, limits: Limits, refusals: Refusals, **kwargs: Any
    ) -> None:
        """As pynetdicom's, which would shake hands in the thread that accepts."""
        super().__init__(*args, **kwargs)
        self.anywhere = certificates.settings.in_place_of_network
        self._certificates = certificates
        self._limits = limits
        self._refusals = refusals
        self._under_way = Counter[str]()
        self._lock = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, then as on the plain port."""
        address = str(client_address[0])
        if not self._begin(address):
            self._fail(address, Reason.TOO_MANY_CONNECTIONS)
            self.shutdown_request(request)
            return
        ticket = self.take_ticket(request)
        try:
            settings = self._certificates.settings
            patience_s = ticket.patience_s(settings.handshake_timeout_s)
            wrapped = handshake(request, self._certificates.current().context, patience_s)
        except NoTlsError as error:
            self._fail(address, Reason.PLAIN_ON_TLS_PORT, error.calling)
            self._give_up(request, ticket)
            return
        except (OSError, ValueError) as error:  # wrap_socket raises ValueError for some sockets that are closed
            if not isinstance(error, _PROBE):
                reason = tls_reasons.reason_of(error)
                if reason is Reason.TLS_TIMEOUT and ticket.standing is Standing.UNLISTED:
                    reason = Reason.ADDRESS_NOT_ALLOWED  # its time is short for that
                self._fail(address, reason, words=_words(error).lower())
            self._give_up(request, ticket)
            return
        finally:
            self._end(address)
        if self.socket is None or self.socket.fileno() < 0:  # drained meanwhile
            self._give_up(wrapped, ticket)
            return
        wrapped.settimeout(self._limits.network_timeout_s)
        self.hand_over(ticket, wrapped)
        super().process_request_thread(wrapped, client_address)

    def _give_up(self, request: Any, ticket: Ticket) -> None:
        self.hand_over(ticket, request)
        self.shutdown_request(request)

    def _fail(self, address: str, reason: Reason, calling: str = "", words: str = "") -> None:
        metrics.handshakes_failed.labels(reason).inc()
        log.get("tls").warning("handshake_failed", address=address, reason=reason, words=words)
        self._refusals.add(calling, address, reason)

    def _begin(self, address: str) -> bool:
        """Whether one more handshake may be under way: a silent caller must not take the place of all."""
        with self._lock:
            if self._under_way[address] >= self._limits.max_associations_per_peer:
                return False
            self._under_way[address] += 1
            return True

    def _end(self, address: str) -> None:
        with self._lock:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]


def handshake(
    sock: socket.socket, context: ssl.SSLContext, within_s: float, clock: Callable[[], float] = time.monotonic
) -> ssl.SSLSocket:
    """Our side of a handshake; OSError when it fails or is not done in time, however it drips. Closes on failure."""
    deadline = clock() + within_s
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    _wait(sock, select.POLLIN, deadline - clock())
    first = sock.recv(_REQUEST_BYTES, socket.MSG_PEEK)
    if not first:
        raise ConnectionAbortedError(errno.ECONNABORTED, "closed without a word")
    if first[0] != _TLS_HANDSHAKE:
        raise NoTlsError(tolerant_pdu.title(first[26:42]) if first[0] == tolerant_pdu.ASSOCIATE_RQ else "")
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


def _wait(sock: socket.socket, what: int, left_s: float) -> None:
    poller = select.poll()
    poller.register(sock, what)
    if left_s <= 0 or not poller.poll(left_s * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "timeout")


def shown(sock: socket.socket | None) -> bool:
    """Whether the caller has shown a certificate, and it was checked."""
    return isinstance(sock, ssl.SSLSocket) and bool(sock.getpeercert())
