"""`cauda demo`: a node of its own, a synthetic study pushed into it, and what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from cauda.core import schema, views
from cauda.core.domain import Json, Reason
from cauda.core.errors import Unavailable
from cauda.core.ledger import Ledger, open_ledger
from cauda.core.schema import DeliveryState, ResultKind
from cauda.deploy.analyze import picture

PYTHON = (sys.executable, "-P", "-m", "cauda.deploy")
_END_STATES = {"REPORTED", "REJECTED", "FAILED", "HELD"}
_DELIVERED = {DeliveryState.ACCEPTED, DeliveryState.COMMITTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The node that runs for the demonstration."""

    ledger: Ledger
    dimse: int
    log: Path


@contextmanager
def node(out: Path, bundle: str | None, *, timeout_s: float) -> Iterator[Node]:
    """`cauda up` as a child on free ports, data and results in ``out``; ended with the block."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "cauda.log"
    command = [
        *PYTHON, "up", "--supervisor", str(os.getpid()), "--data", str(out / "data"), "--port", "0",
        "--http", "127.0.0.1:0", "--send-to", f"folder:{(out / 'results').resolve()}",
    ] + (["--bundle", bundle] if bundle else [])  # fmt: skip
    # A full laptop is no reason not to see it: a study takes 50 MB.
    environment = os.environ | {"CAUDA_LOG__FORMAT": "json", "CAUDA_LIMITS__MIN_FREE_BYTES": str(200 << 20)}
    start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment,
                                   process_group=0)  # fmt: skip
    try:
        ready = _ready(log, start, process, timeout_s)
        yield Node(
            ledger=open_ledger(f"sqlite:///{(out / 'data').resolve() / 'ledger.sqlite'}"), dimse=ready["dimse"], log=log
        )
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(log: Path, start: int, process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        for event in events(log, start):
            if event.get("event") == "ready":
                return event
        time.sleep(0.1)
    raise Unavailable(Reason.MISCONFIGURED, f"Cauda did not start; see {log}")


def events(log: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The log's whole lines that are JSON objects, from a byte offset."""
    for line in log.read_bytes()[start:].splitlines():
        if line.startswith(b"{") and line.endswith(b"}"):
            yield json.loads(line)


def follow(ledger: Ledger, *, timeout_s: float, tell: Callable[[str], None], known: set[str]) -> Json:
    """Tell the events of the first study that is not ``known``, until its results are delivered; returns it.

    Unavailable when that takes too long.
    """
    told = 0
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with ledger.read() as conn:
            found = next((one for one in studies(ledger) if one not in known), None)
            study = views.study(conn, found) if found else None
        if study is not None:
            for event in study["events"][told:]:
                tell(_words(event, study))
            told = len(study["events"])
            if _over(study):
                return study
        time.sleep(0.1)
    raise Unavailable(Reason.WORKER_DIED, f"no result within {timeout_s:.0f} s")


def studies(ledger: Ledger) -> list[str]:
    """Every study that the node knows."""
    with ledger.read() as conn:
        return list(conn.execute(select(schema.study.c.uid)).scalars())


def _words(event: Json, study: Json) -> str:
    name = str(event["event"]).replace("_", " ")
    if event["event"] == "study_completed":
        return f"{name}: {study['images']} images, {event.get('reason')}"
    return name + (f": {event['reason']}" if event.get("reason") else "")


def _over(study: Json) -> bool:
    if study["state"] not in _END_STATES:
        return False
    return study["state"] in {"FAILED", "HELD"} or all(one["state"] in _DELIVERED for one in study["deliveries"])


def report(ledger: Ledger, study_uid: str) -> Json | None:
    """The last report.json of a study."""
    table = schema.revision
    with ledger.read() as conn:
        found: Json | None = conn.execute(
            select(table.c.report).where(table.c.study_uid == study_uid).order_by(table.c.number.desc()).limit(1)
        ).scalar()
    return found


def results(out: Path, study: Json) -> list[Path]:
    """Where the delivered objects lie, and the page as PNG beside them."""
    folder = out / "results" / study["study_uid"]
    files = []
    for one in sorted(study["deliveries"], key=lambda delivery: str(delivery["kind"]), reverse=True):
        path = folder / f"{one['sop_uid']}.dcm"
        files.append(path)
        if one["kind"] == ResultKind.SC:
            files.append(picture(path, out / "sc.png"))
    return files
