"""An archive that answers as a test tells it to: refuses, breaks off, hangs, or takes, and says what it was sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

COMMITMENT = "1.2.840.10008.1.20.1"
KO = "1.2.840.10008.5.1.4.1.1.88.59"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CLASSES = (
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.88.59",
)


@dataclass(kw_only=True)
class Archive:
    """``script`` is what the next C-STOREs meet: a status, "abort", "hang", "slow"; when it is empty they succeed."""

    port: int = 0
    script: list[int | str] = field(default_factory=list)
    comment: str = ""
    studies: dict[str, Dataset] = field(default_factory=dict)  # what C-FIND finds at STUDY level
    holds: dict[str, str] = field(default_factory=dict)  # SOP UID -> Study UID, for IMAGE level
    also: Dataset | None = None  # a second match for every study
    find_status: int = 0x0000
    find_script: str = ""  # what every C-FIND meets: "abort", "hang", "endless"
    series: dict[str, list[Dataset]] = field(default_factory=dict)  # Study UID -> what C-FIND finds at SERIES level
    images: dict[str, list[str]] = field(default_factory=dict)  # Series UID -> SOP UIDs, for IMAGE level
    asked: list[str] = field(default_factory=list)  # the levels of the questions
    attempts: int = 0
    syntaxes: list[str] = field(default_factory=list)
    received: dict[str, list[bytes]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    breaks_on: str = ""  # a SOP UID that makes it abort, every time
    on_find: Callable[[], object] = lambda: None  # called when it is asked something
    let_go: threading.Event = field(default_factory=threading.Event)
    lists_stored: bool = True  # C-FIND finds what was stored here
    hides_rejected: bool = False  # what a rejection note points at is not listed any more
    hidden: set[str] = field(default_factory=set)
    commits: str = ""  # how it answers N-ACTION: "here", "fails", "both", "later", "refuses", "abort"
    transactions: dict[str, list[str]] = field(default_factory=dict)  # Transaction UID -> SOP UIDs
    told: list[int] = field(default_factory=list)  # how its reports were answered
    callers: list[str] = field(default_factory=list)  # who called itself what, an association each
    minds: list[int] = field(default_factory=list)  # the tags in its answers' Offending Element

    @property
    def dimse(self) -> str:
        """How Cauda is told to send there."""
        return f"dimse://ARCHIVE@127.0.0.1:{self.port}"

    def knows(self, image: Dataset, **other: Any) -> None:
        """The archive has the image's study, with other attributes where given."""
        study = Dataset()
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "AccessionNumber"):
            setattr(study, keyword, image.get(keyword))
        for keyword, value in other.items():
            setattr(study, keyword, value)
        self.studies[str(study.StudyInstanceUID)] = study
        self.holds[str(image.SOPInstanceUID)] = str(study.StudyInstanceUID)

    def lists(self, images: Sequence[Dataset], *without: str, **other: Any) -> None:
        """The archive lists the series of these images, and how many each has, without some attributes."""
        for study_uid in {str(image.StudyInstanceUID) for image in images}:
            found = self.series[study_uid] = []
            for series_uid in dict.fromkeys(
                str(i.SeriesInstanceUID) for i in images if i.StudyInstanceUID == study_uid
            ):
                held = [image for image in images if image.SeriesInstanceUID == series_uid]
                self.images[series_uid] = [str(image.SOPInstanceUID) for image in held]
                match = Dataset()
                match.QueryRetrieveLevel = "SERIES"
                match.StudyInstanceUID = study_uid
                match.SeriesInstanceUID = series_uid
                match.Modality = held[0].get("Modality", "")
                match.SeriesDescription = held[0].get("SeriesDescription", "")
                match.NumberOfSeriesRelatedInstances = len(held)
                for keyword in without:
                    delattr(match, keyword)
                for keyword, value in other.items():
                    setattr(match, keyword, value)
                found.append(match)

    def accepted(self, event: Any) -> None:
        """Note who calls."""
        self.callers.append(str(event.assoc.requestor.ae_title).strip())

    def store(self, event: Any) -> int | Dataset:
        """Answer a C-STORE as scripted."""
        self.attempts += 1
        answer = self.script.pop(0) if self.script else 0x0000
        if event.request.AffectedSOPInstanceUID == self.breaks_on:
            answer = "abort"
        if answer == "hang":
            self.let_go.wait(30)
            return 0x0110
        if answer == "slow":
            self.let_go.wait(30)
            answer = 0x0000
        if answer == "abort":
            event.assoc.abort()
            return 0x0110
        if answer in (0x0000, 0xB000):
            uid = str(event.request.AffectedSOPInstanceUID)
            self.received.setdefault(uid, []).append(event.request.DataSet.getvalue())
            self.order.append(uid)
            if self.hides_rejected and event.request.AffectedSOPClassUID == KO:
                note = event.dataset
                self.hidden |= {
                    str(one.ReferencedSOPInstanceUID)
                    for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
                    for one in series.ReferencedSOPSequence
                }
            self.syntaxes.append(str(event.context.transfer_syntax))
        status = Dataset()
        status.Status = answer
        if self.comment:
            status.ErrorComment = self.comment
        if self.minds:
            status.OffendingElement = self.minds
        return status

    def action(self, event: Any) -> tuple[int, None]:
        """Answer an N-ACTION of storage commitment as told, with the report on the same association if at all."""
        if self.commits == "abort":
            event.assoc.abort()
        if self.commits == "refuses":
            return 0x0110, None
        question = event.action_information
        uids = [str(item.ReferencedSOPInstanceUID) for item in question.ReferencedSOPSequence]
        self.transactions[str(question.TransactionUID)] = uids
        if self.commits in {"here", "fails", "both"}:
            threading.Thread(target=partial(self._report, event.assoc, str(question.TransactionUID))).start()
        return 0x0000, None

    def _report(self, association: Any, transaction_uid: str) -> None:
        fails = self.commits in {"fails", "both"}
        information = Dataset()
        information.TransactionUID = transaction_uid
        if self.commits in {"here", "both"}:
            information.ReferencedSOPSequence = [_reference(uid) for uid in self.transactions[transaction_uid]]
        if fails:
            information.FailedSOPSequence = [_reference(uid) for uid in self.transactions[transaction_uid]]
            for item in information.FailedSOPSequence:
                item.FailureReason = 0x0112
        status, _ = association.send_n_event_report(information, 2 if fails else 1, COMMITMENT, f"{COMMITMENT}.1")
        self.told.append(int(status.Status))

    def find(self, event: Any) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        """Answer a C-FIND."""
        self.on_find()
        if self.find_status:
            status = Dataset()
            status.Status, status.ErrorComment = self.find_status, self.comment
            yield status, None
            return
        question = event.identifier
        self.asked.append(str(question.QueryRetrieveLevel))
        if self.find_script == "hang":
            self.let_go.wait(30)
        if self.find_script in {"hang", "abort"}:
            event.assoc.abort()
            return
        while self.find_script == "endless" and not self.let_go.is_set():
            match = Dataset()
            match.QueryRetrieveLevel = "SERIES"
            match.SeriesInstanceUID = "1.2.3"
            yield 0xFF00, match
        if question.QueryRetrieveLevel == "SERIES":
            for match in self.series.get(question.StudyInstanceUID, []):
                yield 0xFF00, match
        elif question.QueryRetrieveLevel == "IMAGE" and not question.SOPInstanceUID:
            for uid in self.images.get(question.SeriesInstanceUID, []):
                yield 0xFF00, _image(question, uid)
        elif question.QueryRetrieveLevel == "IMAGE":
            uid = str(question.SOPInstanceUID)
            if uid in self.received and self.lists_stored and uid not in self.hidden:
                yield 0xFF00, _image(question, uid)
            if question.SOPInstanceUID in self.holds:
                yield 0xFF00, _image(question, uid, StudyInstanceUID=self.holds[question.SOPInstanceUID])
        elif question.StudyInstanceUID in self.studies:
            yield 0xFF00, self.studies[question.StudyInstanceUID]
            if self.also is not None:
                yield 0xFF00, self.also


