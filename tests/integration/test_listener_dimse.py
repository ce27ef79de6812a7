"""The DIMSE door against real senders: what is acknowledged is on disk as it was sent; what is not is said why."""

from __future__ import annotations

import logging
import os
import random
import socket
from io import BytesIO
from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import echoscu, storescu
from impatient_door import CONTEXTS, MR, image
from listener_house import association, filed, landed, listener, store, with_meta
from peers import HOST, until
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from raw_peer import connected

from cauda.core import claims, part, schema, slots, spool
from cauda.core.domain import Reason
from cauda.core.schema import RevisionKind, StudyState
from cauda.listener import guests, head, landing

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("data_path")]


def test_dcmtk_sends_a_study_and_it_is_filed_byte_for_byte(tmp_path: Path) -> None:
    images = builders.mr_study(1)
    files = builders.write(images, tmp_path / "in")
    with listener(tmp_path / "data") as house:
        assert echoscu(house.ports.dimse)
        answer = storescu(house.ports.dimse, files)
        assert answer.returncode == 0, answer.stderr
        revision = until(lambda: house.rows(schema.revision), what="a revision")[0]
    assert revision["state"] == "due"
    assert "5 axial T2-possible, 5 sagittal T2-possible" in revision["complete_reason"]
    sent = {
        f"{image.SOPInstanceUID}.dcm": builders.dataset_bytes(f.read_bytes())
        for image, f in zip(images, files, strict=True)
    }
    kept = {name: builders.dataset_bytes(content) for name, content in filed(house).items()}
    assert kept == sent
    assert {p.parent.name for p in (house.data / "studies").glob("*/*.dcm")} == {images[0].StudyInstanceUID}


@pytest.mark.parametrize("option", ["-xe", "-xi", "-xb", "-xd"])
def test_every_uncompressed_encoding_is_stored_as_received(tmp_path: Path, option: str) -> None:
    files = builders.write(builders.mr_study(2, axial=1, sagittal=1), tmp_path / "in")
    with listener(tmp_path / "data") as house:
        answer = storescu(house.ports.dimse, files, option)
        assert answer.returncode == 0, answer.stderr
        house.until_filed()
        assert len(house.rows(schema.instance)) == 2


