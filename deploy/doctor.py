"""Looks at a node from outside: each check is one line, with what to do about it."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import
from sqlalchemy.engine import make_url

from cauda.archive.find import question_of
from cauda.archive.http_client import open_client, raise_if_away, send, status_words
from cauda.archive.protocol import open_archive
from cauda.archive.reactor import keep_answers
from cauda.core import doorbell, ledger, uids, unfiled
from cauda.core.errors import CaudaError, Unavailable
from cauda.core.settings import Destination, Settings
from cauda.core.spool import Spool
from cauda.core.steady_clock import last_step
from cauda.core.tolerant_pdu import decode_tolerantly
from cauda.deploy import bootstrap
from cauda.deploy.opened import migration
from cauda.listener import descriptors, tls

_TOLERANT: list[Any] = [(evt.EVT_CONN_OPEN, decode_tolerantly)]
_CLOCK_APART_S = 2.0
_ASKED_S = 5.0
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One check: what was looked at, whether it is well, and in words what was seen and what to do."""

    name: str
    ok: bool
    words: str


class Trouble(Exception):
    """A check's own complaint, in words."""


def examine(settings: Settings) -> Iterator[Line]:
    """All checks, one after the other; none stops the next."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("data", lambda: data_folder(settings.data)),
        ("room", lambda: room(settings)),
        ("ledger", lambda: ledger_at_head(settings)),
        ("filing", lambda: filing(settings)),
        ("clock", lambda: clock(settings)),
        ("broker", lambda: broker(settings)),
        *([("dicom port", lambda: dicom_port(settings))] if not settings.tls.only else []),
        *([("tls", lambda: tls_port(settings))] if settings.tls.certificate else []),
        ("http port", lambda: http_port(settings)),
        ("descriptors", lambda: file_descriptors(settings)),
        ("bundle", lambda: bundle(settings)),
        ("timezone", lambda: timezone(settings)),
        *([("source", lambda: source(settings))] if settings.source.url else []),
        *((f"to {one.name}", lambda one=one: destination(settings, one)) for one in settings.destinations),
    ]
    for name, check in checks:
        try:
            yield Line(name=name, ok=True, words=check())
        except (Trouble, OSError) as error:
            yield Line(name=name, ok=False, words=str(error))
        except CaudaError as error:
            yield Line(name=name, ok=False, words=error.message)


def data_folder(folder: Path) -> str:
    """Written and synced, as the listener does."""
    if folder.exists() and not folder.is_dir():
        raise Trouble(f"{folder} is a file; give another folder")
    if not folder.is_dir():
        parent = next(one for one in folder.resolve().parents if one.is_dir())
        if not os.access(parent, os.W_OK):
            raise Trouble(f"{folder} is not there and cannot be made in {parent}; make it, or give --data")
        return f"{folder} is not there yet; the first start makes it"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            os.fsync(file.fileno())
    except OSError as error:
        raise Trouble(f"{folder} cannot be written ({error.strerror}); give it to the user that runs Cauda") from error
    return f"{folder} can be written"


def room(settings: Settings) -> str:
    """Free space against the floor below which nothing is accepted."""
    folder = next(one for one in (settings.data.resolve(), *settings.data.resolve().parents) if one.is_dir())
    try:
        Spool(folder, settings.limits.min_free_bytes).check_room()
    except Unavailable as error:
        raise Unavailable(error.reason, f"{error.message}: make room, or lower limits.min_free_bytes") from error
    return f"above the floor of {settings.limits.min_free_bytes >> 20} MiB (limits.min_free_bytes)"


def _sqlite_there(settings: Settings) -> bool:
    return Path(make_url(settings.ledger).database or "").is_file()


def ledger_at_head(settings: Settings) -> str:
    """Reachable, on a disk that may hold it, and with this version's tables."""
    url = make_url(settings.ledger)
    opened = ledger.open_ledger(settings.ledger)  # refuses SQLite on a network file system
    if url.get_backend_name() == "sqlite" and not _sqlite_there(settings):
        return "not there yet; the first start makes it"
    with opened.read() as conn:
        there, ours = migration(conn)
    if there is None:
        return f"{url.get_backend_name()} answers; the first start makes the tables"
    if there != ours:
        raise Trouble(f"its tables are at {there}, this version's at {ours}; start this version of Cauda once")
    return f"{url.get_backend_name()} answers, tables at {there}"


