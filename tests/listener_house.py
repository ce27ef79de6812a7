"""A listener in this process on free ports, and a scanner of pynetdicom's to send to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dicom_peers import only_asking
from peers import HOST, until
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from sqlalchemy import RowMapping, Table, select

from cauda.core import ledger, revisions, settings
from cauda.core.ledger import Ledger
from cauda.listener import serve

_TICK_S = 0.1
DATA_PATHS = ("stock", "replaced")
FINGERPRINT = revisions.Fingerprint(bundle_digest=None, config_digest="c0" * 32, code_version="0.1.0")


@dataclass(kw_only=True)
class House:
    """A running listener: its ports, its data folder and its ledger."""

    data: Path
    ports: serve.Ports
    book: Ledger
    stop: threading.Event
    thread: threading.Thread
    opened: list[Any] = field(default_factory=list)

    def rows(self, table: Table) -> Sequence[RowMapping]:
        """Everything in a ledger table."""
        with self.book.read() as conn:
            return conn.execute(select(table)).mappings().all()

    def row(self, table: Table) -> RowMapping:
        """The one row of a table."""
        (row,) = self.rows(table)
        return row

    def until_filed(self) -> None:
        """Wait until nothing landed is left to file."""
        until(lambda: not landed(self.data), what="everything filed")

    def open_parts(self) -> list[Path]:
        """What is half received; the filer's own note of what it files has a name that begins with a dot."""
        return list((self.data / "arrivals").glob("*/[!.]*.part"))

    def close(self) -> None:
        """Stop the listener as SIGTERM does."""
        self.stop.set()
        self.thread.join(timeout=60)


def filed(house: House) -> dict[str, bytes]:
    """File name to content of everything filed."""
    return {path.name: path.read_bytes() for path in (house.data / "studies").glob("*/*.dcm")}


def landed(data: Path) -> list[Path]:
    """What is acknowledged and not yet filed: under a name of its own, or in a slot, which is all zeros before."""
    found = list((data / "arrivals").glob("*/*"))
    return [path for path in found if path.suffix == ".dcm" or (path.suffix == ".slot" and _begun(path))]


def _begun(slot: Path) -> bool:
    try:
        with slot.open("rb") as file:
            return file.read(1) != b"\0"
    except FileNotFoundError:
        return False


chosen = settings.Listener().data_path
"""The data path of listeners that are not told another; `data_path` of the conftest changes it."""


@contextmanager
def listener(data: Path, **overrides: Any) -> Iterator[House]:
    """A listener that completes studies half a second after a release, unless told otherwise; it looks often."""
    given = settings.load(
        environ={},
        overrides={
            "data": data,
            "node": {"host": HOST, "port": 0},
            "http": {"port": 0},
            "listener": {"data_path": chosen, "slots": 8},
            "limits": {"min_free_bytes": 0, "drain_s": 1},
            "completeness": {"after_release_s": 0.5, "quiet_s": 60, "hard_age_s": 600},
        }
        | overrides,
    )
    stop, ready, box = threading.Event(), threading.Event(), []

    def on_ready(ports: serve.Ports) -> None:
        box.append(ports)
        ready.set()

    thread = threading.Thread(target=serve.run, args=(given, FINGERPRINT, stop), kwargs={"on_ready": on_ready})
    with patch.object(serve, "_TICK_S", min(_TICK_S, serve._TICK_S)):
        thread.start()
        try:
            if not ready.wait(30):
                raise TimeoutError("the listener did not start")
            house = House(data=data, ports=box[0], book=ledger.open_ledger(given.ledger), stop=stop, thread=thread)
            yield house
        finally:
            stop.set()
            thread.join(timeout=60)


@contextmanager
def association(port: int, contexts: Sequence[tuple[str, str]], *, called: str = "CAUDA") -> Iterator[Any]:
    """An association of a scanner that proposes (SOP class, transfer syntax) pairs; released at the end."""
    ae = AE("SCANNER")
    for sop_class, syntax in contexts:
        ae.add_requested_context(sop_class, syntax)
    opened = only_asking(ae.associate(HOST, port, ae_title=called))
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def store(port: int, datasets: Sequence[Dataset], syntax: str = ExplicitVRLittleEndian) -> list[Dataset]:
    """Send data sets over one association; returns the status data sets."""
    classes = sorted({str(dataset.SOPClassUID) for dataset in datasets})
    with association(port, [(sop_class, syntax) for sop_class in classes]) as opened:
        return [opened.send_c_store(with_meta(dataset, syntax)) for dataset in datasets]


def with_meta(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """The data set with the File Meta that pynetdicom wants to see."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset
