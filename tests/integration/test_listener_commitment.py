"""Storage commitment at the door: what senders may ask of us.

Orthanc is the archive that holds images, and asks as a modality does; pynetdicom plays askers of other habits.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import Orthanc, orthanc
from impatient_door import image
from listener_house import House, listener, with_meta
from peers import HOST, free_port, until
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from raw_peer import RawPeer, c_echo_rq, c_store_rq, connected, n_action_rq, n_event_report_rsp
from reporting_archive import ECHO, INSTANCE, PUSH_MODEL, archive, ended, nothing, question, report
from sqlalchemy import update

from cauda.core import commitment_requests, commitments, schema
from cauda.core.schema import CommitmentState

pytestmark = pytest.mark.peers
IMPLICIT = "1.2.840.10008.1.2"
NOWHERE = "2.25.404"
DICOMWEB = ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"]


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    """One archive for all tests here, with DICOMweb; each stores a study of its own."""
    with orthanc("PACS", Plugins=DICOMWEB) as server:
        yield server


def held(pacs: Orthanc, folder: Path, number: int) -> list[Dataset]:
    """A study that the archive holds."""
    images = builders.mr_study(number, axial=2, sagittal=1)
    pacs.store(builders.write(images, folder))
    return images


def on(url: str, *, asker: tuple[str, int] | None = None, wait_s: float = 0.5) -> dict[str, Any]:
    """The settings under which others may ask."""
    askers = [{"aet": asker[0], "host": HOST, "port": asker[1]}] if asker else []
    return {
        "source": {"url": url, "ask_every_s": 600},
        "commitment": {"enabled": True, "askers": askers, "wait_s": wait_s},
    }


def references(images: Sequence[Dataset]) -> list[tuple[str, str]]:
    return [(str(image.SOPClassUID), str(image.SOPInstanceUID)) for image in images]


class Told:
    """What an asker was told: committed UIDs and failure reasons, by transaction."""

    def __init__(self) -> None:
        self.reports: queue.Queue[tuple[str, set[str], dict[str, int]]] = queue.Queue()

    def handle(self, event: evt.Event) -> tuple[int, None]:
        """Take a report, and keep it."""
        said = event.event_information
        good = {str(one.ReferencedSOPInstanceUID) for one in said.get("ReferencedSOPSequence") or ()}
        bad = {
            str(one.ReferencedSOPInstanceUID): int(one.FailureReason) for one in said.get("FailedSOPSequence") or ()
        }  # fmt: skip
        assert event.event_type == (2 if bad else 1)
        self.reports.put((str(said.TransactionUID), good, bad))
        return 0x0000, None


@contextmanager
def modality(port: int, told: Told, calling: str = "SCANNER") -> Iterator[Any]:
    """An association of a modality that asks and waits on it."""
    ae = AE(calling)
    ae.add_requested_context(PUSH_MODEL)
    ae.add_requested_context(ECHO)
    opened = ae.associate(HOST, port, ae_title="CAUDA", evt_handlers=[(evt.EVT_N_EVENT_REPORT, told.handle)])
    with ended(opened):
        yield opened


def until_told(house: House) -> None:
    """Wait until our side knows that the asker took its report."""
    rows = schema.commitment_request
    until(lambda: {row["state"] for row in house.rows(rows)} == {CommitmentState.TOLD}, what="the answer to the report")


def ask(opened: Any, transaction: str, instances: Sequence[tuple[str, str]]) -> int:
    status, _ = opened.send_n_action(question(transaction, instances), 1, PUSH_MODEL, INSTANCE)
    return int(status.Status)


@pytest.mark.usefixtures("data_path")
def test_nobody_may_ask_unless_that_is_switched_on(tmp_path: Path) -> None:
    """A modality takes a negotiated context as leave to delete its copy."""
    with listener(tmp_path / "data") as house, modality(house.ports.dimse, Told()) as opened:
        assert opened.is_established
        assert [str(context.abstract_syntax) for context in opened.rejected_contexts] == [PUSH_MODEL]
        assert [str(context.abstract_syntax) for context in opened.accepted_contexts] == [ECHO]


@pytest.mark.usefixtures("data_path")
def test_an_asker_that_waits_is_told_on_its_association_what_the_archive_holds(tmp_path: Path, pacs: Orthanc) -> None:
    images, told = held(pacs, tmp_path / "in", 1), Told()
    good = references(images)
    conflict = ("1.2.840.10008.5.1.4.1.1.7", good.pop()[1])
    with listener(tmp_path / "data", **on(pacs.dimse)) as house, modality(house.ports.dimse, told) as opened:
        assert ask(opened, "2.25.1", good) == 0x0000
        assert told.reports.get(timeout=60) == ("2.25.1", {sop_uid for _, sop_uid in good}, {})
        until_told(house)  # asked while it still answers, pynetdicom was seen to hang
        assert ask(opened, "2.25.2", [*good, conflict, (builders.MR_IMAGE, NOWHERE)]) == 0x0000
        transaction, committed, failed = told.reports.get(timeout=60)
        assert transaction == "2.25.2"
        assert committed == {sop_uid for _, sop_uid in good}
        assert failed == {conflict[1]: 0x0119, NOWHERE: 0x0112}
        until_told(house)
        assert opened.send_c_echo().Status == 0x0000


@pytest.mark.usefixtures("data_path")
def test_images_on_the_askers_association_are_stored_while_it_waits_for_its_report(
    tmp_path: Path, pacs: Orthanc
) -> None:
    """Its report neither breaks into a transfer nor takes an image for an answer."""
    images, told = held(pacs, tmp_path / "in", 6), Told()
    more = builders.mr_study(7, axial=20, sagittal=0)
    with listener(tmp_path / "data", **on(pacs.dimse)) as house:
        ae = AE("SCANNER")
        ae.add_requested_context(PUSH_MODEL)
        ae.add_requested_context(builders.MR_IMAGE, ExplicitVRLittleEndian)
        opened = ae.associate(HOST, house.ports.dimse, ae_title="CAUDA",
                              evt_handlers=[(evt.EVT_N_EVENT_REPORT, told.handle)])  # fmt: skip
        assert ask(opened, "2.25.8", references(images)) == 0x0000
        sent_ = 0
        while told.reports.empty() and sent_ < len(more):
            assert opened.send_c_store(with_meta(more[sent_])).Status == 0x0000
            sent_ += 1
        assert told.reports.get(timeout=60)[0] == "2.25.8"
        until_told(house)
        opened.release()
        until(lambda: len(house.rows(schema.instance)) == sent_, what="the images filed")


def contexts_until(peer: RawPeer, *ends: tuple[int, int]) -> list[int]:
    """The context of each fragment that comes until all ``ends`` have come: context and control header (PS3.8 E.2)."""
    seen: list[int] = []
    missing = set(ends)
    while missing:
        got = peer.receive()
        assert got is not None
        seen.append(got[1][4])
        missing.discard((got[1][4], got[1][5]))
    return seen


@pytest.mark.usefixtures("data_path")
def test_no_answer_comes_between_the_fragments_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PS3.8 E.1. A small PDU makes many of them, and the committer is held up after the first.

    Meanwhile the asker sends an image and asks for an echo.
    """
    held_up, go_on = threading.Event(), threading.Event()
    send_pdu = DULServiceProvider.send_pdu

    def slow(layer: DULServiceProvider, primitive: Any) -> None:
        send_pdu(layer, primitive)
        if threading.current_thread().name == "committer" and isinstance(primitive, P_DATA):
            held_up.set()
            go_on.wait(30)

    monkeypatch.setattr(DULServiceProvider, "send_pdu", slow)
    syntax = str(ExplicitVRLittleEndian)
    nobody = on(f"dimse://PACS@{HOST}:{free_port()}", wait_s=0.1)
    with listener(tmp_path / "data", **nobody) as house, connected(house.ports.dimse) as peer:
        proposed = [(PUSH_MODEL, syntax), (builders.MR_IMAGE, syntax), (ECHO, IMPLICIT)]
        assert peer.associate(proposed, max_pdu=65)
        asked = encode(question("2.25.9", [(builders.MR_IMAGE, NOWHERE)]), False, True)
        peer.message(1, n_action_rq(PUSH_MODEL, INSTANCE), asked)
        assert set(contexts_until(peer, (1, 0x03))) == {1}
        assert held_up.wait(30)
        peer.message(3, c_store_rq(builders.MR_IMAGE, "1.2.3.4.5"), image("1.2.3.4.5"))
        peer.message(5, c_echo_rq(2))
        until(lambda: house.rows(schema.instance), what="the image filed, and so its answer due")
        go_on.set()
        contexts = contexts_until(peer, (1, 0x02), (3, 0x03), (5, 0x03))
        assert [context for context, _ in groupby(contexts)] == [1, 3, 5]
        peer.message(1, n_event_report_rsp(PUSH_MODEL))
        until_told(house)


