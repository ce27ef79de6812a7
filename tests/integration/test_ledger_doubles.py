"""Two studies with the same images: the later is held, the original goes on, and somebody decides (CLINICAL.md 4)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from builders import mr_image
from ledgers import House, sha
from pydicom import Dataset

from cauda.core import deliveries, doubles, headers, intake, schema
from cauda.core.domain import Reason
from cauda.core.intake import Filed, Outcome
from cauda.core.schema import DeliveryState, RevisionKind, RevisionState

pytestmark = pytest.mark.peers

CLINICAL: dict[str, Any] = {"PatientID": "P7"}
EXPORT: dict[str, Any] = {"PatientID": "TRIAL-001", "PatientName": "TRIAL-001"}
ANONYMOUS = EXPORT | {"PatientIdentityRemoved": "YES"}
ORIGINAL, COPY = "1.1", "1.2"


def file(house: House, study: str, number: int, stated: dict[str, Any] | None = None) -> Outcome:
    """File image ``number``, which has the same SOP Instance UID in whatever study."""
    stated = stated or (CLINICAL if study == ORIGINAL else EXPORT)
    header = headers.of(mr_image(study, f"{study}.1", f"5.5.{number}", **stated))
    content = sha(f"{study} {number}")
    filed = Filed(header=header, path=content, version=1, sha256=content, dataset_sha256=content, bytes=1,
                  association_id=None, source="MR")  # fmt: skip
    with house.ledger.write() as conn:
        return intake.file_instance(house.ledger, conn, filed)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def held(house: House) -> dict[str, str | None]:
    return {row.uid: row.hold for row in house.rows(schema.study)}


def receiving(house: House) -> None:
    """Nothing yet."""


def graded(house: House) -> None:
    house.complete(ORIGINAL)
    assert house.report(house.must_claim())


def delivered(house: House) -> None:
    graded(house)
    while (claim := house.take()) is not None:
        assert deliveries.accepted(house.ledger, claim, words="", confirm_in_s=60)


@pytest.mark.parametrize("state", [receiving, graded, delivered])
def test_a_copy_under_another_study_is_held_and_the_original_goes_on(
    house: House, state: Callable[[House], None]
) -> None:
    for number in range(3):
        file(house, ORIGINAL, number)
    state(house)
    before = house.study(ORIGINAL)
    assert [file(house, COPY, number) for number in range(3)] == [Outcome.MOVED] * 3
    assert house.study(ORIGINAL) == before
    copy = house.study(COPY)
    assert copy.hold == Reason.KNOWN_ELSEWHERE
    assert ORIGINAL in copy.hold_text
    assert not any(row.state == DeliveryState.CANCELLED for row in house.rows(schema.delivery))
    assert [event.study_uid for event in house.events("study_held")] == [COPY]


@pytest.mark.parametrize("seed", range(6))
def test_exactly_one_of_two_studies_that_arrive_at_the_same_time_is_held(house: House, seed: int) -> None:
    """Which images come first in which study decides who; never both, and never neither."""
    arrivals = [(study, number) for study in (ORIGINAL, COPY) for number in range(5)]
    random.Random(seed).shuffle(arrivals)
    for study, number in arrivals:
        file(house, study, number)
    assert sorted(held(house).values(), key=str) == [None, Reason.KNOWN_ELSEWHERE]


@pytest.mark.parametrize("state", [receiving, lambda house: house.complete(COPY)], ids=["receiving", "complete"])
def test_a_copy_that_overtakes_its_original_is_held(house: House, state: Callable[[House], None]) -> None:
    """A router sends both over several associations: an image of the copy may come before the original's."""
    file(house, ORIGINAL, 1)
    house.time.passes(1)
    for number in (5, 6):
        file(house, COPY, number)
    state(house)
    for number in (5, 6):
        file(house, ORIGINAL, number)
    file(house, COPY, 1)
    assert held(house) == {ORIGINAL: None, COPY: Reason.KNOWN_ELSEWHERE}
    assert house.study(COPY).hold_text.startswith(f"study {ORIGINAL} has the same images")


