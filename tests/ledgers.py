"""Ledger tests' common ground: the same suite on SQLite and PostgreSQL, with time in the test's hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event, select, update

from cauda.core import claims, deliveries, intake, revisions, schema
from cauda.core.backoff import Backoff
from cauda.core.claims import Addressee
from cauda.core.domain import Reason
from cauda.core.headers import Header, Role
from cauda.core.intake import Filed, Outcome
from cauda.core.ledger import Ledger, fixed_clock, open_ledger
from cauda.core.revisions import Fingerprint, Made
from cauda.core.schema import ResultKind, RevisionState

FINGERPRINT = Fingerprint(bundle_digest=None, config_digest="c0", code_version="0")
PACS = Addressee(name="dimse://PACS@pacs:104")
LEASE_S = 60.0
BACKOFF = Backoff(first_s=10, max_s=80)


def sha(text: str) -> str:
    """A digest for a name."""
    return hashlib.sha256(text.encode()).hexdigest()


def current_of(kept: Sequence[Any]) -> int | None:
    """The current one of an image's versions."""
    return next((row.version for row in kept if row.current), None)


@dataclass(kw_only=True)
class Time:
    """The ledger's clock."""

    now: float = 1_000_000.0

    def read(self) -> float:
        """Seconds since 1970."""
        return self.now

    def passes(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds


@dataclass(kw_only=True)
class House:
    """A ledger, its URL, and steps a study takes, in words."""

    url: str
    time: Time = field(default_factory=Time)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = open_ledger(self.url, clock=fixed_clock(self.time.read))

    def another(self) -> House:
        """The same ledger, opened once more as another process does."""
        return House(url=self.url, time=self.time)

    def arrive(
        self, study: str = "1.1", sop: str = "1.1.1.1", *, content: str = "", role: Role = Role.AXIAL,
        same_picture: bool | None = None, identity: str = "patient", demographics: str = "words", source: str = "MR1",
        ours: bool = False, association: str | None = None, stated: str | None = None, compared: int | None = -1,
    ) -> Outcome:  # fmt: skip
        """File an image, as the filer does."""
        with self.ledger.write() as conn:
            kept = intake.versions(conn, study, sop)
            version = len(kept) + 1
            header = Header(study_uid=study, series_uid=f"{study}.1", sop_uid=sop, sop_class_uid="1.2.840", role=role,
                            ours=ours, identity=sha(identity), demographics=sha(identity + demographics),
                            stated=stated)  # fmt: skip
            filed = Filed(header=header, path=f"studies/{study}/{sop}.v{version}.dcm", version=version,
                          sha256=sha(f"file{study}{sop}{content}{identity}{demographics}"),
                          dataset_sha256=sha(f"{study}{sop}{content}{identity}{demographics}"), bytes=1,
                          association_id=association, source=source,
                          compared=current_of(kept) if compared == -1 else compared,
                          same_picture=same_picture)  # fmt: skip
            return intake.file_instance(self.ledger, conn, filed)

    def complete(self, study: str = "1.1", **changes: Any) -> int:
        """Freeze a revision of the study."""
        with self.ledger.write() as conn:
            key = revisions.freeze(self.ledger, conn, study, reason="quiet", fingerprint=FINGERPRINT, **changes)
        assert key is not None
        return key

    def due(self, study: str = "1.1", *, images: int = 2, source: str = "MR1") -> int:
        """A study that has arrived and waits for grading."""
        for i in range(images):
            self.arrive(study, f"{study}.1.{i}", source=source)
        return self.complete(study)

    def claim(self, worker: str = "w1", max_deaths: int = 3) -> claims.Claim | None:
        """Claim the next revision."""
        return claims.claim(self.ledger, worker=worker, lease_s=LEASE_S, max_deaths=max_deaths)

    def must_claim(self, worker: str = "w1") -> claims.Claim:
        """Claim the next revision, which must be there."""
        claim = self.claim(worker)
        assert claim is not None
        return claim

    def report(
        self, claim: claims.Claim, addressees: Sequence[Addressee] = (PACS,), kinds: Sequence[str] = ("sr", "sc"),
        state: RevisionState = RevisionState.REPORTED, note: Callable[[Sequence[Made]], Made | None] | None = None,
        only_to_replace: bool = False,
    ) -> bool:  # fmt: skip
        """End a claim with results."""
        made = [
            Made(kind=ResultKind(kind), sop_class_uid="1.2", sop_uid=f"2.25.{claim.id}.{i}", series_uid="2.25.1",
                 path=f"outbox/{claim.study_uid}/{claim.id}.{i}.dcm", sha256=sha(f"{claim.id}{kind}"))
            for i, kind in enumerate(kinds)
        ]  # fmt: skip
        return claims.report(self.ledger, claim, state=state, reason=None, reason_text="", report_json={"schema": 1},
                             made=made, addressees=addressees, note=note,
                             only_to_replace=only_to_replace)  # fmt: skip

    def reported(self, study: str = "1.1", addressees: Sequence[Addressee] = (PACS,)) -> None:
        """A study whose results wait to be delivered."""
        self.due(study)
        assert self.report(self.must_claim(), addressees)

    def take(self, worker: str = "d1", known: Sequence[str] = (PACS.name,)) -> deliveries.Claim | None:
        """Claim the next delivery."""
        return deliveries.claim(self.ledger, worker=worker, lease_s=LEASE_S, known=known)

    def must_take(self, worker: str = "d1", known: Sequence[str] = (PACS.name,)) -> deliveries.Claim:
        """Claim the next delivery, which must be there."""
        claim = self.take(worker, known)
        assert claim is not None
        return claim

    def hold(self, study: str = "1.1") -> None:
        """An operator holds a study."""
        with self.ledger.write() as conn:
            assert intake.hold(self.ledger, conn, study, Reason.OPERATOR, "wait")

    def release(self, study: str = "1.1") -> None:
        """An operator lets it go on."""
        with self.ledger.write() as conn:
            assert intake.release(self.ledger, conn, study)

    def rows(self, table: Any, **where: Any) -> list[Any]:
        """Rows of a table whose columns have these values, by its first column."""
        with self.ledger.read() as conn:
            query = select(table).order_by(next(iter(table.c)))
            for name, value in where.items():
                query = query.where(table.c[name] == value)
            return list(conn.execute(query).all())

    def study(self, uid: str = "1.1") -> Any:
        """A study's row."""
        (row,) = self.rows(schema.study, uid=uid)
        return row

    def change(self, table: Any, where: dict[str, Any], **values: Any) -> None:
        """Set columns directly, to put the ledger into a state that takes long to reach."""
        with self.ledger.write() as conn:
            query = update(table).values(**values)
            for name, value in where.items():
                query = query.where(table.c[name] == value)
            conn.execute(query)

    def events(self, kind: str) -> list[Any]:
        """The events of a kind."""
        return self.rows(schema.event, kind=kind)


@contextmanager
def counted(house: House) -> Iterator[dict[str, int]]:
    """How many statements are executed, and in how many writing transactions."""
    counts = {"statements": 0, "writes": 0}

    def executed(*_: Any) -> None:
        counts["statements"] += 1

    def begun(conn: Connection) -> None:
        counts["writes"] += bool(conn.get_execution_options().get("cauda_write"))

    event.listen(house.ledger.engine, "before_cursor_execute", executed)
    event.listen(house.ledger.engine, "begin", begun)
    try:
        yield counts
    finally:
        event.remove(house.ledger.engine, "before_cursor_execute", executed)
        event.remove(house.ledger.engine, "begin", begun)