@pytest.mark.parametrize("by", ["dimse", "dicomweb"])
def test_orthanc_asks_and_is_told_on_a_new_association(tmp_path: Path, pacs: Orthanc, by: str) -> None:
    images = held(pacs, tmp_path / "in", 2)
    url = pacs.dimse if by == "dimse" else f"dicomweb+http://{HOST}:{pacs.http}/dicom-web"
    with listener(tmp_path / "data", **on(url, asker=("PACS", pacs.port))) as house:
        pacs.know("cauda", "CAUDA", house.ports.dimse)
        for instances, outcome in ((references(images), "Success"), ([(builders.MR_IMAGE, NOWHERE)], "Failure")):
            begun = pacs.post("/modalities/cauda/storage-commitment", {"DicomInstances": instances})
            report = until(
                lambda path=begun["Path"]: (said := pacs.get(path))["Status"] != "Pending" and said, what="a report"
            )
            assert report["Status"] == outcome
            assert report["RemoteAET"] == "CAUDA"
            assert {one["SOPInstanceUID"] for one in report["Success"]} == (
                {uid for _, uid in instances} if outcome == "Success" else set()
            )
        assert report["Failures"][0]["FailureReason"] == 0x0112


def test_images_that_came_here_are_asked_for_by_study_and_series(tmp_path: Path, pacs: Orthanc) -> None:
    """Many archives answer no question by SOP Instance UID alone."""
    images, told = held(pacs, tmp_path / "in", 3), Told()
    with listener(tmp_path / "data", **on(pacs.dimse)) as house:
        pacs.know("cauda", "CAUDA", house.ports.dimse)
        study = str(images[0].StudyInstanceUID)
        pacs.send("cauda", [one["id"] for one in pacs.instances(study)])
        until(lambda: len(house.rows(schema.instance)) == len(images), what="the study filed")
        with modality(house.ports.dimse, told) as opened:
            assert ask(opened, "2.25.3", references(images)) == 0x0000
            assert told.reports.get(timeout=60)[1:] == ({sop_uid for _, sop_uid in references(images)}, {})
            until_told(house)


def test_an_archive_that_is_away_commits_nothing(tmp_path: Path) -> None:
    told = Told()
    nobody = on(f"dimse://PACS@{HOST}:{free_port()}")
    with listener(tmp_path / "data", **nobody) as house, modality(house.ports.dimse, told) as opened:
        assert ask(opened, "2.25.4", [(builders.MR_IMAGE, NOWHERE)]) == 0x0000
        assert told.reports.get(timeout=60) == ("2.25.4", set(), {NOWHERE: 0x0110})
        until_told(house)


def test_what_was_asked_before_a_restart_is_answered_after_it(tmp_path: Path, pacs: Orthanc) -> None:
    """The asker has gone, and is away when it is called; then we are away ourselves."""
    images, told, port = held(pacs, tmp_path / "in", 5), Told(), free_port()
    given = on(pacs.dimse, asker=("SCANNER", port))
    with listener(tmp_path / "data", **given) as house:
        with modality(house.ports.dimse, told) as opened:
            assert ask(opened, "2.25.5", references(images)) == 0x0000
        until(lambda: house.row(schema.commitment_request)["problem"], what="the asker not reached")
    ae = AE("SCANNER")
    ae.add_supported_context(PUSH_MODEL, scu_role=False, scp_role=True)
    server = ae.start_server((HOST, port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, told.handle)])
    try:
        with listener(tmp_path / "data", **given) as house:
            with house.book.write() as conn:  # rather than wait for the lease of the one that ended
                conn.execute(update(schema.commitment_request).values(lease_until=0, not_before=0))
            assert told.reports.get(timeout=60) == ("2.25.5", {sop_uid for _, sop_uid in references(images)}, {})
            until_told(house)
    finally:
        server.shutdown()


def test_a_question_that_is_none_is_refused_and_the_door_stays_open(tmp_path: Path, pacs: Orthanc) -> None:
    with listener(tmp_path / "data", **on(pacs.dimse)) as house, modality(house.ports.dimse, Told()) as opened:
        for bad in (nothing(), question("not a UID", [("1.2", "1.3")]), question("2.25.6", [("1.2", "../../etc")])):
            status, _ = opened.send_n_action(bad, 1, PUSH_MODEL, INSTANCE)
            assert status.Status == 0x0115
        status, _ = opened.send_n_action(question("2.25.6", []), 7, PUSH_MODEL, INSTANCE)
        assert status.Status == 0x0123
        assert opened.send_c_echo().Status == 0x0000
        assert not house.rows(schema.commitment_request)


@pytest.mark.usefixtures("data_path")
def test_a_bug_over_a_question_or_a_report_is_a_status_and_the_association_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("Doe^Jane")

    nobody = on(f"dimse://PACS@{HOST}:{free_port()}")
    with listener(tmp_path / "data", **nobody) as house:
        monkeypatch.setattr(commitment_requests, "ask", broken)
        monkeypatch.setattr(commitments, "answered", broken)
        with modality(house.ports.dimse, Told()) as opened:
            assert ask(opened, "2.25.9", [(builders.MR_IMAGE, NOWHERE)]) == 0x0110
            assert opened.send_c_echo().Status == 0x0000
        with archive(house.ports.dimse) as opened:
            assert report(opened, "2.25.9", ["2.25.1"]) == 0x0110
            assert opened.send_c_echo().Status == 0x0000