def test_a_study_that_was_complete_takes_no_image_of_a_later_one(house: House) -> None:
    """Images of one patient that come again under another's older study: that waits, whoever was opened first."""
    file(house, ORIGINAL, 1)
    house.complete(ORIGINAL)
    house.time.passes(1)
    file(house, COPY, 5)
    file(house, ORIGINAL, 5)
    assert held(house) == {ORIGINAL: Reason.KNOWN_ELSEWHERE, COPY: None}


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_whose_patient_was_removed_never_holds_the_clinical_study(house: House, seed: int) -> None:
    """Whichever came first, and in whatever order their images come."""
    arrivals = [(study, number) for study in (ORIGINAL, COPY) for number in range(4)]
    random.Random(seed).shuffle(arrivals)
    for study, number in [(COPY, 9), *arrivals, (ORIGINAL, 9)]:
        file(house, study, number, ANONYMOUS if study == COPY else CLINICAL)
    assert held(house) == {ORIGINAL: None, COPY: Reason.KNOWN_ELSEWHERE}


@pytest.mark.parametrize(
    "said",
    [
        {"PatientIdentityRemoved": "YES"},
        {"DeidentificationMethod": "BASIC PROFILE"},
        {"DeidentificationMethodCodeSequence": [code("113100", "DCM", "Basic Profile")]},
        {"LongitudinalTemporalInformationModified": "MODIFIED"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_who_states_how_it_was_deidentified_is_the_copy(house: House, said: dict[str, Any]) -> None:
    """Also where its maker left out the word that its patient's identity was removed; page and command say so."""
    file(house, COPY, 0, EXPORT | said)
    file(house, ORIGINAL, 0)
    assert held(house) == {ORIGINAL: None, COPY: Reason.KNOWN_ELSEWHERE}
    assert house.study(COPY).hold_text == (
        f"has images of study {ORIGINAL}, and states that its patient's identity was removed: a copy"
    )


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"PatientIdentityRemoved": "NO"},
        {"PatientIdentityRemoved": "NO", "DeidentificationMethod": "NONE"},
        {"DeidentificationMethod": ""},
        {"DeidentificationMethodCodeSequence": []},
        {"LongitudinalTemporalInformationModified": "UNMODIFIED"},
    ],
    ids=str,
)
def test_where_nothing_tells_which_is_the_original_the_later_waits_and_says_so(
    house: House, said: dict[str, Any]
) -> None:
    """The source, where it has the images under the later study alone, lets that go on and takes the other back."""
    file(house, COPY, 0, EXPORT | said)
    file(house, ORIGINAL, 0)
    assert held(house) == {ORIGINAL: Reason.KNOWN_ELSEWHERE, COPY: None}
    assert house.study(ORIGINAL).hold_text == (
        f"study {COPY} has the same images; nothing says which of the two is the original"
    )
    with house.ledger.write() as conn:
        assert doubles.decided(house.ledger, conn, ORIGINAL, {ORIGINAL})
    assert held(house) == {ORIGINAL: None, COPY: Reason.MOVED}


@pytest.mark.parametrize("state", [receiving, graded, delivered])
def test_where_an_operator_says_that_it_was_moved_the_old_results_are_withdrawn(
    house: House, state: Callable[[House], None]
) -> None:
    for number in range(3):
        file(house, ORIGINAL, number)
    state(house)
    file(house, COPY, 0)
    with house.ledger.write() as conn:
        released = doubles.release(house.ledger, conn, COPY)
    assert released is not None
    assert released.withdrawn == (ORIGINAL,)
    assert held(house) == {ORIGINAL: Reason.MOVED, COPY: None}
    assert COPY in house.study(ORIGINAL).hold_text
    revisions = [(row.kind, row.state) for row in house.rows(schema.revision, study_uid=ORIGINAL)]
    if state is receiving:
        assert revisions == []
    else:
        assert revisions[0] == (RevisionKind.GRADE, RevisionState.RETRACTED)
    assert (RevisionKind.RETRACT, RevisionState.DUE) in revisions or state is not delivered
    assert all(row.state in {DeliveryState.ACCEPTED, DeliveryState.CANCELLED} for row in house.rows(schema.delivery))
    assert house.claim() is None or state is delivered  # the note is made although the study is held
    file(house, COPY, 1)
    file(house, ORIGINAL, 7)
    assert held(house) == {ORIGINAL: Reason.MOVED, COPY: None}