def filing(settings: Settings) -> str:
    """Whether all that was acknowledged is in its study."""
    if make_url(settings.ledger).get_backend_name() == "sqlite" and not _sqlite_there(settings):
        return "nothing came yet"
    opened = ledger.open_ledger(settings.ledger)
    try:
        with opened.read() as conn:
            there, ours = migration(conn)
            left = unfiled.unfiled(opened, conn, Spool(settings.data)) if there == ours else []
    except Unavailable:
        return "not known while the ledger is away"
    if left:
        raise Trouble(". ".join(one.words for one in left))
    return "all that was acknowledged is filed"


def clock(settings: Settings) -> str:
    """The ledger's clock against ours, whether it was set lately, and whether anybody keeps ours right."""
    apart_s, step = 0.0, None
    if make_url(settings.ledger).get_backend_name() != "sqlite" or _sqlite_there(settings):
        opened = ledger.open_ledger(settings.ledger)
        with opened.read() as conn:
            apart_s = abs(opened.database_time(conn) - time.time())
            step = last_step(conn, opened.time(conn)) if migration(conn)[0] == migration(conn)[1] else None
    if step is not None:
        raise Trouble(step.words)
    if apart_s > _CLOCK_APART_S:
        raise Trouble(f"the ledger's clock is {apart_s:.0f} s away from ours; let NTP set both")
    kept = "" if _synchronised() else "; the kernel does not call it synchronised: is NTP running?"
    return f"with the ledger's to {apart_s:.1f} s{kept}"


def _synchronised() -> bool:
    libc = ctypes.CDLL(None)
    # struct timex is at most 208 bytes; modes = 0 only reads
    return bool(libc.adjtimex(ctypes.create_string_buffer(512)) != _TIME_ERROR)


def broker(settings: Settings) -> str:
    """Answers, where one is set."""
    if settings.broker is None:
        return "none set: workers look for work twice a second"
    with doorbell.application(settings.broker).connection() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=3)
        except (OperationalError, *connection.connection_errors) as error:
            raise Trouble(
                f"broker_url: no answer ({type(error).__name__}); start Redis. Nothing is lost meanwhile, only slower"
            ) from error
    return "answers"


def dicom_port(settings: Settings) -> str:
    """Free, or a Cauda listens there."""
    host, port = settings.node.host, settings.node.port
    if port == 0 or _free(host, port):
        return f"{host}:{port} is free: no listener runs here now"
    client = AE(ae_title=settings.node.aet)
    client.add_requested_context(Verification)
    client.acse_timeout = client.dimse_timeout = client.network_timeout = client.connection_timeout = 5
    association = client.associate(_reach(host), port, ae_title=settings.node.aet, evt_handlers=_TOLERANT)
    if not association.is_established:
        raise Trouble(f"{host}:{port} is taken by something that is not {settings.node.aet}; see `ss -ltnp`")
    implementation = association.acceptor.implementation_class_uid
    association.release()
    if implementation != uids.IMPLEMENTATION_CLASS_UID:
        raise Trouble(f"{host}:{port} is taken by another DICOM node; stop it, or set node.port")
    return f"{host}:{port} answers as {settings.node.aet}"


def tls_port(settings: Settings) -> str:
    """The files are whole and good for a while; the port is free, or a Cauda shows this certificate there."""
    host, port = settings.node.host, settings.tls.port
    loaded = tls.load(settings.tls)
    words = tls.trouble(settings.tls, loaded, time.time())
    if words is not None:
        raise Trouble(words)
    if port == 0 or _free(host, port):
        return f"{host}:{port} is free; {loaded.expires}"
    try:
        seen = ssl.get_server_certificate((_reach(host), port), timeout=5)
    except OSError as error:
        raise Trouble(f"{host}:{port} is taken and does not answer in TLS; see `ss -ltnp`") from error
    if ssl.PEM_cert_to_DER_cert(seen) != loaded.certificate:
        raise Trouble(f"{host}:{port} shows another certificate than {settings.tls.certificate}; the log says why")
    return f"{host}:{port} answers; {loaded.expires}"