def test_a_wrong_called_title_is_rejected_and_remembered(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        assert not echoscu(house.ports.dimse, called="SOMEBODY")
        seen = until(lambda: house.rows(schema.refused_peer), what="the refused peer")
    assert (seen[0]["aet"], seen[0]["why"]) == ("ECHOSCU", Reason.CALLED_AE_UNKNOWN)


def test_who_is_not_on_the_list_is_rejected_and_remembered(tmp_path: Path) -> None:
    peers = ({"aet": "KNOWN", "network": "127.0.0.0/8"},)
    with listener(tmp_path / "data", peers=peers) as house:
        assert not echoscu(house.ports.dimse, calling="STRANGER")
        assert echoscu(house.ports.dimse, calling="KNOWN")
        seen = until(lambda: house.rows(schema.refused_peer), what="the refused peer")
    assert (seen[0]["aet"], seen[0]["why"]) == ("STRANGER", Reason.CALLING_AE_NOT_ALLOWED)


def test_garbage_on_the_port_leaves_the_door_open_for_others(tmp_path: Path) -> None:
    draw = random.Random(3)
    with listener(tmp_path / "data") as house:
        for _ in range(20):
            with socket.create_connection((HOST, house.ports.dimse), timeout=5) as sock:
                sock.sendall(draw.randbytes(draw.randint(1, 4096)))
        assert echoscu(house.ports.dimse)


def raw_store(port: int, data: bytes, *, sop_class: str = builders.MR_IMAGE, sop_uid: str = "1.2.3.4.5") -> Dataset:
    """Send bytes as a data set, whatever they are; returns the status data set."""
    syntax = "1.2.840.10008.1.2.1"
    with association(port, [(sop_class, syntax)]) as opened:
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = sop_class
        request.AffectedSOPInstanceUID = sop_uid
        request.Priority = 2
        request.DataSet = BytesIO(data)
        opened._reactor_checkpoint.clear()  # as send_c_store does: the answer is for us, not for the reactor
        until(lambda: opened._is_paused)
        opened.dimse.send_msg(request, opened.accepted_contexts[0].context_id)
        _, response = opened.dimse.get_msg(block=True)
        opened._reactor_checkpoint.set()
        status = Dataset()
        status.Status = response.Status
        status.ErrorComment = response.ErrorComment or ""
        return status


def image_bytes(**attributes: Any) -> bytes:
    return builders.dataset_bytes(builders.part10(builders.mr_image("1.2.3", "1.2.3.4", "1.2.3.4.5", **attributes)))


@pytest.mark.parametrize(
    ("data", "sop_class", "status", "words"),
    [
        (image_bytes()[:-100], builders.MR_IMAGE, 0xC000, "cut short"),
        (b"no data set at all" * 9, builders.MR_IMAGE, 0xC000, "not a DICOM data set"),
        (image_bytes(), builders.SECONDARY_CAPTURE, 0xA900, "SOP Class UID differs"),
        (image_bytes(StudyInstanceUID=None), builders.MR_IMAGE, 0xC000, "Study Instance UID"),
    ],
)
def test_a_bad_object_is_answered_with_its_fault_and_nothing_is_kept(
    tmp_path: Path, data: bytes, sop_class: str, status: int, words: str
) -> None:
    with listener(tmp_path / "data") as house:
        answer = raw_store(house.ports.dimse, data, sop_class=sop_class)
        assert answer.Status == status
        assert words in answer.ErrorComment
        assert len(answer.ErrorComment) <= 64
        assert raw_store(house.ports.dimse, image_bytes()).Status == 0x0000  # the door is still open
        house.until_filed()
        assert len(filed(house)) == 1


def test_another_instance_uid_than_the_commands_is_refused(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        assert raw_store(house.ports.dimse, image_bytes(), sop_uid="1.2.3.4.6").Status == 0xA900


def test_no_room_is_a700_with_the_cause_and_nothing_is_kept(tmp_path: Path) -> None:
    with listener(tmp_path / "data", limits={"min_free_bytes": 1 << 60}) as house:
        answer = raw_store(house.ports.dimse, image_bytes())
        assert answer.Status == 0xA700
        assert answer.ErrorComment.startswith("no room")
        assert not list(house.data.glob("arrivals/*/*.dcm"))


def broken(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("Doe^Jane")


@pytest.mark.parametrize(
    "step",
    [
        [(landing, "file_meta")],
        [(head, "parse")],
        [(part, "write_all"), (slots, "write_all")],
        [(os, "fdatasync")],
    ],
)
def test_a_bug_in_the_handler_is_a_status_not_a_dead_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: list[tuple[Any, str]]
) -> None:
    """At each step of a C-STORE: the association goes on, and nothing of the object is kept or said."""
    with listener(tmp_path / "data") as house, connected(house.ports.dimse) as peer:
        assert peer.associate(CONTEXTS)
        with monkeypatch.context() as patch:
            for owner, name in step:
                patch.setattr(owner, name, broken)
            answer = peer.store(1, MR, "1.2.3.4.5", image("1.2.3.4.5"))
        assert answer is not None
        assert answer.status == 0x0110
        assert "Doe" not in answer.comment
        assert not house.open_parts()
        assert not landed(house.data)
        again = peer.store(1, MR, "1.2.3.4.5", image("1.2.3.4.5"))
        assert again is not None
        assert again.status == 0x0000


def test_a_bug_over_a_caller_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pynetdicom would go on as if nobody minded."""
    with listener(tmp_path / "data") as house:
        with monkeypatch.context() as patch:
            patch.setattr(guests.Guests, "verdict", broken)
            with association(house.ports.dimse, [("1.2.840.10008.1.1", "1.2.840.10008.1.2")]) as opened:
                assert opened.is_rejected
        assert echoscu(house.ports.dimse)


def test_a_release_is_a_release_however_quickly_the_peer_hangs_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the connection was closed before pynetdicom came to say that it was released."""

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "Association Released":
                until(lambda: [a for a in house.rows(schema.association) if a["ended_how"]], what="its end")

    with listener(tmp_path / "data") as house:
        logger, slow = logging.getLogger("pynetdicom.association"), Slow()
        monkeypatch.setattr(logger, "level", logging.INFO)
        logger.addHandler(slow)
        try:
            assert echoscu(house.ports.dimse)
            until(lambda: [a for a in house.rows(schema.association) if a["ended_how"]], what="the end")
        finally:
            logger.removeHandler(slow)
        assert house.row(schema.association)["ended_how"] == "released"


def test_one_peer_cannot_take_every_association(tmp_path: Path) -> None:
    with listener(tmp_path / "data", limits={"min_free_bytes": 0, "max_associations_per_peer": 1}) as house:
        with association(house.ports.dimse, [(builders.MR_IMAGE, "1.2.840.10008.1.2.1")]) as first:
            assert first.is_established
            with association(house.ports.dimse, [(builders.MR_IMAGE, "1.2.840.10008.1.2.1")]) as second:
                assert second.is_rejected
        until(lambda: echoscu(house.ports.dimse), what="room for the peer again")


def test_a_resend_opens_nothing(tmp_path: Path) -> None:
    images = builders.mr_study(4)
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images)
        until(lambda: house.rows(schema.revision), what="the first revision")
        store(house.ports.dimse, images)
        house.until_filed()
        until(lambda: len([a for a in house.rows(schema.association) if a["ended_how"] == "released"]) == 2)
        assert house.row(schema.study)["state"] == StudyState.COMPLETE
        assert len(house.rows(schema.revision)) == 1
        assert len(house.rows(schema.instance)) == len(images)


@pytest.mark.parametrize("kind", [builders.SECONDARY_CAPTURE, builders.COMPREHENSIVE_SR, builders.KEY_OBJECT])
def test_results_of_others_are_kept_and_inert(tmp_path: Path, kind: str) -> None:
    images = builders.mr_study(5)
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images)
        until(lambda: house.rows(schema.revision), what="the first revision")
        before = dict(house.row(schema.study))
        assert [s.Status for s in store(house.ports.dimse, [builders.foreign_result(images[0], "1.2.77", kind)])] == [0]
        until(lambda: len(house.rows(schema.instance)) == len(images) + 1, what="the result filed")
        assert dict(house.row(schema.study)) == before
        assert len(house.rows(schema.revision)) == 1


