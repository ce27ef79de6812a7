"""A data folder and a ledger with filed, frozen studies in it: what a listener leaves to the workers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import builders
from ledgers import current_of
from pydicom import Dataset
from sqlalchemy import RowMapping, select

from cauda.core import headers, intake, revisions, schema, spool
from cauda.core.ledger import Ledger, fixed_clock, migrate, open_ledger
from cauda.core.revisions import Fingerprint
from cauda.core.schema import RevisionKind
from cauda.core.settings import Settings
from cauda.core.spool import Spool
from cauda.worker.post import Post

FINGERPRINT = Fingerprint(bundle_digest=None, config_digest="c0" * 32, code_version="0.1.0")

# A worker process as the command line starts it, from settings on its standard input. While the file `slow` lies in
# the data folder, grading takes for ever; while `deaf` does, the consumer gets no message.
PROGRAM = """
import pathlib, sys, time
from cauda.core import log
from cauda.worker import revision
analyse = revision.analyse_study
def slowly(*arguments):
    data = pathlib.Path(sys.argv[2])
    if (data / "slow").exists():
        (data / "grading").write_text("")
    while (data / "slow").exists():
        time.sleep(0.02)
    return analyse(*arguments)
revision.analyse_study = slowly
if (pathlib.Path(sys.argv[2]) / "deaf").exists():
    import queue
    from kombu.transport import memory
    from cauda.worker import serve
    def nothing(*_, **__):
        raise queue.Empty
    memory.Channel._get = nothing
    serve._DEAF_AFTER_S = {True: 1.0, False: 1.0}
from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.worker import serve
log.configure(form="json")
serve.run(Settings.model_validate_json(sys.stdin.read()),
          Fingerprint(bundle_digest=None, config_digest="c0" * 32, code_version="0.1.0"), sys.argv[1])
"""


@dataclass(kw_only=True)
class House:
    """One data folder; ``now`` is the ledger's time when it is simulated."""

    data: Path
    settings: Settings
    ledger: Ledger
    clock: list[float] = field(default_factory=list)

    @property
    def spool(self) -> Spool:
        """Its files."""
        return Spool(self.data)

    def post(self, **settings: Any) -> Post:
        """A worker's place, with other settings where given."""
        return Post(
            ledger=self.ledger,
            spool=self.spool,
            settings=self.settings.model_copy(update=settings),
            fingerprint=FINGERPRINT,
            token="worker",
            bell=lambda _task: None,
        )

    def file(self, images: Sequence[Dataset]) -> str:
        """File images as the listener does; returns the Study Instance UID."""
        for image in images:
            content = builders.part10(image)
            folder = self.spool.studies / image.StudyInstanceUID
            folder.mkdir(parents=True, exist_ok=True)
            with self.ledger.write() as conn:
                kept = intake.versions(conn, image.StudyInstanceUID, image.SOPInstanceUID)
                version = 1 + len(kept)
                name = f"{image.SOPInstanceUID}.dcm" if version == 1 else f"{image.SOPInstanceUID}.v{version}.dcm"
                (folder / name).write_bytes(content)
                intake.file_instance(
                    self.ledger,
                    conn,
                    intake.Filed(
                        header=headers.of(image),
                        path=f"studies/{image.StudyInstanceUID}/{name}",
                        version=version,
                        sha256=hashlib.sha256(content).hexdigest(),
                        dataset_sha256=hashlib.sha256(builders.dataset_bytes(content)).hexdigest(),
                        bytes=len(content),
                        association_id=None,
                        source="SCANNER",
                        compared=current_of(kept),
                        same_picture=True if version > 1 else None,
                    ),
                )
        return str(images[0].StudyInstanceUID)

    def freeze(self, study_uid: str, kind: RevisionKind = RevisionKind.GRADE, reason: str = "quiet") -> int:
        """Complete the study; returns the revision."""
        with self.ledger.write() as conn:
            made = revisions.freeze(
                self.ledger, conn, study_uid, reason=reason, fingerprint=FINGERPRINT, kind=kind
            )  # fmt: skip
        assert made is not None
        return made

    def complete(self, images: Sequence[Dataset]) -> str:
        """File and freeze."""
        study_uid = self.file(images)
        self.freeze(study_uid)
        return study_uid

    def rows(self, table: str, **where: Any) -> list[RowMapping]:
        """Rows of a ledger table, oldest first."""
        source = schema.metadata.tables[table]
        query = select(source)
        for column, value in where.items():
            query = query.where(source.c[column] == value)
        with self.ledger.read() as conn:
            return list(conn.execute(query.order_by(*source.primary_key.columns)).mappings())

    def states(self, table: str, **where: Any) -> list[str]:
        """The states of rows."""
        return [row["state"] for row in self.rows(table, **where)]

    def outbox(self) -> list[Path]:
        """Every result's file."""
        return sorted(self.spool.outbox.rglob("*.dcm"))

    def write(self, change: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a function of the ledger that takes ledger and connection first."""
        with self.ledger.write() as conn:
            return change(self.ledger, conn, *arguments, **named)

    @contextmanager
    def worker(self, queue: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A real worker process; its log is ``<queue>.log`` in the data folder."""
        broker = settings.pop("broker_url", None)
        text = json.dumps(_plain(self.settings.model_copy(update=settings)) | {"broker_url": broker})
        with (self.data / f"{queue}.log").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, queue, str(self.data)], stdin=subprocess.PIPE, stdout=out, stderr=out
            )  # fmt: skip
            assert process.stdin is not None
            process.stdin.write(text.encode())
            process.stdin.close()
            try:
                yield process
            finally:
                process.kill()
                process.wait(20)

    def log(self, queue: str) -> str:
        """What the worker processes of a queue said."""
        return (self.data / f"{queue}.log").read_text()


def _plain(settings: Settings) -> dict[str, Any]:
    """As JSON values with the ledger's URL, which is a test's own peer and no secret."""
    tree = settings.model_dump(mode="json")
    tree["ledger_url"] = settings.ledger_url and settings.ledger_url.get_secret_value()
    return tree


def house(data: Path, *, url: str | None = None, simulated: bool = False, **settings: Any) -> House:
    """A fresh one; with ``simulated`` its ledger's time is ``clock[0]``."""
    clock = [1_800_000_000.0] if simulated else []
    made = Settings.model_validate({"data": data, "ledger_url": url} | settings)
    spool.Spool(data).prepare()
    ledger = open_ledger(made.ledger, clock=fixed_clock(lambda: clock[0]) if simulated else None)
    migrate(ledger)
    return House(data=data, settings=made, ledger=ledger, clock=clock)
