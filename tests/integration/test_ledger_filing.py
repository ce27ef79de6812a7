"""A study waits for what listeners acknowledged and have not filed: of living ones, of dead ones, on two databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ledgers import FINGERPRINT, House
from sqlalchemy import select

from cauda.core import gaps, intake, processes, schema
from cauda.core.domain import Reason
from cauda.core.headers import Role
from cauda.core.processes import Backlog, Own
from cauda.core.schema import StudyState
from cauda.core.settings import Completeness
from cauda.listener import completeness

pytestmark = pytest.mark.peers

POLICY = Completeness(after_release_s=5, quiet_s=60, hard_age_s=600)
NOTHING: Callable[[], Backlog] = lambda: Backlog(arrivals="mine")  # noqa: E731  a default of a parameter


def beat(house: House, token: str, *, unfiled: int = 0, age_s: float = 0.0) -> None:
    """A listener says that it is there, and what it has not filed."""
    with house.ledger.write() as conn:
        processes.seen(house.ledger, conn, token=token, role="listener", slots=0,
                       backlog=lambda: Backlog(arrivals=f"of-{token}", count=unfiled, age_s=age_s))  # fmt: skip


def receive(house: House, uid: str = "1.1", association: str | None = None) -> None:
    """An axial and a sagittal image."""
    for number, role in enumerate((Role.AXIAL, Role.SAGITTAL)):
        house.arrive(uid, f"{uid}.1.{number}", role=role, association=association)


def tick(house: House, backlog: Callable[[], Backlog] = NOTHING) -> list[str]:
    return completeness.tick(house.ledger, POLICY, FINGERPRINT, Own(token="me", backlog=backlog))


def pass_with(house: House, seconds: float, *tokens: str) -> None:
    """Time in which these listeners go on saying that they are there."""
    while seconds > 0:
        step = min(5.0, seconds)
        house.time.passes(step)
        for token in tokens:
            beat(house, token)
        seconds -= step


def waits(house: House, uid: str = "1.1") -> str:
    with house.ledger.read() as conn:
        return completeness.waits_for(house.ledger, conn, [uid], POLICY)[uid]


def test_another_listeners_unfiled_image_keeps_every_study_open(house: House) -> None:
    for token in ("me", "other"):
        beat(house, token)
    receive(house)
    pass_with(house, 55, "me", "other")
    house.time.passes(5)
    beat(house, "me")
    beat(house, "other", unfiled=3, age_s=30)
    assert tick(house) == []
    assert waits(house) == "3 acknowledged objects are not filed yet, the oldest for 30 s"
    beat(house, "other", unfiled=1, age_s=4)  # all that it acknowledged before 56 s is filed
    assert tick(house) == []
    beat(house, "other")
    assert tick(house) == ["1.1"]


def test_a_listener_knows_its_own_backlog_better_than_the_ledger(house: House) -> None:
    beat(house, "me")
    receive(house)
    pass_with(house, 60, "me")
    assert tick(house, backlog=lambda: Backlog(arrivals="mine", count=1, age_s=1)) == []
    assert tick(house) == ["1.1"]


def test_for_what_a_listener_compares_it_waits_with_that_study_and_others_with_all(house: House) -> None:
    """It knows of what study an image is; another listener knows only that there is one."""
    beat(house, "me")
    for uid in ("1.1", "1.2"):
        receive(house, uid)
    pass_with(house, 60, "me")
    own = Backlog(arrivals="of-me", compared={"1.2": 30.0}, compared_count=1)
    assert tick(house, backlog=lambda: own) == ["1.1"]
    with house.ledger.write() as conn:
        processes.seen(house.ledger, conn, token="me", role="listener", slots=0, backlog=lambda: own)
    assert completeness.tick(house.ledger, POLICY, FINGERPRINT) == []
    assert waits(house, "1.2") == "1 acknowledged objects are not filed yet, the oldest for 30 s"
    assert tick(house) == ["1.2"]


def test_a_listener_that_reaches_the_ledger_no_more_keeps_studies_open(house: House) -> None:
    for token in ("me", "other"):
        beat(house, token)
    receive(house)
    pass_with(house, 40, "me", "other")
    pass_with(house, 40, "me")
    assert tick(house) == []
    assert waits(house) == "a listener has not reached the ledger for 40 s"
    beat(house, "other")  # it was away for longer than a few heartbeats: that was no silence
    assert tick(house) == []
    pass_with(house, 55, "me", "other")
    assert tick(house) == []
    pass_with(house, 5, "me", "other")
    assert tick(house) == ["1.1"]


def test_time_in_which_the_ledger_was_away_is_not_silence(house: House) -> None:
    beat(house, "me")
    receive(house)
    pass_with(house, 20, "me")
    house.time.passes(45)  # nobody could write
    beat(house, "me")
    assert tick(house) == []
    pass_with(house, 55, "me")
    assert tick(house) == []
    pass_with(house, 5, "me")
    assert tick(house) == ["1.1"]


def test_after_a_ledger_was_away_nobody_is_given_up_before_it_could_say_that_it_lives(house: House) -> None:
    with house.ledger.write() as conn:
        intake.opened(house.ledger, conn, association_id="a", listener="other", calling_aet="MR", called_aet="CAUDA",
                      address="h")  # fmt: skip
    for token in ("me", "other"):
        beat(house, token)
    receive(house, association="a")
    house.time.passes(1000)
    beat(house, "me")
    with house.ledger.write() as conn:
        assert processes.dead(house.ledger, conn, "listener") == []
    assert tick(house) == [], "not even by the hard age"
    pass_with(house, processes.GRACE_S, "me")
    with house.ledger.write() as conn:
        assert processes.dead(house.ledger, conn, "listener") == ["other"]


def test_what_a_dead_listener_had_is_waited_for_until_it_is_adopted(house: House) -> None:
    for token in ("me", "other"):
        beat(house, token)
    receive(house)
    pass_with(house, 100, "me")  # the other is silent for more than a minute
    with house.ledger.write() as conn:
        processes.forget_dead(house.ledger, conn)
    assert tick(house) == []
    assert waits(house).startswith("a listener ended")
    with house.ledger.write() as conn:
        processes.adopted(conn, "of-other")
    assert tick(house) == ["1.1"]


def test_what_a_dead_listener_had_and_nobody_can_read_makes_a_partial_study_at_the_hard_age(house: House) -> None:
    for token in ("me", "other"):
        beat(house, token)
    receive(house)
    beat(house, "other", unfiled=4, age_s=1)
    pass_with(house, 595, "me")
    assert tick(house) == []
    pass_with(house, 5, "me")
    assert tick(house) == ["1.1"]
    (revision,) = house.rows(schema.revision)
    assert revision.gaps == [{"reason": "arrivals_lost", "count": 4}]
    assert revision.complete_reason.startswith("hard age of 600 s reached")
    assert house.must_claim().gaps == (gaps.Gap(reason=Reason.ARRIVALS_LOST, count=4),)


def test_a_study_that_began_long_after_a_listener_died_does_not_wait_for_it(house: House) -> None:
    for token in ("me", "other"):
        beat(house, token)
    pass_with(house, 700, "me")
    receive(house)
    pass_with(house, 60, "me")
    assert tick(house) == ["1.1"]


def test_a_listener_that_left_in_order_keeps_nobody_waiting(house: House) -> None:
    for token in ("me", "other"):
        beat(house, token)
    receive(house)
    with house.ledger.write() as conn:
        processes.gone(conn, "other")
    pass_with(house, 60, "me")
    assert tick(house) == ["1.1"]


def refuse(house: House, sop_uid: str, *, study: str | None = "1.1", association: str = "a",
           reason: Reason = Reason.NO_ROOM) -> None:  # fmt: skip
    """An MR image was refused for a passing reason."""
    with house.ledger.write() as conn:
        gaps.refused(house.ledger, conn, sop_uid=sop_uid, study_uid=study, association_id=association, reason=reason)


def release(house: House, association: str = "a") -> None:
    """The association was opened and is released."""
    with house.ledger.write() as conn:
        intake.opened(house.ledger, conn, association_id=association, listener="me", calling_aet="MR",
                      called_aet="CAUDA", address="h")  # fmt: skip
        intake.ended(house.ledger, conn, association, "released")


@pytest.mark.parametrize("study", ["1.1", None])
def test_images_refused_for_a_passing_reason_keep_their_study_open_until_they_come(
    house: House, study: str | None
) -> None:
    """Also where the refusal came before the study was known: then it is one that the association brought images of."""
    beat(house, "me")
    receive(house, "1.1", association="a")
    receive(house, "1.2", association="b")
    refuse(house, "1.1.1.8", study=study)
    refuse(house, "1.1.1.8", study=study)  # tried twice
    refuse(house, "1.1.1.9", study=study)
    release(house)
    pass_with(house, 60, "me")
    assert tick(house) == ["1.2"]
    assert waits(house) == "2 images were refused for lack of disk space and not sent again yet"
    for number in (8, 9):
        house.arrive("1.1", f"1.1.1.{number}", role=Role.AXIAL, association="c")
    release(house, "c")
    pass_with(house, 5, "me")
    assert tick(house) == ["1.1"]
    assert [row.gaps for row in house.rows(schema.revision, study_uid="1.1")] == [None]
    if study:
        assert house.rows(schema.refused_object) == [], "what came is forgotten"


def test_refused_images_that_never_came_are_counted_in_the_study_also_when_it_is_graded_again(house: House) -> None:
    beat(house, "me")
    receive(house, association="a")
    refuse(house, "1.1.1.8")
    refuse(house, "1.1.1.9", reason=Reason.BUG)
    release(house)
    pass_with(house, 600, "me")
    assert tick(house) == ["1.1"]
    claim = house.must_claim()
    assert [(gap.reason, gap.count) for gap in claim.gaps] == [(Reason.BUG, 1), (Reason.NO_ROOM, 1)]
    house.arrive("1.1", "1.1.1.9", role=Role.INERT)
    key = house.complete()
    with house.ledger.read() as conn:
        row = conn.execute(select(schema.revision).where(schema.revision.c.id == key)).one()
    assert row.gaps == [{"reason": "no_room", "count": 1}]
    assert house.study().state == StudyState.COMPLETE


@pytest.mark.parametrize("how", ["aborted", "lost"])
def test_an_association_that_has_ended_holds_no_study_open(house: House, how: str) -> None:
    """It brought images a moment ago and was not released; a later one was."""
    beat(house, "me")
    with house.ledger.write() as conn:
        intake.opened(house.ledger, conn, association_id="cut", listener="me", calling_aet="MR", called_aet="CAUDA",
                      address="h")  # fmt: skip
    receive(house, association="cut")
    assert waits(house) == "an association that brought images is open"
    with house.ledger.write() as conn:
        intake.ended(house.ledger, conn, "cut", how)
    assert waits(house).startswith("quiet for 0 s")
    house.arrive("1.1", "1.1.1.9", role=Role.AXIAL, association="whole")
    release(house, "whole")
    pass_with(house, 5, "me")
    assert tick(house) == ["1.1"]


def test_the_completion_says_up_to_when_all_that_was_acknowledged_is_in_it(house: House) -> None:
    for token in ("me", "other"):
        beat(house, token)
    receive(house)
    pass_with(house, 65, "me", "other")
    beat(house, "other", unfiled=1, age_s=3)
    assert tick(house) == ["1.1"]
    assert house.study().complete_at == house.time.now - 3
    (due,) = house.events("revision_due")
    assert due.detail["known_at"] == house.time.now - 3