def file_descriptors(settings: Settings) -> str:
    """Enough of them may be opened, by whoever runs this command."""
    if (why := descriptors.trouble(settings)) is not None:
        raise Trouble(why)
    return f"{descriptors.needed(settings)} may be opened"


def http_port(settings: Settings) -> str:
    """Free, or a healthy Cauda answers there."""
    host, port = settings.http.host, settings.http.port
    if port == 0 or _free(host, port):
        return f"{host}:{port} is free"
    try:
        urllib.request.urlopen(f"http://{_reach(host)}:{port}/healthz", timeout=5).close()
    except (urllib.error.URLError, OSError) as error:
        raise Trouble(
            f"{host}:{port} is taken and /healthz does not answer ({error}); stop what listens there, or set http.port"
        ) from error
    return f"{host}:{port} answers"


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _reach(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  the address that reaches "any"


def bundle(settings: Settings) -> str:
    """There, and every file as its manifest says."""
    if settings.grading.bundle is None:
        return "none: every level will be NOT GRADED (no_bundle)"
    digest = bootstrap.fingerprint(settings).bundle_digest
    return f"{settings.grading.bundle} is whole, digest {digest}"


def timezone(settings: Settings) -> str:
    """Set where results are sent live: their dates are local (CLINICAL.md 30)."""
    if settings.site.timezone is not None:
        return settings.site.timezone
    live = [one.name for one in settings.destinations if one.live and one.kind == "dimse"]
    if live:
        raise Trouble(f"site.timezone is not set and {live[0]} gets results; set it, as Europe/Berlin")
    return "not set; needed once results are sent to an archive"


def destination(settings: Settings, one: Destination) -> str:
    """A folder that can be written, or an archive that answers C-ECHO."""
    mode = "live" if one.live else "shadow: nothing is sent"
    if one.kind == "folder" and one.path is not None:
        return f"{data_folder(one.path)} ({mode})"
    if one.kind == "stow":
        return f"{_web(one)}, {answers_what_is_asked(settings, one)} ({mode})"
    client = AE(ae_title=one.calling_aet or settings.node.aet)
    client.add_requested_context(Verification)
    client.acse_timeout = client.dimse_timeout = client.network_timeout = client.connection_timeout = 5
    opened = client.associate(one.host or "", one.port or 0, ae_title=one.aet or "", evt_handlers=_TOLERANT)
    association = keep_answers(opened)
    if association.is_rejected:
        raise Trouble(
            f"turns us away as {client.ae_title}; let {client.ae_title} in there, or set calling_aet to what it knows"
        )
    if not association.is_established:
        raise Trouble(f"no association with {one.host}:{one.port}; is it running, and does the firewall let us out?")
    status = association.send_c_echo()
    association.release()
    if status.get("Status") != 0x0000:
        raise Trouble(f"C-ECHO was answered with {status.get('Status', 'nothing')}")
    return f"answers C-ECHO as {one.aet}, {answers_what_is_asked(settings, one)} ({mode})"


def source(settings: Settings) -> str:
    """Whether the archive of [source] answers about what it is asked."""
    return answers_what_is_asked(settings, settings.source.archive())


def answers_what_is_asked(settings: Settings, one: Destination) -> str:
    """Asks about a study that nobody has: an archive that finds it ignores the UID, and its answers are not used."""
    nobodys = uids.derived("nobody's", secrets.token_hex(16))
    with open_archive(one, settings.node.aet, (Verification,), timeout_s=_ASKED_S) as archive:
        answer = archive.ask(question_of("STUDY", StudyInstanceUID=nobodys))
    if answer is None:
        return "cannot be asked about studies (no C-FIND or QIDO-RS)"
    if count := answer.foreign + len(answer.matches):
        raise Trouble(
            f"finds a study that nobody has ({count} answers): it does not look at StudyInstanceUID, so its answers "
            "are not used and no result is sent there. Let it match the UIDs of C-FIND or QIDO-RS, or ask its maker"
        )
    return "answers about what it is asked"


def _web(one: Destination) -> str:
    """Whether a DICOMweb archive answers a question; what it holds is not looked at."""
    with open_client(one, timeout_s=5) as client:
        status, body = send(client, client.build_request("GET", f"{one.base}/studies", params={"limit": "1"}))
    raise_if_away(status, body)
    return f"answers as DICOMweb ({status_words(status, b'')})"