def test_a_demographic_correction_becomes_one_event_and_a_new_revision(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, builders.mr_study(6))
        until(lambda: house.rows(schema.revision), what="the first revision")
        with house.book.write() as conn:  # as if a worker had reported it
            conn.execute(schema.revision.update().values(state="reported"))
            conn.execute(
                schema.result.insert().values(
                    revision_id=1, study_uid=builders.mr_study(6)[0].StudyInstanceUID, kind="sr", sop_class_uid="1",
                    sop_uid="1.9", series_uid="1.8", path="x", sha256="x", made_at=0.0,
                )
            )  # fmt: skip
        store(house.ports.dimse, builders.mr_study(6, PatientName="Married^Name"))
        revisions = until(lambda: len(house.rows(schema.revision)) == 2 and house.rows(schema.revision), what="reissue")
    assert revisions[1]["kind"] == RevisionKind.REISSUE
    assert len([e for e in house.rows(schema.event) if e["kind"] == "demographics_corrected"]) == 1
    assert house.row(schema.study)["hold"] is None


def test_another_patient_id_in_one_study_holds_it_until_its_images_agree(tmp_path: Path) -> None:
    images, other = builders.mr_study(7), builders.mr_study(7, PatientID="PID2")
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images[:4] + other[4:])
        until(
            lambda: house.rows(schema.study) and house.row(schema.study)["hold"] == Reason.IDENTITY_MIXED, what="hold"
        )
        store(house.ports.dimse, other[:4])
        until(lambda: house.row(schema.study)["hold"] is None, what="the hold to end")


def test_other_pixels_under_a_known_uid_hold_the_study_and_both_are_kept(tmp_path: Path) -> None:
    images = builders.mr_study(8)
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images)
        until(lambda: len(house.rows(schema.instance)) == len(images))
        forged = builders.mr_study(8)[0]
        forged.PixelData = bytes(len(forged.PixelData))
        assert store(house.ports.dimse, [forged])[0].Status == 0
        until(lambda: house.row(schema.study)["hold"] == Reason.PIXELS_CHANGED, what="hold")
        house.until_filed()
        assert len(filed(house)) == len(images) + 1


def test_a_copy_under_another_study_and_patient_is_held_and_the_clinical_original_goes_on(tmp_path: Path) -> None:
    """A research export keeps its SOP Instance UIDs; the original completes and is frozen for grading."""
    images = builders.mr_study(9)
    copies = builders.mr_study(9, StudyInstanceUID="1.2.99", PatientID="TRIAL-001", PatientName="TRIAL-001")
    with listener(tmp_path / "data") as house:
        store(house.ports.dimse, images[:4])
        store(house.ports.dimse, copies)
        store(house.ports.dimse, images[4:])
        original = str(images[0].StudyInstanceUID)
        until(lambda: original in [row["study_uid"] for row in house.rows(schema.revision)], what="it is frozen")
        house.until_filed()
        holds = {row["uid"]: row["hold"] for row in house.rows(schema.study)}
        claim = claims.claim(house.book, worker="w", lease_s=60, max_deaths=3)
        nothing = claims.claim(house.book, worker="w", lease_s=60, max_deaths=3)
    assert holds == {original: None, "1.2.99": Reason.KNOWN_ELSEWHERE}
    assert claim is not None
    assert (claim.study_uid, nothing) == (original, None)


