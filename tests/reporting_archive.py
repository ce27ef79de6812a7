"""An archive that reports on an association of its own what it has of our results (PS3.4 J.3.3), and those results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from listener_house import House
from peers import HOST
from pydicom import Dataset
from pynetdicom import AE, build_role

from cauda.core import schema
from cauda.core.schema import DeliveryState

PUSH_MODEL, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
ECHO = "1.2.840.10008.1.1"


def question(transaction: str, instances: Sequence[tuple[str, str]]) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = []
    for sop_class, sop_uid in instances:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = sop_class, sop_uid
        asked.ReferencedSOPSequence.append(one)
    return asked


def nothing() -> Dataset:
    """A data set that says nothing of what it should."""
    empty = Dataset()
    empty.RetrieveAETitle = "PACS"
    return empty


def sent(house: House, transaction: str, sop_uids: Sequence[str]) -> None:
    """Results that an archive has accepted, and was asked to commit."""
    with house.book.write() as conn:
        conn.execute(
            schema.study.insert().values(uid="1.1", state="complete", source="MR1", first_at=0.0, opened_at=0.0)
        )
        conn.execute(
            schema.revision.insert().values(id=1, study_uid="1.1", number=1, kind="grade", state="reported",
                                            not_before=0.0, frozen_at=0.0, complete_reason="quiet", config_digest="c",
                                            code_version="0")
        )  # fmt: skip
        for number, sop_uid in enumerate(sop_uids, 1):
            conn.execute(
                schema.result.insert().values(id=number, revision_id=1, study_uid="1.1", kind="sr", sop_class_uid="1.2",
                                              sop_uid=sop_uid, series_uid="1.8", path="x", sha256="x", made_at=0.0)
            )  # fmt: skip
            conn.execute(
                schema.delivery.insert().values(result_id=number, study_uid="1.1", destination="pacs",
                                                state=DeliveryState.ACCEPTED, not_before=0.0, created_at=0.0,
                                                transaction_uid=transaction)
            )  # fmt: skip


@contextmanager
def ended(opened: Any) -> Iterator[None]:
    """At the end of the block the association is released, or aborted where something went wrong."""
    try:
        yield
    except BaseException:
        opened.abort()  # a release would wait for a thread of pynetdicom's that may be gone
        raise
    if opened.is_established:
        opened.release()


@contextmanager
def archive(port: int, *, called: str = "CAUDA", with_role: bool = True) -> Iterator[Any]:
    """An association of an archive that reports, as SCP of commitment and under a title of its own.

    Many archives report without role selection (PS3.7 D.3.3.4), in a context in which they are SCU.
    """
    ae = AE("PACS_NIGHT")
    ae.add_requested_context(PUSH_MODEL)
    ae.add_requested_context(ECHO)
    opened = ae.associate(
        HOST, port, ae_title=called, ext_neg=[build_role(PUSH_MODEL, scp_role=True)] if with_role else []
    )
    for context in () if with_role else opened.accepted_contexts:
        context._as_scp = True  # what pynetdicom forbids them, and they do
    with ended(opened):
        yield opened


def report(opened: Any, transaction: str, good: Sequence[str], bad: Sequence[str] = ()) -> int:
    said = question(transaction, [("1.2", sop_uid) for sop_uid in good])
    said.FailedSOPSequence = question(transaction, [("1.2", sop_uid) for sop_uid in bad]).ReferencedSOPSequence
    for one in said.FailedSOPSequence:
        one.FailureReason = 0x0112
    status, _ = opened.send_n_event_report(said, 2 if bad else 1, PUSH_MODEL, INSTANCE)
    return int(status.Status)
