"""When a study counts as complete: the rule alone, on facts made by hand (CLINICAL.md 3, 4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cauda.core.headers import Role
from cauda.core.schema import RevisionKind
from cauda.core.settings import Completeness
from cauda.listener.completeness import Complete, Facts, Wait, decide

POLICY = Completeness(after_release_s=5, quiet_s=60, hard_age_s=600)
BOTH = {Role.AXIAL: 60, Role.SAGITTAL: 18}
FACTS = Facts(
    receiving=True, opened_at=0, input_at=10, released_at=None, corrected_at=None, forced=False, reported=False,
    late_revisions=0, counts=BOTH, active=False,
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
        (replace(FACTS, counts={Role.AXIAL: 60}), 599, False),  # sagittal still to come
        (replace(FACTS, counts={Role.SAGITTAL: 18, Role.SAGITTAL_T1: 18}), 599, False),
        (replace(FACTS, counts={Role.AXIAL: 60}), 600, True),
        (replace(FACTS, input_at=None, counts={Role.MR_OTHER: 3}), 599, False),  # "nothing gradable" only at the end
        (replace(FACTS, input_at=None, counts={Role.MR_OTHER: 3}), 600, True),
        (replace(FACTS, forced=True, counts={}), 11, True),
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
