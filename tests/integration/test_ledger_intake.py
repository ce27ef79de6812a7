"""What an arriving image does to its study (CLINICAL.md 1, 3, 4)."""

from __future__ import annotations

import pytest
from ledgers import FINGERPRINT, House

from cauda.core import intake, revisions, schema
from cauda.core.domain import Reason
from cauda.core.headers import Role
from cauda.core.intake import Outcome
from cauda.core.schema import StudyState

pytestmark = pytest.mark.peers


def completed(house: House) -> None:
    """A study that was graded and reported."""
    house.reported()
    assert house.study().state == StudyState.COMPLETE


def test_a_resend_changes_nothing(house: House) -> None:
    completed(house)
    before = house.study()
    house.time.passes(100)
    for i in range(2):
        assert house.arrive(sop=f"1.1.1.{i}") is Outcome.DUPLICATE
    assert house.study() == before
    assert len(house.rows(schema.instance)) == 2


@pytest.mark.parametrize("role", [Role.INERT, Role.MR_OTHER])
@pytest.mark.parametrize("ours", [False, True])
def test_what_cannot_be_graded_is_kept_and_inert(house: House, role: Role, ours: bool) -> None:
    """SR, SC, KO of others, and ours, in a study that is complete and in one that is not."""
    completed(house)
    before = house.study()
    house.time.passes(100)
    assert house.arrive(sop="9.9", role=role, ours=ours) is Outcome.NEW
    assert house.study() == before
    assert len(house.rows(schema.instance)) == 3
    house.arrive("1.2", "9.1", role=role)
    assert house.study("1.2").input_at is None


def test_our_own_object_is_never_input_whoever_sends_it(house: House) -> None:
    """A copy of ours that claims to be an axial image."""
    completed(house)
    before = house.study()
    house.arrive(sop="9.9", role=Role.AXIAL, ours=True)
    assert house.study() == before


def test_a_new_image_opens_a_complete_study_again(house: House) -> None:
    completed(house)
    house.time.passes(100)
    assert house.arrive(sop="1.1.1.7") is Outcome.NEW
    study = house.study()
    assert (study.state, study.input_at, study.opened_at) == (StudyState.RECEIVING, house.time.now, house.time.now)


def test_the_hard_age_counts_from_the_first_image_that_can_be_graded(house: House) -> None:
    house.arrive(sop="1.1.9", role=Role.INERT)
    house.time.passes(3600)
    house.arrive(sop="1.1.1.1")
    assert house.study().opened_at == house.time.now
    house.time.passes(60)
    house.arrive(sop="1.1.1.2")
    assert house.study().opened_at == house.time.now - 60


def test_other_demographics_with_the_same_picture_are_a_correction(house: House) -> None:
    """One event a study, no new grading, the new header current."""
    completed(house)
    for i in range(2):
        outcome = house.arrive(sop=f"1.1.1.{i}", demographics="corrected", same_picture=True)
        assert outcome is Outcome.CORRECTION
    study = house.study()
    assert (study.state, study.hold, study.corrected_at) == (StudyState.COMPLETE, None, house.time.now)
    assert len(house.events("demographics_corrected")) == 1
    assert [(r.version, r.current) for r in house.rows(schema.instance, sop_uid="1.1.1.0")] == [(1, False), (2, True)]


def test_another_private_tag_with_the_same_picture_is_a_variant_and_inert(house: House) -> None:
    completed(house)
    before = house.study()
    house.time.passes(9)
    assert house.arrive(sop="1.1.1.0", content="router's tag", same_picture=True) is Outcome.VARIANT
    assert house.study() == before


def test_other_pixels_under_the_same_uid_hold_the_study(house: House) -> None:
    completed(house)
    assert house.arrive(sop="1.1.1.0", content="other pixels", same_picture=False) is Outcome.PIXELS_CHANGED
    assert house.study().hold == Reason.PIXELS_CHANGED
    assert [(r.version, r.current) for r in house.rows(schema.instance, sop_uid="1.1.1.0")] == [(1, True), (2, False)]


def test_what_was_compared_with_a_version_that_is_no_longer_current_is_compared_again(house: House) -> None:
    """Another thread or listener entered one meanwhile: the same as the first may be other than that."""
    completed(house)
    house.arrive(sop="1.1.1.0", content="mended", same_picture=True)
    for compared in (None, 1, 3):
        with pytest.raises(intake.Outdated):
            house.arrive(sop="1.1.1.0", content="late", same_picture=True, compared=compared)
    assert [(r.version, r.current) for r in house.rows(schema.instance, sop_uid="1.1.1.0")] == [(1, False), (2, True)]


def test_images_of_two_patients_hold_the_study_until_they_agree(house: House) -> None:
    """A correction that arrives image by image mixes identities for a while."""
    house.arrive(sop="1.1.1.0")
    house.arrive(sop="1.1.1.1")
    house.arrive(sop="1.1.1.0", identity="other", same_picture=True)
    assert house.study().hold == Reason.IDENTITY_MIXED
    house.arrive(sop="1.1.1.1", identity="other", same_picture=True)
    assert house.study().hold is None


def test_an_operators_hold_is_not_released_by_what_arrives(house: House) -> None:
    house.arrive()
    house.hold()
    house.arrive(sop="1.1.1.2")
    assert house.study().hold == Reason.OPERATOR


def test_a_new_image_of_a_purged_study_holds_it_and_a_known_one_does_not(house: House) -> None:
    completed(house)
    house.change(schema.study, {"uid": "1.1"}, state=StudyState.PURGED)
    assert house.arrive(sop="1.1.1.0") is Outcome.DUPLICATE
    assert house.study().hold is None
    house.arrive(sop="1.1.1.7")
    assert (house.study().state, house.study().hold) == (StudyState.PURGED, Reason.IMAGES_PURGED)
    with house.ledger.write() as conn:
        assert revisions.freeze(house.ledger, conn, "1.1", reason="x", fingerprint=FINGERPRINT) is None


@pytest.mark.parametrize(("how", "done"), [("released", True), ("aborted", False), ("lost", False)])
def test_only_a_release_says_that_a_sender_was_done(house: House, how: str, done: bool) -> None:
    """Abort is not release; the first end counts; and only for the studies it brought images of."""
    with house.ledger.write() as conn:
        intake.opened(house.ledger, conn, association_id="a", listener="l1", calling_aet="MR", called_aet="CAUDA",
                      address="10.0.0.1")  # fmt: skip
    house.arrive("1.1", association="a")
    house.arrive("1.2", "1.2.9", association="a", role=Role.INERT)
    with house.ledger.write() as conn:
        intake.ended(house.ledger, conn, "a", how)
        intake.ended(house.ledger, conn, "a", "released")
    assert [r.ended_how for r in house.rows(schema.association)] == [how]
    assert (house.study("1.1").released_at is not None) is done
    assert house.study("1.2").released_at is None


def test_associations_of_a_dead_listener_are_ended_as_lost(house: House) -> None:
    with house.ledger.write() as conn:
        for name, listener in (("a", "dead"), ("b", "alive")):
            intake.opened(house.ledger, conn, association_id=name, listener=listener, calling_aet="MR",
                          called_aet="CAUDA", address="10.0.0.1")  # fmt: skip
        intake.lose_dead(house.ledger, conn, ["dead"])
    assert {r.id: r.ended_how for r in house.rows(schema.association)} == {"a": "lost", "b": None}
