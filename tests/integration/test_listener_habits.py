"""Scanners and routers as they are: real associations into a real listener, hours on the ledger's clock in seconds.

The policy is the server's own: 10 minutes after the last release, 10 minutes of quiet, 90 minutes at the latest.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import builders
import httpx
import pytest
from hospital import MINUTE, Hospital, opened
from listener_house import with_meta
from peers import HOST
from pydicom import Dataset, dcmread

from cauda.core import schema

pytestmark = pytest.mark.peers


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    with opened(tmp_path / "data", monkeypatch) as made:
        yield made


def of_series(images: Sequence[Dataset]) -> list[list[Dataset]]:
    """The images series by series, in the order of the study."""
    return [list(group) for _, group in groupby(images, key=lambda image: str(image.SeriesInstanceUID))]


def study(axial: int = 3, sagittal: int = 3) -> list[Dataset]:
    """Sagittal first, as an exam runs."""
    images = builders.mr_study("habits", axial=axial, sagittal=sagittal)
    return images[axial:] + images[:axial]


def late_series(images: Sequence[Dataset], number: int) -> list[Dataset]:
    """One more axial T2 series of the same study."""
    uid, series_uid = str(images[0].StudyInstanceUID), f"1.2.8.{number}"
    return [builders.mr_image(uid, series_uid, f"{series_uid}.{i}", InstanceNumber=i + 1) for i in range(2)]


def test_one_association_a_study(hospital: Hospital) -> None:
    hospital.sends(study())
    hospital.completes_after(10 * MINUTE, "released for 600 s: 3 axial T2-possible, 3 sagittal T2-possible", 6)


def test_one_association_a_series_minutes_apart(hospital: Hospital) -> None:
    """Each series of a forty-minute exam as it is acquired: the last release counts, once both planes are in."""
    sagittal, axial = of_series(study())
    t1 = [
        builders.mr_image(str(axial[0].StudyInstanceUID), "1.2.7", f"1.2.7.{i}", RepetitionTime=500.0, EchoTime=10.0,
                          SeriesDescription="T1 TSE SAG", ImageOrientationPatient=builders.SAGITTAL)
        for i in range(3)
    ]  # fmt: skip
    hospital.sends(sagittal)
    hospital.passes(14 * MINUTE)  # longer than the quiet time
    hospital.sends(t1)
    hospital.passes(13 * MINUTE)
    hospital.sends(axial[:2])
    hospital.passes(9 * MINUTE)
    hospital.sends(axial[2:])
    hospital.completes_after(10 * MINUTE, "released for 600 s", 9)


def test_one_association_an_image(hospital: Hospital) -> None:
    for image in study():
        hospital.sends([image])
        hospital.passes(20)
    hospital.completes_after(10 * MINUTE - 20, "released for 600 s", 6)


def test_one_association_for_an_exam_that_takes_half_an_hour(hospital: Hospital) -> None:
    """It is open all the time; the pauses are shorter than the quiet time, the whole is not."""
    with hospital.opens() as scanner:
        for image in study():
            assert scanner.send_c_store(with_meta(image)).Status == 0
            hospital.passes(6 * MINUTE)
    hospital.ended("released")
    hospital.completes_after(10 * MINUTE, "released for 600 s", 6)


def test_a_router_that_never_releases(hospital: Hospital) -> None:
    """Its association is open when the study completes, and for hours after."""
    with hospital.opens() as router:
        for image in study():
            assert router.send_c_store(with_meta(image)).Status == 0
        hospital.completes_after(10 * MINUTE, "quiet for 600 s", 6)
        assert router.is_established


def test_an_abort_in_the_middle_and_a_resend_of_everything(hospital: Hospital) -> None:
    images = study()
    with hospital.opens() as scanner:
        for image in images[:4]:
            assert scanner.send_c_store(with_meta(image)).Status == 0
        scanner.abort()
    hospital.ended("aborted")
    hospital.passes(5 * MINUTE)
    hospital.sends(images)
    hospital.completes_after(10 * MINUTE, "released for 600 s", 6)
    assert len(hospital.house.rows(schema.instance)) == 6


def test_an_abort_after_the_last_image_is_no_release(hospital: Hospital) -> None:
    """An early release came before it, and does not count for what came later."""
    images = study()
    hospital.sends(images[:5])
    hospital.passes(5 * MINUTE)
    with hospital.opens() as scanner:
        assert scanner.send_c_store(with_meta(images[5])).Status == 0
        scanner.abort()
    hospital.ended("aborted")
    hospital.completes_after(10 * MINUTE, "quiet for 600 s", 6)


def test_a_scanner_that_aborts_after_each_series_and_resends_what_it_sent(hospital: Hospital) -> None:
    images = study()
    for upto in (2, 4, 6):
        with hospital.opens() as scanner:
            for image in images[:upto]:
                assert scanner.send_c_store(with_meta(image)).Status == 0
            scanner.abort()
        hospital.passes(3 * MINUTE)
    hospital.completes_after(7 * MINUTE, "quiet for 600 s", 6)


def test_two_routers_send_the_same_study_at_once(hospital: Hospital) -> None:
    images = study()
    with ExitStack() as stack:
        routers = [stack.enter_context(hospital.opens()) for _ in range(2)]
        for image in images:
            assert {router.send_c_store(with_meta(image)).Status for router in routers} == {0}
    hospital.ended("released", 2)
    hospital.completes_after(10 * MINUTE, "released for 600 s", 6)
    assert len(hospital.house.rows(schema.instance)) == 6


def test_resends_after_completion_open_nothing(hospital: Hospital) -> None:
    """Before the report and after it, whole and in part."""
    images = study()
    hospital.sends(images)
    hospital.passes(11 * MINUTE)
    assert len(hospital.revisions()) == 1
    for part in (images, images[2:4]):
        hospital.sends(part)
        hospital.passes(100 * MINUTE)
    hospital.reported()
    hospital.sends(images)
    hospital.passes(100 * MINUTE)
    assert len(hospital.revisions()) == 1


def test_late_series_of_a_reported_study_make_one_more_revision_at_the_hard_age(hospital: Hospital) -> None:
    """Two late series, half an hour apart, are graded together; what comes after that is for an operator."""
    images = study()
    hospital.sends(images)
    hospital.passes(11 * MINUTE)
    hospital.reported()
    hospital.sends(late_series(images, 1))
    hospital.passes(30 * MINUTE)
    hospital.sends(late_series(images, 2))
    hospital.passes(59 * MINUTE)
    assert len(hospital.revisions()) == 1
    hospital.passes(2 * MINUTE)
    first, second = hospital.revisions()
    assert second["complete_reason"].startswith("hard age of 5400 s reached: 7 axial T2-possible")
    hospital.reported()
    hospital.sends(late_series(images, 3))
    hospital.passes(200 * MINUTE)
    assert len(hospital.revisions()) == 2
    assert [e["study_uid"] for e in hospital.house.rows(schema.event) if e["kind"] == "late_images_not_graded"] == [
        first["study_uid"]
    ]


def test_a_late_series_before_the_report_supersedes_what_was_frozen(hospital: Hospital) -> None:
    """One report is made of both; nobody graded the first revision yet."""
    images = study()
    hospital.sends(images)
    hospital.passes(11 * MINUTE)
    hospital.sends(late_series(images, 1))
    hospital.passes(11 * MINUTE)
    assert [one["state"] for one in hospital.revisions()] == ["superseded", "due"]
    assert hospital.revisions()[1]["complete_reason"].startswith("released for 600 s: 5 axial")


def test_a_study_without_axial_images_is_given_up_at_the_hard_age(hospital: Hospital) -> None:
    hospital.sends(study()[:3])
    made = hospital.completes_after(90 * MINUTE, "hard age of 5400 s reached: 3 sagittal T2-possible", 3)
    assert made["frozen_at"] - hospital.house.row(schema.study)["opened_at"] == pytest.approx(5400, abs=3)


def test_everything_the_archive_forwards_back_for_ten_minutes_opens_nothing(hospital: Hospital) -> None:
    """CLINICAL.md 1: images, somebody's SR and key images, again and again."""
    images = study()
    hospital.sends(images)
    hospital.passes(11 * MINUTE)
    hospital.reported()
    foreign = [builders.foreign_result(images[0], "1.2.77", builders.COMPREHENSIVE_SR),
               builders.foreign_result(images[0], "1.2.78", builders.KEY_OBJECT)]  # fmt: skip
    for _ in range(10):
        hospital.sends([*images, *foreign])
        hospital.passes(MINUTE)
    hospital.passes(200 * MINUTE)
    assert len(hospital.revisions()) == 1


