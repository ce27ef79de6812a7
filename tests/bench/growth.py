"""Whether a node stays as quick as it was when it has kept images for months: `make bench-growth`.

A data folder is filled to each size with studies that were received, graded and delivered (rows by the product's own
functions, images of some 4 KB as files); a handful is always being received. At each size a listener is started on
it, images are sent to it, and the ledger is asked what the ticks and the pages ask. The last column is the largest
size against the smallest: 1 is flat.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from sqlalchemy import event, func, insert, select, update

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders import MR_IMAGE, SAGITTAL, mr_image, part10
from listener_house import landed
from peers import HOST, answers, free_port, until

from cauda.core import claims, deliveries, headers, intake, ledger, listings, processes, revisions, schema, spool, views
from cauda.core.claims import Addressee
from cauda.core.ledger import Ledger
from cauda.core.revisions import Fingerprint, Made
from cauda.core.schema import READ, RevisionState
from cauda.core.settings import Completeness
from cauda.listener import completeness
from cauda.listener.adopting import Adopter
from cauda.listener.filer import Filer

IMAGES_A_STUDY = 200
RECEIVING = 20  # studies under way at any time
UNDER_WAY = (20, 100, 400)  # studies under way when the tick is measured beside them, at the end
SENT, FILED = 300, 512
FINGERPRINT = Fingerprint(bundle_digest=None, config_digest="c0", code_version="0")
PATIENT = Completeness(after_release_s=1e8, quiet_s=1e8, hard_age_s=1e8)  # nothing completes while it is measured
PACS = "dimse://PACS@pacs:104"
_UID = "2.25.1" + "0" * 33  # as long as those that replace it
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Node:
    """The folder under measurement."""

    data: Path
    store: spool.Spool
    book: Ledger
    draw: random.Random

    def uid(self) -> str:
        """A UID of the placeholder's length."""
        return "2.25.1" + "".join(self.draw.choices("0123456789", k=33))


class Template:
    """An image as bytes, copied under other UIDs without being encoded again."""

    def __init__(self, **attributes: Any) -> None:
        self._names = [_UID[:-1] + str(i) for i in range(3)]
        image = mr_image(*self._names, FrameOfReferenceUID="1.2.3", **attributes)
        self._content = part10(image)
        self.header = headers.of(image)

    def copy(self, study: str, series: str, sop: str) -> bytes:
        """The file under these UIDs."""
        content = self._content
        for old, new in zip(self._names, (study, series, sop), strict=True):
            content = content.replace(old.encode(), new.encode())
        return content


SMALL = Template(), Template(ImageOrientationPatient=SAGITTAL)
_FULL = {"Rows": 512, "Columns": 512, "PixelData": random.Random(2).randbytes(2 * 512 * 512)}
LARGE = Template(**_FULL), Template(ImageOrientationPatient=SAGITTAL, **_FULL)


def study_of(
    node: Node, images: int, templates: tuple[Template, Template] = SMALL
) -> Iterator[tuple[Template, tuple[str, str, str]]]:
    """The images of one new study: ten series."""
    study, series = node.uid(), [node.uid() for _ in range(10)]
    for number in range(images):
        yield templates[number % 2], (study, series[number % 10], node.uid())