def test_a_correction_in_the_same_breath_as_its_original_is_still_a_correction(tmp_path: Path) -> None:
    """The two land in one batch of the filer."""
    with listener(tmp_path / "data") as house:
        first, second = (
            builders.mr_study(10, axial=1, sagittal=0),
            builders.mr_study(10, axial=1, sagittal=0, PatientName="B"),
        )
        store(house.ports.dimse, first + second)
        until(lambda: len(house.rows(schema.instance)) == 2)
        assert house.row(schema.study)["hold"] is None
        assert [row["current"] for row in house.rows(schema.instance)] == [False, True]


def test_what_a_dead_listener_left_is_filed_by_the_next(tmp_path: Path) -> None:
    store_ = spool.Spool(tmp_path / "data")
    store_.prepare()
    left = spool.open_arrivals(store_, "dead")
    part.land(left.folder, "0001", [builders.part10(builders.mr_study(11)[0])])
    left.close()  # its process is gone
    with listener(tmp_path / "data") as house:
        until(lambda: house.rows(schema.instance), what="adoption")
    assert not (tmp_path / "data" / "arrivals" / "dead").exists()


def test_acknowledged_bytes_without_a_study_are_set_aside_not_lost(tmp_path: Path) -> None:
    store_ = spool.Spool(tmp_path / "data")
    store_.prepare()
    left = spool.open_arrivals(store_, "dead")
    part.land(left.folder, "0001", [b"not DICOM"])
    left.close()
    with listener(tmp_path / "data") as house:
        until(lambda: list((house.data / "unfiled").iterdir()), what="set aside")
        until(lambda: [e["kind"] for e in house.rows(schema.event)] == ["object_unfiled"], what="its event")
    assert next((tmp_path / "data" / "unfiled").iterdir()).read_bytes() == b"not DICOM"


def test_no_image_is_lost_when_the_listener_stops_in_the_middle_of_a_study(tmp_path: Path) -> None:
    images = builders.mr_study(12)
    with listener(tmp_path / "data") as house, association(
        house.ports.dimse, [(builders.MR_IMAGE, "1.2.840.10008.1.2.1")]
    ) as opened:  # fmt: skip
        acknowledged = [i for i in images[:6] if opened.send_c_store(with_meta(i)).get("Status") == 0]
        house.close()
    assert len(filed(house)) == len(acknowledged) == 6


def test_the_storage_classes_of_a_lumbar_study_are_all_accepted(tmp_path: Path) -> None:
    classes = [
        "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.3",
        "1.2.840.10008.5.1.4.1.1.4.4", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4",
        "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.34",
        "1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.66",
        "1.2.840.10008.5.1.4.1.1.4.2", "1.3.12.2.1107.5.9.1", "1.3.46.670589.11.0.0.12.2", "1.3.46.670589.11.0.0.12.4",
    ]  # fmt: skip
    syntaxes = ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
                "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.4.50",
                "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2",
                "1.2.840.10008.1.2.1.99"]  # fmt: skip
    with listener(tmp_path / "data") as house:
        wanted = [(c, s) for c in classes for s in syntaxes]
        for start in range(0, len(wanted), 100):
            with association(house.ports.dimse, wanted[start : start + 100]) as opened:
                assert not opened.rejected_contexts


def test_an_object_whose_pixels_are_elsewhere_is_not_promised_to_be_kept(tmp_path: Path) -> None:
    """JPIP: the data set holds a URL where its pixels should be."""
    wanted = [(builders.MR_IMAGE, "1.2.840.10008.1.2.1"), (builders.SECONDARY_CAPTURE, "1.2.840.10008.1.2.4.94")]
    with listener(tmp_path / "data") as house, association(house.ports.dimse, wanted) as opened:
        assert [str(context.abstract_syntax) for context in opened.rejected_contexts] == [builders.SECONDARY_CAPTURE]


def test_of_the_encodings_that_a_sender_offers_explicit_vr_is_taken(tmp_path: Path) -> None:
    """Implicit VR would lose what private elements are."""
    ae = AE("SCANNER")
    ae.add_requested_context(builders.MR_IMAGE, ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
    with listener(tmp_path / "data") as house:
        opened = ae.associate(HOST, house.ports.dimse, ae_title="CAUDA")
        taken = [str(context.transfer_syntax[0]) for context in opened.accepted_contexts]
        opened.release()
    assert taken == ["1.2.840.10008.1.2.1"]