def _reference(sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = CLASSES[0]
    item.ReferencedSOPInstanceUID = sop_uid
    return item


def _image(question: Dataset, uid: str, **other: str) -> Dataset:
    """A match at IMAGE level, with the keys that were asked."""
    match = Dataset()
    match.QueryRetrieveLevel = "IMAGE"
    match.StudyInstanceUID = question.get("StudyInstanceUID", "")
    match.SeriesInstanceUID = question.get("SeriesInstanceUID", "")
    match.SOPInstanceUID = uid
    for keyword, value in other.items():
        setattr(match, keyword, value)
    return match


@contextmanager
def archive(*, can_find: bool = True, aet: str = "ARCHIVE", checks_aet: bool = False, implicit: bool = False,
            classes: tuple[str, ...] = CLASSES, port: int = 0, commits: str = "") -> Iterator[Archive]:  # fmt: skip
    """One on a free port, gone at the end of the block."""
    made = Archive(commits=commits)
    ae = AE(ae_title=aet)
    ae.require_called_aet = checks_aet
    for name in classes:
        ae.add_supported_context(
            UID(name), [ImplicitVRLittleEndian] if implicit else [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        )
    if can_find:
        ae.add_supported_context(UID(FIND))
    if commits:
        ae.add_supported_context(UID(COMMITMENT))
    handlers = [(evt.EVT_C_STORE, made.store), (evt.EVT_C_FIND, made.find), (evt.EVT_N_ACTION, made.action)]
    handlers.append((evt.EVT_ACCEPTED, made.accepted))
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    if server is None or server.socket is None:
        raise RuntimeError("no server")
    made.port = server.socket.getsockname()[1]
    try:
        yield made
    finally:
        made.let_go.set()
        server.socket.shutdown(socket.SHUT_RDWR)  # wakes the server's thread, which looks every half second
        server.shutdown()