def keep(node: Node, images: int, *, done: bool) -> None:
    """Put one study into folder and ledger: being received, or graded and delivered."""
    rows, association = [], node.uid()
    for template, (study, series, sop) in study_of(node, images):
        content = template.copy(study, series, sop)
        path = node.store.data / "studies" / study / f"{sop}.dcm"
        if not rows:
            path.parent.mkdir(parents=True)
            first = intake.Filed(
                header=replace(template.header, study_uid=study, series_uid=series, sop_uid=sop),
                path=node.store.relative(path), version=1, sha256=sop, dataset_sha256=sop, bytes=len(content),
                association_id=association, source="MR1",
            )  # fmt: skip
        path.write_bytes(content)
        rows.append({"series_uid": series, "sop_uid": sop, "sha256": sop, "dataset_sha256": sop,
                     "path": node.store.relative(path), "role": template.header.role})  # fmt: skip
    with node.book.write() as conn:
        intake.opened(node.book, conn, association_id=association, listener="gone", calling_aet="MR1",
                      called_aet="CAUDA", address=HOST)  # fmt: skip
        intake.file_instance(node.book, conn, first)
        table = schema.instance
        columns = [column.name for column in table.c if column.name != "id"]
        row = conn.execute(select(table).where(table.c.study_uid == study)).mappings().one()
        conn.execute(insert(table), [{name: row[name] for name in columns} | one for one in rows[1:]])
        intake.ended(node.book, conn, association, "released")
        if not done:
            return
        key = revisions.freeze(node.book, conn, study, reason="released for 600 s", fingerprint=FINGERPRINT)
        conn.execute(update(schema.study).where(schema.study.c.uid == study).values(priority=1))
    _deliver(node, key)


def _deliver(node: Node, revision_id: int | None) -> None:
    """Grade and send, as workers do."""
    claim = claims.claim(node.book, worker="w", lease_s=60, max_deaths=3)
    if claim is None or claim.id != revision_id:
        raise SystemExit("another revision was due")
    made = [
        Made(kind=kind, sop_class_uid="1.2", sop_uid=node.uid(), series_uid=node.uid(), path="outbox/x", sha256="0")
        for kind in READ
    ]
    findings = [{"level": level, "condition": "canal", "grade": "Moderate"} for level in ("L3/L4", "L4/L5", "L5/S1")]
    document = {"schema": 1, "findings": findings}
    claims.report(node.book, claim, state=RevisionState.REPORTED, reason=None, reason_text="",
                     report_json=document, made=made, addressees=[Addressee(name=PACS)])  # fmt: skip
    while sending := deliveries.claim(node.book, worker="d", lease_s=60, known=[PACS]):
        deliveries.accepted(node.book, sending)


def kept(node: Node) -> int:
    """Images in the ledger."""
    with node.book.read() as conn:
        return int(conn.execute(select(func.count()).select_from(schema.instance)).scalar_one())


@contextmanager
def listening(node: Node) -> Iterator[tuple[subprocess.Popen[bytes], int, int, float]]:
    """A listener on the folder: its process, DIMSE and HTTP ports, and how long it took to answer."""
    dimse, http = free_port(), free_port()
    argv = [sys.executable, "-P", "-m", "cauda.deploy", "listen", "--data", str(node.data), "--port", str(dimse),
            "--http", str(http), "--bundle", "none"]  # fmt: skip
    slow = {f"CAUDA_COMPLETENESS__{name}": "100000000" for name in ("QUIET_S", "AFTER_RELEASE_S", "HARD_AGE_S")}
    begun = time.perf_counter()
    with (node.data.parent / "log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                   env=os.environ | slow | {"CAUDA_LIMITS__MIN_FREE_BYTES": "0"})  # fmt: skip
    try:
        until(lambda: answers(dimse) or process.poll() is not None, 60, "the listener", every=0.005)
        if process.poll() is not None:
            raise SystemExit((node.data.parent / "log").read_text()[-2000:])
        yield process, dimse, http, time.perf_counter() - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def acknowledged_ms(node: Node, port: int) -> list[float]:
    """Milliseconds to each answer of one association."""
    ae = AE("BENCH")
    ae.add_requested_context(MR_IMAGE, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_CONN_OPEN, lambda event: event.assoc.dul.socket.socket.setsockopt(6, 1, 1))]
    opened = ae.associate(HOST, port, ae_title="CAUDA", evt_handlers=handlers)  # type: ignore[arg-type]  # pynetdicom's union
    times = []
    folder = node.data.parent / "to-send"
    folder.mkdir(exist_ok=True)
    for number, (template, names) in enumerate(study_of(node, SENT)):
        (folder / f"{number}.dcm").write_bytes(template.copy(*names))
    for number in range(SENT):
        begun = time.perf_counter()
        status = opened.send_c_store(folder / f"{number}.dcm")
        times.append((time.perf_counter() - begun) * 1000)
        if status.get("Status") != 0:
            said = (node.data.parent / "log").read_text()[-2000:]
            raise SystemExit(f"not stored after {times[-1]:.0f} ms: {status}\n{said}")
    opened.release()
    until(lambda: not landed(node.data), 60, "everything filed")
    return times