def released(hospital: Hospital) -> None:
    hospital.sends(study(axial=5, sagittal=5))
    hospital.passes(11 * MINUTE)


def never_released(hospital: Hospital) -> None:
    with hospital.opens() as router:
        for image in study(axial=5, sagittal=5):
            assert router.send_c_store(with_meta(image)).Status == 0
        hospital.passes(11 * MINUTE)


def too_old_to_wait(hospital: Hospital) -> None:
    for number, image in enumerate(study(axial=5, sagittal=5)):
        hospital.sends([image])
        hospital.passes((4.5 if number else 50) * MINUTE)


@pytest.mark.parametrize(
    ("habit", "reason"),
    [
        (released, "released for 600 s: 5 axial T2-possible, 5 sagittal T2-possible"),
        (never_released, "quiet for 600 s: 5 axial T2-possible, 5 sagittal T2-possible"),
        (too_old_to_wait, "hard age of 5400 s reached: "),
    ],
)
def test_the_one_report_and_the_page_say_why_the_study_was_taken_for_whole(
    habit: Callable[[Hospital], None], reason: str, hospital: Hospital, tmp_path: Path
) -> None:
    """A reader who misses a series must be able to see what made us stop waiting for it (CLINICAL.md 3)."""
    habit(hospital)
    hospital.works(f"folder:{tmp_path / 'results'}")
    (made,) = hospital.revisions()
    assert made["complete_reason"].startswith(reason)
    found = [dcmread(path) for path in (tmp_path / "results").rglob("*.dcm")]
    (report,) = [one for one in found if one.Modality == "SR"]
    assert f"complete because {made['complete_reason']}" in said(report)
    page = httpx.get(f"http://{HOST}:{hospital.house.ports.http}/studies/{made['study_uid']}", trust_env=False)
    assert f"<dd>{made['complete_reason']}</dd>" in html.unescape(page.text)


def said(report: Dataset) -> set[str]:
    """Every text in a report, at any depth."""
    return {str(element.value) for element in report.iterall() if element.keyword == "TextValue"}