def test_where_an_operator_says_that_it_is_a_copy_both_go_on(house: House) -> None:
    """Also when more images that both have arrive, in either."""
    for number in range(2):
        file(house, ORIGINAL, number)
    graded(house)
    file(house, COPY, 0)
    with house.ledger.write() as conn:
        assert doubles.release(house.ledger, conn, COPY, double="copy") is not None
    file(house, COPY, 1)
    file(house, COPY, 8)
    file(house, ORIGINAL, 8)
    assert held(house) == {ORIGINAL: None, COPY: None}
    assert [row.state for row in house.rows(schema.revision)] == [RevisionState.REPORTED]


def test_what_is_anonymous_was_never_moved_to(house: House) -> None:
    file(house, ORIGINAL, 0)
    graded(house)
    file(house, COPY, 0, ANONYMOUS)
    with house.ledger.write() as conn:
        released = doubles.release(house.ledger, conn, COPY)
    assert released is not None
    assert released.withdrawn == ()
    assert held(house) == {ORIGINAL: None, COPY: None}


def test_nothing_is_released_while_nobody_says_what_it_is(house: House) -> None:
    file(house, ORIGINAL, 0)
    file(house, COPY, 0)
    with house.ledger.write() as conn:
        assert doubles.release(house.ledger, conn, COPY, double=None) is None
    assert held(house)[COPY] == Reason.KNOWN_ELSEWHERE


def test_a_copy_that_names_two_patients_is_held_as_a_copy_when_they_agree(house: House) -> None:
    """The hold that images lift by themselves gives way to the one that somebody has to decide."""
    file(house, ORIGINAL, 0)
    file(house, COPY, 5)
    file(house, COPY, 6, {"PatientID": "ANOTHER"})
    assert held(house)[COPY] == Reason.IDENTITY_MIXED
    file(house, COPY, 0)
    assert held(house) == {ORIGINAL: None, COPY: Reason.KNOWN_ELSEWHERE}


@pytest.mark.parametrize(
    ("holders", "moved"),
    [({COPY}, True), ({ORIGINAL}, False), ({ORIGINAL, COPY}, False), (set(), False), ({"9.9"}, False)],
)
def test_the_source_moves_images_only_where_it_has_them_under_the_new_study_alone(
    house: House, holders: set[str], moved: bool
) -> None:
    for number in range(2):
        file(house, ORIGINAL, number)
    delivered(house)
    file(house, COPY, 0)
    with house.ledger.write() as conn:
        assert doubles.decided(house.ledger, conn, COPY, holders) is moved
    expected = {ORIGINAL: Reason.MOVED, COPY: None} if moved else {ORIGINAL: None, COPY: Reason.KNOWN_ELSEWHERE}
    assert held(house) == expected
    kinds = [row.kind for row in house.rows(schema.revision)]
    assert (RevisionKind.RETRACT in kinds) is moved


def test_the_source_decides_nothing_of_a_study_that_is_held_for_something_else(house: House) -> None:
    file(house, ORIGINAL, 0)
    house.hold(ORIGINAL)
    with house.ledger.write() as conn:
        assert not doubles.decided(house.ledger, conn, ORIGINAL, {ORIGINAL})
    assert held(house)[ORIGINAL] == Reason.OPERATOR