def filed_ms(node: Node, templates: tuple[Template, Template]) -> tuple[float, float]:
    """Milliseconds, and those of the processor, to file one image of a backlog: read, linked, synced and entered."""
    folder = node.data / "arrivals" / "bench"
    folder.mkdir(parents=True)
    for study in range(2):
        for number, (template, names) in enumerate(study_of(node, FILED // 2, templates)):
            (folder / f"{study}-{number:04}.dcm").write_bytes(template.copy(*names))
    begun, worked = time.perf_counter(), time.thread_time()
    none = node.data / "arrivals" / "none"
    if Adopter(node.book, node.store, none, Filer(node.book, node.store, "bench")).adopt() != FILED:
        raise SystemExit("not everything was filed")
    return (time.perf_counter() - begun) * 1000 / FILED, (time.thread_time() - worked) * 1000 / FILED


def median_ms(
    act: Callable[[], object], times: int = 7, clock: Callable[[], float] = time.perf_counter
) -> float:  # fmt: skip
    """Milliseconds of the median."""
    taken = []
    for _ in range(times):
        begun = clock()
        act()
        taken.append((clock() - begun) * 1000)
    return statistics.median(taken)


def fetch(url: str) -> None:
    """Read a page to its end."""
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  our own loopback address
        answer.read()


def measure(node: Node) -> dict[str, float]:
    """Every line of the table, at the size there is."""
    line: dict[str, float] = {"load of the machine, 1 min": os.getloadavg()[0]}
    with listening(node) as (process, dimse, http, started_s):
        line["start to first answer, s"] = started_s
        line["listener after start, MiB"] = memory_mib(process.pid)
        acknowledged = acknowledged_ms(node, dimse)
        line["acknowledgement p50, ms"] = statistics.median(acknowledged)
        line["acknowledgement p99, ms"] = sorted(acknowledged)[int(SENT * 0.99)]
        line["page of studies, ms"] = median_ms(lambda: fetch(f"http://{HOST}:{http}/"))
        line["/metrics, ms"] = median_ms(lambda: fetch(f"http://{HOST}:{http}/metrics"))
        line["listener after sending, MiB"] = memory_mib(process.pid)
    with node.book.write() as conn:  # what was sent is done with, so that every size has as many under way
        conn.execute(
            update(schema.study).where(schema.study.c.source == "BENCH").values(state="complete", corrected_at=None)
        )
    line["filing, ms an image"], line["filing, ms of processor"] = filed_ms(node, SMALL)
    _, line["filing 512 x 512, ms of processor"] = filed_ms(node, LARGE)
    with node.book.write() as conn:
        conn.execute(update(schema.study).where(schema.study.c.source == "unknown").values(state="complete"))
        newest = conn.execute(select(schema.study.c.uid).order_by(schema.study.c.first_at.desc()).limit(1)).scalar_one()

    def asking(query: Callable[[Any], object]) -> float:
        def ask() -> None:
            with node.book.read() as conn:
                query(conn)

        return median_ms(ask)

    book = node.book
    line[f"completeness tick, {RECEIVING} under way, ms"] = median_ms(
        lambda: completeness.tick(book, PATIENT, FINGERPRINT)
    )
    line["ring for due work, ms"] = median_ms(lambda: processes.ring_due(book, lambda _: None, [PACS]))
    line["claim a revision (none due), ms"] = median_ms(
        lambda: claims.claim(book, worker="w", lease_s=60, max_deaths=3)
    )
    line["claim a delivery (none due), ms"] = median_ms(
        lambda: deliveries.claim(book, worker="d", lease_s=60, known=[PACS])
    )
    line["studies to ask the archive, ms"] = median_ms(lambda: listings.take_due(book, every_s=1e8, most=20))
    line["studies list, ms"] = asking(lambda conn: views.studies(conn, limit=50))
    line["studies list --state failed, ms"] = asking(lambda conn: views.studies(conn, limit=50, state="failed"))
    line["studies show, ms"] = asking(lambda conn: views.study(conn, newest))
    line["deliveries list, ms"] = asking(lambda conn: views.deliveries(conn, limit=50))
    return line


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 50_000, 200_000])
    parser.add_argument("--folder", type=Path, help="kept, and gone on with by another run; a temporary one without it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cauda-growth-") as name:
        grow(given.folder or Path(name), given.sizes)


