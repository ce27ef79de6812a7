"""When a study counts as complete: the rule alone, on facts made by hand (CLINICAL.md 3, 4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cauda.core.domain import Reason
from cauda.core.gaps import Gap
from cauda.core.headers import Role
from cauda.core.listings import Listing
from cauda.core.processes import Lost
from cauda.core.schema import RevisionKind
from cauda.core.settings import Completeness, Expected
from cauda.listener.completeness import Complete, Facts, Wait, decide, too_old

POLICY = Completeness(after_release_s=5, quiet_s=60, hard_age_s=600)
BOTH = {"ax": {Role.AXIAL: 60}, "sag": {Role.SAGITTAL: 18}}
FACTS = Facts(
    receiving=True, opened_at=0, input_at=10, released_at=None, corrected_at=None, forced=False, reported=False,
    late_revisions=0, series=BOTH, active=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "now", "complete"),
    [
        (FACTS, 69, False),  # quiet, but not for long enough
        (FACTS, 70, True),
        (replace(FACTS, released_at=11), 15, False),
        (replace(FACTS, released_at=11), 16, True),  # a release shortens the wait
        (replace(FACTS, released_at=9), 16, False),  # that release came before the last image
        (replace(FACTS, active=True), 500, False),  # a sender is at work
        (replace(FACTS, active=True), 600, True),  # but not for ever
        (replace(FACTS, series={"ax": {Role.AXIAL: 60}}), 599, False),  # sagittal still to come
        (replace(FACTS, series={"sag": {Role.SAGITTAL: 18}, "t1": {Role.SAGITTAL_T1: 18}}), 599, False),
        (replace(FACTS, series={"ax": {Role.AXIAL: 60}}), 600, True),
        (
            replace(FACTS, input_at=None, series={"loc": {Role.MR_OTHER: 3}}),
            599,
            False,
        ),  # "nothing gradable" only at the end
        (replace(FACTS, input_at=None, series={"loc": {Role.MR_OTHER: 3}}), 600, True),
        (replace(FACTS, forced=True, series={}), 11, True),
        (replace(FACTS, reported=True, released_at=11), 599, False),  # late images wait out the hard age
        (replace(FACTS, reported=True, released_at=11), 600, True),
        (replace(FACTS, receiving=False), 10_000, False),  # already complete
    ],
)
def test_the_rule(facts: Facts, now: float, complete: bool) -> None:
    assert isinstance(decide(facts, now, POLICY), Complete) is complete


@pytest.mark.parametrize(("reported", "kind"), [(True, RevisionKind.REISSUE), (False, RevisionKind.GRADE)])
def test_corrected_demographics_are_reissued_once_they_stop_coming(reported: bool, kind: RevisionKind) -> None:
    facts = replace(FACTS, receiving=False, corrected_at=100.0, reported=reported)
    assert isinstance(decide(facts, 104, POLICY), Wait)
    assert isinstance(decide(replace(facts, active=True), 110, POLICY), Wait)
    assert decide(facts, 105, POLICY) == Complete(reason="demographics corrected", kind=kind)


def test_the_reason_says_what_was_there() -> None:
    decision = decide(replace(FACTS, released_at=11), 20, POLICY)
    assert isinstance(decision, Complete)
    assert "60 axial T2-possible" in decision.reason
    assert "18 sagittal T2-possible" in decision.reason
    assert decision.reason.startswith("released")


SLOW = Completeness(after_release_s=600, quiet_s=600, hard_age_s=5400, agree_s=180, stale_s=300)
LISTED = replace(FACTS, input_at=100)


def listing(since: float, answered_at: float, **series: int | None) -> Listing:
    return Listing(series=series, since=since, answered_at=answered_at)


@pytest.mark.parametrize(
    ("facts", "now", "outcome"),
    [
        (replace(LISTED, listing=listing(110, 290, ax=60, sag=18)), 291, "archive lists 2 MR series, all here"),
        (replace(LISTED, listing=listing(110, 289, ax=60, sag=18)), 291, "quiet for"),  # not yet for long enough
        (replace(LISTED, listing=listing(90, 271, ax=60, sag=18)), 290, "quiet for"),  # an image came in between
        (replace(LISTED, listing=listing(110, 110, ax=60, sag=18)), 291, "quiet for"),  # said once
        (replace(LISTED, listing=listing(110, 290, ax=60, sag=18)), 591, "quiet for"),  # said too long ago
        (replace(LISTED, listing=listing(110, 290, ax=60, sag=None)), 291, "quiet for"),  # it does not say how many
        (replace(LISTED, listing=listing(110, 290, ax=60, sag=10)), 291, "quiet for"),  # it is receiving itself
        (replace(LISTED, listing=listing(110, 290, ax=60)), 291, "quiet for"),  # the same, a whole series
        (replace(LISTED, listing=listing(110, 290)), 291, "quiet for"),  # it does not know the study
        (replace(LISTED, listing=listing(110, 290, ax=60, sag=18), active=True), 291, "an association"),
        (replace(LISTED, listing=listing(110, 290, ax=60, sag=18), reported=True), 291, "late images"),
        # more there than here: waited for past the quiet time, never past the hard age
        (replace(LISTED, listing=listing(650, 700, ax=60, sag=20)), 720,
         "archive lists 2 MR series, 1 not all here: 2 images missing"),
        (replace(LISTED, listing=listing(650, 700, ax=60, sag=18, t1=None)), 720,
         "archive lists 3 MR series, 1 not all here: 1 images missing"),
        (replace(LISTED, listing=listing(650, 700, ax=60, sag=20)), 1001, "quiet for 600 s"),  # it fell silent
        (replace(LISTED, listing=listing(650, 5300, ax=60, sag=20)), 5400, "hard age of 5400 s reached"),
    ],
)  # fmt: skip
def test_what_the_archive_lists(facts: Facts, now: float, outcome: str) -> None:
    decision = decide(facts, now, SLOW)
    assert (decision.reason if isinstance(decision, Complete) else decision.why).startswith(outcome)
    completes = outcome.endswith("all here") or outcome.startswith(("quiet for 600", "hard age"))
    assert isinstance(decision, Complete) is completes


def test_what_was_missing_at_the_hard_age_is_in_the_reason() -> None:
    decision = decide(replace(LISTED, listing=listing(650, 5300, ax=60, sag=20)), 5400, SLOW)
    assert isinstance(decision, Complete)
    assert decision.reason.endswith("; archive lists 2 MR series, 1 not all here: 2 images missing")


def test_a_series_of_localizers_or_of_sr_here_need_not_be_listed() -> None:
    here = {**BOTH, "loc": {Role.MR_OTHER: 3}}
    decision = decide(replace(LISTED, series=here, listing=listing(110, 290, ax=60, sag=18)), 291, SLOW)
    assert isinstance(decision, Complete)


def test_expected_series_delay_to_the_hard_age_and_force_nothing() -> None:
    policy = SLOW.model_copy(update={"expected": Expected(sagittal_t1=1, axial=2)})
    decision = decide(replace(LISTED, listing=listing(110, 290, ax=60, sag=18)), 900, policy)
    assert decision == Wait(why="2 axial T2-possible series are expected, 1 here")
    assert isinstance(decide(LISTED, 5400, policy), Complete)
    here = {**BOTH, "ax2": {Role.AXIAL: 1}, "t1": {Role.SAGITTAL_T1: 18}}
    assert isinstance(decide(replace(LISTED, series=here), 699, policy), Wait)  # the quiet time is not shortened
    assert isinstance(decide(replace(LISTED, series=here), 700, policy), Complete)


LOST = (Lost(arrivals="a1", seen_at=20, unfiled=3),)
NO_ROOM = (Gap(reason=Reason.NO_ROOM, count=4),)


@pytest.mark.parametrize(
    ("facts", "now", "outcome"),
    [
        # silence is known up to where all that was acknowledged is filed
        (replace(FACTS, filed_until=69), 100, "quiet for 59 s of 60 s"),
        (replace(FACTS, filed_until=70), 100, "quiet for 60 s"),
        (replace(FACTS, released_at=11, filed_until=15), 100, "released for 4 s of 5 s"),
        (replace(FACTS, released_at=11, filed_until=5), 100, "released for 0 s of 5 s"),
        # time in which a listener or the ledger was away is not silence
        (replace(FACTS, watched_since=50), 109, "quiet for 59 s of 60 s"),
        (replace(FACTS, watched_since=50), 110, "quiet for 60 s"),
        (replace(FACTS, released_at=11, watched_since=50), 54, "released for 4 s of 5 s"),
        # nor is the hard age over while a living listener has something unfiled, but it does not wait for ever
        (replace(FACTS, filed_until=30, behind="3 acknowledged objects"), 601, "3 acknowledged objects"),
        (replace(FACTS, filed_until=30, behind="3 acknowledged objects"), 1200, "hard age of 600 s reached"),
        # what a dead listener had is waited for until the hard age
        (replace(FACTS, lost=LOST), 599, "a listener ended"),
        (replace(FACTS, lost=LOST), 600, "hard age of 600 s reached"),
        # a refused image is sent again, or the hard age comes; neither a release nor silence is enough
        (replace(FACTS, refused=NO_ROOM, released_at=11), 16, "4 images were refused for lack of disk space"),
        (replace(FACTS, refused=NO_ROOM, released_at=11), 599, "4 images were refused for lack of disk space"),
        (replace(FACTS, refused=NO_ROOM, released_at=11), 600, "hard age of 600 s reached"),
    ],
)
def test_what_was_acknowledged_and_is_not_filed_keeps_the_study_open(facts: Facts, now: float, outcome: str) -> None:
    decision = decide(facts, now, POLICY)
    assert (decision.reason if isinstance(decision, Complete) else decision.why).startswith(outcome)
    completes = outcome in {"quiet for 60 s", "hard age of 600 s reached"}
    assert isinstance(decision, Complete) is completes


def test_an_archives_agreement_counts_only_once_all_acknowledged_before_it_is_filed() -> None:
    facts = replace(LISTED, listing=listing(110, 290, ax=60, sag=18))
    assert isinstance(decide(replace(facts, filed_until=289), 291, SLOW), Wait)
    assert isinstance(decide(replace(facts, watched_since=111), 291, SLOW), Wait)
    assert isinstance(decide(replace(facts, filed_until=290), 291, SLOW), Complete)


@pytest.mark.parametrize("changes", [{"forced": True}, {}])
def test_a_study_completed_with_something_missing_says_what(changes: dict[str, Any]) -> None:
    facts = replace(FACTS, lost=LOST, refused=NO_ROOM, filed_until=590, behind="a listener is behind", **changes)
    decision = decide(facts, 1300, POLICY)
    assert isinstance(decision, Complete)
    assert [(gap.reason, gap.count) for gap in decision.gaps] == [
        (Reason.NO_ROOM, 4), (Reason.ARRIVALS_LOST, 3), (Reason.NOT_FILED, 0),
    ]  # fmt: skip
    if not changes:
        for words in ("4 images were refused for lack of disk space and not sent again", "cannot be read"):
            assert words in decision.reason


def test_a_whole_study_misses_nothing() -> None:
    decision = decide(replace(FACTS, filed_until=99, released_at=11), 100, POLICY)
    assert isinstance(decision, Complete)
    assert decision.gaps == ()


NOON = 1_800_000_000.0  # 2027-01-15
LIMITED = POLICY.model_copy(update={"max_study_age_days": 14})


@pytest.mark.parametrize(
    ("changes", "old"),
    [
        ({"study_date": "20270115"}, False),
        ({"study_date": "20270101"}, False),  # just fourteen days
        ({"study_date": "20261231"}, True),
        ({"study_date": "19990101"}, True),
        ({"study_date": None}, False),  # nobody can say
        ({"study_date": "20990101"}, False),
        ({"study_date": "19990101", "forced": True}, False),  # an operator asked
        ({"study_date": "19990101", "let_through": True}, False),  # or had asked before, or it was young then
    ],
)
def test_a_study_is_old_by_its_date_unless_somebody_asked(changes: dict[str, Any], old: bool) -> None:
    facts = replace(FACTS, **changes)
    assert bool(too_old(facts, NOON, LIMITED)) is old
    assert too_old(facts, NOON, POLICY) == "", "without a limit nothing is old"


times = st.none() | st.floats(0, 1000)


@given(st.floats(0, 1000), times, times, st.booleans(), st.booleans(), st.floats(0, 5000), st.floats(0, 5000))
def test_more_silence_never_reopens_a_study(
    opened: float, changed: float | None, released: float | None, active: bool, reported: bool, now: float, more: float
) -> None:
    facts = replace(
        FACTS, opened_at=opened, input_at=changed, released_at=released, active=active, reported=reported
    )  # fmt: skip
    if isinstance(decide(facts, now, POLICY), Complete):
        assert isinstance(decide(facts, now + more, POLICY), Complete)
