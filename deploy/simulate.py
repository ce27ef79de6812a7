"""A virtual scanner: pushes phantom studies, or replays a folder, and measures how it is answered (CLINICAL.md 33)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, evt

from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.settings import Destination
from cauda.models.phantom.study import Protocol, make_study

_MOST_CONTEXTS = 128  # of one association (PS3.8 9.3.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One study's way out."""

    study_uid: str
    images: int
    refused: tuple[str, ...]  # statuses in hex, of those that were not stored
    seconds: tuple[float, ...]  # from asking to answer, one an image


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All that was sent."""

    studies: tuple[Sent, ...] = field(default_factory=tuple)

    @property
    def refused(self) -> int:
        """How many images were not acknowledged as stored."""
        return sum(len(one.refused) for one in self.studies)

    def percentile_ms(self, q: float) -> float:
        """A percentile of the time to an answer, in milliseconds."""
        times = [t for one in self.studies for t in one.seconds]
        return float(np.percentile(times, q)) * 1000 if times else 0.0


def target(url: str, *, yes: bool) -> Destination:
    """The node to send to; Misconfigured for another machine without ``yes``."""
    try:
        to = Destination.model_validate(url)
    except ValueError as error:
        raise Misconfigured(f"--to: {url} is not dimse://AET@HOST:PORT") from error
    if to.kind != "dimse":
        raise Misconfigured(f"--to: {url}: only dimse://AET@HOST:PORT is sent to")
    if not to.local and not yes:
        raise Misconfigured(f"--to: {to.host} is not this machine; add --yes to send test studies there")
    return to


def phantoms(vendor: str, studies: int, seed: int) -> Iterator[list[Dataset]]:
    """Synthetic studies, one after the other."""
    for number in range(studies):
        yield make_study(seed, number, Protocol(vendor=vendor)).images


def replayed(folder: Path) -> Iterator[list[Dataset]]:
    """The studies in a folder, as they are."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            found.append(dcmread(path))
        except InvalidDicomError:
            continue  # a scanner's folder holds other files too
    found.sort(key=lambda image: str(image.get("StudyInstanceUID", "")))
    for _, images in groupby(found, key=lambda image: str(image.get("StudyInstanceUID", ""))):
        yield list(images)


def push(
    to: Destination,
    studies: Iterable[Sequence[Dataset]],
    *,
    rate: float | None = None,
    tell: Callable[[Sent], None] = lambda _: None,
) -> Summary:
    """Send each study over one association; ``rate`` is studies a minute, without it as fast as they come.

    Returns when everything is answered. Raises Unavailable when no association can be had.
    """
    sent: list[Sent] = []
    began = time.monotonic()
    for number, images in enumerate(studies):
        if rate:
            time.sleep(max(0.0, began + number * 60.0 / rate - time.monotonic()))
        sent.append(_send(to, images))
        tell(sent[-1])
    return Summary(studies=tuple(sent))


def _send(to: Destination, images: Sequence[Dataset]) -> Sent:
    ae = AE(to.calling_aet or "SIMULATOR")
    wanted = sorted({(str(i.SOPClassUID), str(i.file_meta.TransferSyntaxUID)) for i in images})
    for sop_class, syntax in wanted[:_MOST_CONTEXTS]:
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate(
        to.host or "", to.port or 0, ae_title=to.aet or "", evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)]
    )  # fmt: skip
    if not association.is_established:
        raise Unavailable(Reason.DESTINATION_DOWN, f"{to.name}: no association (refused, or nobody there)")
    seconds, refused = [], []
    try:
        for image in images:
            began = time.perf_counter()
            status = association.send_c_store(image).get("Status")
            seconds.append(time.perf_counter() - began)
            if status != 0x0000:
                refused.append("none" if status is None else f"{status:04X}")
    finally:
        if association.is_established:
            association.release()
    return Sent(
        study_uid=str(images[0].get("StudyInstanceUID", "")) if images else "",
        images=len(images),
        refused=tuple(refused),
        seconds=tuple(seconds),
    )


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
