"""A virtual scanner: pushes studies to a node over DICOM and measures how fast they are acknowledged."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, evt
from pynetdicom.association import Association as Connection

from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured, Unavailable
from cauda.core.settings import Destination
from cauda.deploy.tally import NO_ANSWER, NO_ASSOCIATION, NO_CONTEXT, Answer, Sent, Tally
from cauda.models.phantom import habits
from cauda.models.phantom.copies import readdressed
from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.study import make_study

_MOST_CONTEXTS = 128  # of one association (PS3.8 9.3.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, and how many at once."""

    rate: float | None = None  # studies a minute; as fast as they come without
    pause_s: float = 0.0  # where a habit pauses
    scanners: int = 1  # studies that are sent at the same time


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


def phantoms(
    seed: int, studies: int, protocol: Protocol, vendors: Sequence[str], *, anatomies: int | None = None
) -> Iterator[list[Dataset]]:
    """Synthetic studies, one after the other, of each vendor in turn.

    With ``anatomies`` only so many are drawn; then they come again under UIDs and patients of their own.
    """
    drawn: list[list[Dataset]] = []
    for number, vendor in zip(range(studies), cycle(vendors), strict=False):
        if anatomies is not None and number >= anatomies:
            yield readdressed(drawn[number % anatomies], number)
            continue
        images = make_study(seed, number, replace(protocol, vendor=vendor)).images
        if anatomies is not None:
            drawn.append(images)
        yield images


def replayed(folder: Path) -> Iterator[list[Dataset]]:
    """The studies in a folder, as they are; one at a time in memory."""
    studies: dict[str, list[tuple[str, float, Path]]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True)
            place = float(header.get("InstanceNumber") or 0)
            key = str(header.get("StudyInstanceUID") or ""), str(header.get("SeriesInstanceUID") or "")
        except (InvalidDicomError, ValueError, TypeError, EOFError):
            continue  # a scanner's folder holds other files too
        if "SOPInstanceUID" in header:
            studies.setdefault(key[0], []).append((key[1], place, path))
    for files in studies.values():
        yield [dcmread(path) for *_, path in sorted(files)]


def push(
    to: Destination,
    studies: Iterable[Sequence[Dataset]],
    habit: habits.Habit = habits.study,
    pace: Pace = Pace(),
    *,
    tally: Tally | None = None,
    tell: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Send each study as the habit says; returns when everything is answered or will never be.

    ``tell`` is called in this thread while it waits. Unavailable when not one association could be had. Ctrl-C ends it
    when the studies on their way have arrived; the tally tells what was sent until then.
    """
    tally = Tally() if tally is None else tally
    waiting: list[Future[Sent]] = []
    held: list[Connection] = []
    with ThreadPoolExecutor(pace.scanners) as scanners:
        try:
            for number, images in enumerate(studies):
                tally.began = tally.began or time.monotonic()
                if pace.rate:
                    _wait(tally.began + number * 60.0 / pace.rate, tally, tell)
                while len(waiting) >= pace.scanners:
                    waiting = _settled(waiting, tally, tell)
                waiting.append(scanners.submit(_study, to, habit(images), pace, tally, held))
        except KeyboardInterrupt:
            tell(tally)
        while waiting:
            waiting = _settled(waiting, tally, tell)
    for connection in held:
        connection.abort()
    if tally.images and tally.failures[NO_ASSOCIATION] == tally.images:
        raise Unavailable(Reason.DESTINATION_DOWN, f"{to.name}: no association (refused, or nobody there)")
    return tally


def _wait(moment: float, tally: Tally, tell: Callable[[Tally], None]) -> None:
    while (left := moment - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
        tell(tally)


def _settled(waiting: Sequence[Future[Sent]], tally: Tally, tell: Callable[[Tally], None]) -> list[Future[Sent]]:
    """The studies still on their way after a moment; those that arrived are entered."""
    with suppress(TimeoutError):
        waiting[0].exception(timeout=0.1)
    for one in waiting:
        if one.done():
            tally.studies.append(one.result())
    tell(tally)
    return [one for one in waiting if not one.done()]


def _study(
    to: Destination, associations: Sequence[habits.Association], pace: Pace, tally: Tally, held: list[Connection]
) -> Sent:
    answers: list[Answer] = []
    size = 0
    for one in associations:
        if one.pause:
            time.sleep(pace.pause_s)
        for image, answer in zip(one.images, _associated(to, one, held), strict=True):
            answers.append(answer)
            if answer.refusal is None:
                size += len(image.get("PixelData", b""))
                tally.bytes += len(image.get("PixelData", b""))
            tally.answers.append(answer)
            tally.ended = time.monotonic()
    return Sent(study_uid=str(associations[0].images[0].StudyInstanceUID), answers=tuple(answers), bytes=size)


def _associated(to: Destination, one: habits.Association, held: list[Connection]) -> Iterator[Answer]:
    ae = AE(to.calling_aet or "SIMULATOR")
    wanted = sorted({(str(i.SOPClassUID), str(i.file_meta.TransferSyntaxUID)) for i in one.images})
    for sop_class, syntax in wanted[:_MOST_CONTEXTS]:
        ae.add_requested_context(sop_class, syntax)
    connection = ae.associate(
        to.host or "", to.port or 0, ae_title=to.aet or "", evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)]
    )
    if not connection.is_established:
        yield from (Answer(None, NO_ASSOCIATION) for _ in one.images)
        return
    try:
        for image in one.images:
            yield _stored(connection, image)
    finally:
        if one.ends is habits.End.NEVER:
            held.append(connection)
        elif connection.is_established:
            connection.abort() if one.ends is habits.End.ABORT else connection.release()


def _stored(connection: Connection, image: Dataset) -> Answer:
    began = time.perf_counter()
    try:
        status = connection.send_c_store(image).get("Status")
    except ValueError:  # no presentation context was accepted for it
        return Answer(None, NO_CONTEXT)
    except RuntimeError:  # the association ended before
        return Answer(None, NO_ANSWER)
    if status is None:
        return Answer(None, NO_ANSWER)
    return Answer(time.perf_counter() - began, None if status == 0x0000 or status >> 12 == 0xB else f"{status:04X}")


def _no_delay(event: Any) -> None:
    """Without this, Nagle's algorithm and delayed acknowledgements cost 40 ms an image."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
