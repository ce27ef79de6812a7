"""Old studies are stored, and graded only when an operator asks (CLINICAL.md 29)."""

from __future__ import annotations

import builders
import pytest
from ledgers import FINGERPRINT, House
from pydicom import Dataset

from cauda.core import headers, intake, revisions, schema, views
from cauda.core.domain import Json, Reason
from cauda.core.intake import Filed
from cauda.core.settings import Completeness
from cauda.listener import completeness, phrases

pytestmark = pytest.mark.peers

LIMITED = Completeness(after_release_s=5, quiet_s=60, hard_age_s=600, max_study_age_days=14)
NOON = 1_800_000_000.0  # 2027-01-15


def receive(house: House, *images: Dataset) -> str:
    """File images as the filer does, by their headers alone, and let it be quiet."""
    house.time.now = max(house.time.now, NOON)
    for image in images:
        header = headers.of(image)
        with house.ledger.write() as conn:
            intake.file_instance(
                house.ledger, conn,
                Filed(header=header, path=header.sop_uid, version=1, sha256=header.sop_uid,
                      dataset_sha256=header.sop_uid, bytes=1, association_id=None, source="MR1"),
            )  # fmt: skip
    house.time.passes(601)
    return str(images[0].StudyInstanceUID)


def study(seed: str, date: str | None) -> list[Dataset]:
    images = builders.mr_study(seed, axial=2, sagittal=2)
    for image in images:
        if date is None:
            del image.StudyDate
        else:
            image.StudyDate = date
    return images


def tick(house: House, policy: Completeness = LIMITED) -> list[str]:
    return completeness.tick(house.ledger, policy, FINGERPRINT)


def seen(house: House, uid: str) -> Json:
    """What the list says; the page's study has the same, and the events."""
    with house.ledger.read() as conn:
        (row,) = views.studies(conn, limit=9)
        found = views.study(conn, uid)
    assert found is not None
    assert [row[key] for key in ("state", "reason", "reason_text")] == [
        found[key] for key in ("state", "reason", "reason_text")
    ]
    return found


def test_an_old_study_is_stored_and_list_page_and_events_say_why_it_is_not_graded(house: House) -> None:
    uid = receive(house, *study("old", "20250314"))
    assert tick(house) == [], "no grader is woken"
    assert house.claim() is None
    found = seen(house, uid)
    assert (found["state"], found["reason"]) == ("REJECTED", Reason.STUDY_TOO_OLD)
    assert phrases.why(found) == ("older study, graded only when an operator asks: 672 days old, the limit here is 14")
    said = [phrases.event(one, found) for one in found["events"]]
    assert said[-1] == "Revision 1 not analysed: older study, graded only when an operator asks"
    assert tick(house) == []
    assert len(house.rows(schema.revision)) == 1


def test_without_a_limit_an_old_study_is_graded(house: House) -> None:
    uid = receive(house, *study("unlimited", "20250314"))
    assert tick(house, LIMITED.model_copy(update={"max_study_age_days": None})) == [uid]
    assert house.claim() is not None


@pytest.mark.parametrize("date", [None, "", "20270110", "20270231", "yesterday", "00000000", "20270101-20270102"])
def test_a_young_study_and_one_whose_date_nobody_can_read_are_graded(house: House, date: str | None) -> None:
    uid = receive(house, *study(f"date {date}", date))
    assert tick(house) == [uid]


def test_one_image_with_an_old_date_does_not_make_a_study_old(house: House) -> None:
    images = study("mixed", "20270114")
    images[-1].StudyDate = "19990101"
    uid = receive(house, *images)
    assert tick(house) == [uid]


def test_a_localizer_alone_dates_a_study_too(house: House) -> None:
    """Else a page NOT ANALYSED would go out for what is years old."""
    (image,) = study("localizer", "20250314")[:1]
    image.ImageOrientationPatient = builders.CORONAL
    receive(house, image)
    assert tick(house) == []
    assert house.claim() is None


def test_an_operator_has_an_old_study_graded_before_it_is_complete(house: House) -> None:
    uid = receive(house, *study("forced", "20250314"))
    with house.ledger.write() as conn:
        assert intake.force_complete(house.ledger, conn, uid)
    assert tick(house) == [uid]


def test_an_operator_has_an_old_study_graded_and_its_late_images_too(house: House) -> None:
    images = study("requeued", "20250314")
    uid = receive(house, *images[:-1])
    tick(house)
    with house.ledger.write() as conn:
        assert revisions.requeue(house.ledger, conn, uid, fingerprint=FINGERPRINT)
    assert seen(house, uid)["state"] == "QUEUED"
    receive(house, images[-1])
    assert tick(house) == [uid], "what came meanwhile does not undo the operator's word"
    assert house.report(house.must_claim())
    assert seen(house, uid)["state"] == "REPORTED"


def test_late_images_of_an_old_study_that_nobody_asked_for_change_nothing(house: House) -> None:
    images = study("late", "20250314")
    uid = receive(house, *images[:-1])
    tick(house)
    receive(house, images[-1])
    assert tick(house) == []
    assert seen(house, uid)["reason"] == Reason.STUDY_TOO_OLD
    assert house.claim() is None