def grow(folder: Path, sizes: Sequence[int]) -> None:
    """Fill the folder to each size that was not measured in it, measure, and print all that there is."""
    data, measured = folder / "data", folder / "measured.json"
    store = spool.Spool(data)
    store.prepare()
    url = f"sqlite:///{data / 'ledger.sqlite'}"
    book, hasty = ledger.open_ledger(url), ledger.open_ledger(url)
    event.listen(hasty.engine, "connect", lambda opened, _: opened.execute("PRAGMA synchronous=OFF").close())
    ledger.migrate(book)
    node = Node(data, store, book, random.Random())
    filling = replace(node, book=hasty)  # what fills need not be on disk at once; what is measured is
    lines: dict[str, dict[str, float]] = json.loads(measured.read_text()) if measured.exists() else {}
    if not kept(node):
        for _ in range(RECEIVING):
            keep(filling, 25, done=False)
    for size in sizes[len(lines) :]:
        begun = time.perf_counter()
        for _ in range(max(0, size - kept(node)) // IMAGES_A_STUDY):
            if shutil.disk_usage(data).free < 10 * GIB:
                raise SystemExit("less than 10 GiB free")
            keep(filling, IMAGES_A_STUDY, done=True)
        there, filled = kept(node), time.perf_counter() - begun
        lines[str(there)] = measure(node) | {"ledger, MiB": (data / "ledger.sqlite").stat().st_size / 1024**2}
        measured.write_text(json.dumps(lines))
        took = time.perf_counter() - begun - filled
        print(f"{there} images: filled in {filled:.0f} s, measured in {took:.0f} s", file=sys.stderr, flush=True)
    show({int(size): line for size, line in lines.items()})
    show_ticks(node)


def show_ticks(node: Node) -> None:
    """What a tick costs by the number of studies under way, none of which is due, of 25 images each."""
    print("\n| studies under way | tick, ms | ms of processor | of it a study |\n|---:|---:|---:|---:|")
    there = RECEIVING
    for wanted in UNDER_WAY:
        for _ in range(wanted - there):
            keep(node, 25, done=False)
        there = wanted
        taken = median_ms(lambda: completeness.tick(node.book, PATIENT, FINGERPRINT))
        worked = median_ms(lambda: completeness.tick(node.book, PATIENT, FINGERPRINT), clock=time.thread_time)
        print(f"| {wanted} | {taken:.1f} | {worked:.1f} | {worked / wanted:.3f} |")


def show(lines: dict[int, dict[str, float]]) -> None:
    """The table, in Markdown."""
    sizes: Sequence[int] = sorted(lines)
    print("| images kept | " + " | ".join(f"{size:,}".replace(",", " ") for size in sizes) + " | last / first |")
    print("|---|" + "---:|" * (len(sizes) + 1))
    for name in lines[sizes[0]]:
        values = [lines[size][name] for size in sizes]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + f" | {values[-1] / values[0]:.2f} |")


if __name__ == "__main__":
    main()
