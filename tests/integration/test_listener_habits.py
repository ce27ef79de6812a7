"""Scanners and routers as they are: real associations into a real listener, hours on the ledger's clock in seconds.

The policy is the server's own: 10 minutes after the last release, 10 minutes of quiet, 90 minutes at the latest.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import builders
import pytest
from ledgers import Time
from listener_house import House, association, listener, store, with_meta
from peers import until
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import RowMapping, update

from cauda.core import ledger, schema
from cauda.core.schema import StudyState
from cauda.listener import completeness, serve

pytestmark = pytest.mark.peers

MINUTE = 60.0
_STEP_S = 45.0  # shorter than a listener may be silent before it and its associations are taken for dead
_IDLE_STEP_S = 300.0  # while nothing is open
CONTEXTS = [(builders.MR_IMAGE, ExplicitVRLittleEndian)]


@dataclass(kw_only=True)
class Hospital:
    """A listener whose ledger's clock stands still until the test lets it go on."""

    house: House
    time: Time
    ticks: list[int] = field(default_factory=list)

    def settle(self) -> None:
        """Everything landed is filed, and the completeness rule has looked at it since."""
        self.house.until_filed()
        seen = len(self.ticks)
        until(lambda: len(self.ticks) >= seen + 2, what="two ticks")

    def passes(self, seconds: float) -> None:
        """Let time go by; the listener ticks all the while."""
        self.settle()
        while seconds > 0:
            at_work = any(one["ended_at"] is None for one in self.house.rows(schema.association))
            step = min(seconds, _STEP_S if at_work else _IDLE_STEP_S)
            self.time.passes(step)
            seconds -= step
            self.settle()

    def ended(self, how: str, count: int = 1) -> None:
        """Wait until so many associations are known to have ended so."""
        until(
            lambda: len([a for a in self.house.rows(schema.association) if a["ended_how"] == how]) >= count,
            what=f"{count} associations {how}",
        )

    def sends(self, images: Sequence[Dataset]) -> None:
        """One association with these images, released."""
        before = len([a for a in self.house.rows(schema.association) if a["ended_how"] == "released"])
        assert {status.Status for status in store(self.house.ports.dimse, images)} == {0}
        self.ended("released", before + 1)

    def opens(self) -> Any:
        """An association that stays open until the block ends."""
        return association(self.house.ports.dimse, CONTEXTS)

    def revisions(self) -> Sequence[RowMapping]:
        """What was frozen so far."""
        return self.house.rows(schema.revision)

    def completes_after(self, seconds: float, reason: str, images: int) -> RowMapping:
        """Nothing was frozen yet; one revision is once this time is over and not before; and never another."""
        assert not self.revisions()
        self.passes(seconds - 2)
        assert not self.revisions()
        self.passes(4)
        (made,) = self.revisions()
        assert made["complete_reason"].startswith(reason)
        assert len(self.house.rows(schema.revision_input)) == images
        (study,) = self.house.rows(schema.study)
        assert (study["state"], study["complete_reason"]) == (StudyState.COMPLETE, made["complete_reason"])
        self.passes(100 * MINUTE)
        assert len(self.revisions()) == 1
        return made

    def reported(self) -> None:
        """As a worker leaves it."""
        with self.house.book.write() as conn:
            conn.execute(update(schema.revision).values(state="reported"))


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    time, ticks = Time(), [0]
    tick = completeness.tick

    def counted(*args: Any, **kwargs: Any) -> list[str]:
        done = tick(*args, **kwargs)
        ticks.append(len(ticks))
        return done

    opened = functools.partial(ledger.open_ledger, clock=ledger.fixed_clock(time.read))
    monkeypatch.setattr(ledger, "open_ledger", opened)
    monkeypatch.setattr(completeness, "tick", counted)
    monkeypatch.setattr(serve, "_TICK_S", 0.01)
    monkeypatch.setattr(serve, "_SEEN_EVERY_S", 0.0)
    server = {"after_release_s": 600, "quiet_s": 600, "hard_age_s": 5400}
    with listener(tmp_path / "data", completeness=server) as house:
        yield Hospital(house=house, time=time, ticks=ticks)


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
