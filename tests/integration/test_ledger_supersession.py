"""What the results of a revision replace, at which destination, and when that is rejected (CLINICAL.md 23)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from ledgers import BACKOFF, LEASE_S, PACS, House, sha

from cauda.core import deliveries, intake, resending, retractions, schema, views
from cauda.core.claims import Addressee
from cauda.core.domain import Reason
from cauda.core.retractions import Why
from cauda.core.revisions import Made
from cauda.core.schema import ResultKind, RevisionState

B = Addressee(name="dimse://B@b:104")
BOTH = (PACS.name, B.name)


class Notes:
    """Makes notes, and remembers what each rejects."""

    def __init__(self) -> None:
        self.rejected: list[list[str]] = []

    def __call__(self, replaced: Sequence[Made]) -> Made:
        """A note for these."""
        self.rejected.append([one.sop_uid for one in replaced])
        uid = f"2.25.777.{len(self.rejected)}"
        return Made(kind=ResultKind.REPLACES, sop_class_uid="1.3", sop_uid=uid, series_uid=f"{uid}.1",
                    path=f"outbox/{uid}", sha256=sha(uid))  # fmt: skip


@pytest.fixture
def notes() -> Notes:
    return Notes()


def revise(house: House, notes: Notes, addressees: Sequence[Addressee] = (PACS,)) -> int:
    """A new revision whose results are written down; returns its key."""
    house.complete()
    claim = house.must_claim()
    assert house.report(claim, addressees, note=notes)
    return claim.id


def deliver(house: House, known: Sequence[str] = (PACS.name,)) -> list[str]:
    """Send whatever can go; returns the kinds in their order."""
    gone = []
    while (claim := house.take(known=known)) is not None:
        assert deliveries.accepted(house.ledger, claim)
        gone.append(str(claim.kind))
    return gone


def of(revision: int) -> list[str]:
    return [f"2.25.{revision}.0", f"2.25.{revision}.1"]


def test_what_was_sent_is_rejected_after_the_new_results_are_there(house: House, notes: Notes) -> None:
    house.reported()
    deliver(house)
    revise(house, notes)
    assert notes.rejected == [of(1)]
    assert deliver(house) == ["sr", "sc", "replaces"]


def test_what_was_never_sent_is_not_rejected(house: House, notes: Notes) -> None:
    house.reported()
    revise(house, notes)
    assert notes.rejected == []
    assert deliver(house) == ["sr", "sc"]


def test_each_revision_is_rejected_once(house: House, notes: Notes) -> None:
    house.reported()
    deliver(house)
    second = revise(house, notes)
    deliver(house)
    revise(house, notes)
    assert notes.rejected == [of(1), of(second)]


def test_a_note_that_never_left_is_made_up_for_by_the_next(house: House, notes: Notes) -> None:
    house.reported()
    deliver(house)
    second = revise(house, notes)
    for _ in ("sr", "sc"):
        assert deliveries.accepted(house.ledger, house.must_take())
    third = revise(house, notes)
    assert notes.rejected == [of(1), of(1) + of(second)]
    assert [row.state for row in house.rows(schema.delivery)] == ["accepted"] * 4 + ["cancelled"] + ["due"] * 3
    assert deliver(house) == ["sr", "sc", "replaces"]
    assert third > second


def test_each_destination_gets_a_note_for_what_it_has(house: House, notes: Notes) -> None:
    """B was away for the first revision."""
    house.reported(addressees=(PACS, B))
    deliver(house)
    second = revise(house, notes, (PACS, B))
    assert notes.rejected == [of(1)]
    assert deliver(house, BOTH) == ["sr", "sr", "sc", "sc", "replaces"]
    revise(house, notes, (PACS, B))
    assert notes.rejected == [of(1), of(second)], "one note for both"
    assert [row.destination for row in house.rows(schema.delivery)][-2:] == [PACS.name, B.name]


def test_a_destination_that_gets_nothing_any_more_gets_no_note(house: House, notes: Notes) -> None:
    house.reported(addressees=(PACS, B))
    deliver(house, BOTH)
    revise(house, notes, (PACS,))
    assert [row.destination for row in house.rows(schema.delivery)][4:] == [PACS.name] * 3
    revise(house, notes, (Addressee(name=PACS.name, parked=Reason.SHADOW),))
    assert [row.state for row in house.rows(schema.delivery)][-2:] == ["parked"] * 2, "nothing else stands there"


def test_nothing_is_hidden_while_the_new_page_is_not_there(house: House, notes: Notes) -> None:
    house.reported()
    deliver(house)
    revise(house, notes)
    for _ in ("sr", "sc"):
        assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "no room")
    assert house.take() is None
    with house.ledger.write() as conn:
        resending.retry(house.ledger, conn, study_uid="1.1")
    assert deliver(house) == ["sr", "sc", "replaces"]


def refused_twice(house: House, addressees: Sequence[Addressee] = (PACS,)) -> None:
    """Two revisions, of which the archive took nothing."""
    house.reported(addressees=addressees)
    for _ in (*addressees, *addressees):
        assert deliveries.refused(house.ledger, house.must_take(known=BOTH), Reason.DESTINATION_REFUSED, "no room")
    revise(house, Notes(), addressees)


def retried(house: House) -> tuple[resending.Retried, set[str]]:
    """What an operator's retry did, and the revisions of which something is due then."""
    with house.ledger.write() as conn:
        done = resending.retry(house.ledger, conn, study_uid="1.1")
    due = {row.result_id for row in house.rows(schema.delivery, state="due")}
    return done, {row.sop_uid.split(".")[2] for row in house.rows(schema.result) if row.id in due}


def test_what_was_refused_and_then_replaced_is_never_sent_again(house: House) -> None:
    """An old grade that arrives after the new one would stand in the archive as the newest."""
    refused_twice(house)
    for _ in ("sr", "sc"):
        assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "no room")
    assert retried(house) == (resending.Retried(due=2, outdated=("1.1",)), {"2"})
    assert deliver(house) == ["sr", "sc"]
    assert retried(house) == (resending.Retried(due=0, outdated=("1.1",)), set())
    with house.ledger.read() as conn:
        shown = views.deliveries(conn, study_uid="1.1")
    assert [(one["state"], one["outdated"]) for one in shown] == [("accepted", False)] * 2 + [("refused", True)] * 2


def test_what_was_refused_and_then_taken_back_is_never_sent_again(house: House) -> None:
    house.reported()
    for _ in ("sr", "sc"):
        assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "no room")
    with house.ledger.write() as conn:
        assert retractions.retract(house.ledger, conn, "1.1", Why.WRONG_GRADE)
    assert retried(house) == (resending.Retried(due=0, outdated=("1.1",)), set())


def test_what_was_refused_goes_again_while_a_later_revision_has_nothing_else_to_say(house: House) -> None:
    house.reported()
    for _ in ("sr", "sc"):
        assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "no room")
    house.complete()
    assert house.report(house.must_claim(), kinds=())
    assert retried(house) == (resending.Retried(due=2), {"1"})


def test_the_page_alone_is_enough(house: House, notes: Notes) -> None:
    """An archive that takes no SR."""
    house.reported()
    deliver(house)
    revise(house, notes)
    assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "")
    assert deliver(house) == ["sc", "replaces"]


def test_a_try_under_way_counts_as_sent_and_goes_before_the_note(house: House, notes: Notes) -> None:
    house.reported()
    under_way = house.must_take()
    revise(house, notes)
    assert notes.rejected == [of(1)[:1]]
    assert house.take() is None, "one after the other"
    assert deliveries.wait(house.ledger, under_way, Reason.STUDY_ABSENT, "", BACKOFF)
    house.time.passes(LEASE_S)
    assert deliver(house) == ["sr", "sr", "sc", "replaces"]


def test_what_leaves_while_a_revision_is_written_down_is_rejected_or_does_not_leave(house: House) -> None:
    """The note is made where nothing can leave any more: a deliverer waits for it and finds the page cancelled."""
    house.reported()
    other, taken = house.another(), list[object]()
    notes, threads = Notes(), list[threading.Thread]()

    def note(replaced: Sequence[Made]) -> Made:
        taker = threading.Thread(target=lambda: taken.append(other.take()))
        taker.start()
        threads.append(taker)
        return notes(replaced)

    first = house.must_take()
    assert deliveries.accepted(house.ledger, first)
    house.complete()
    assert house.report(house.must_claim(), note=note)
    threads[0].join(20)
    (claim,) = taken
    assert isinstance(claim, deliveries.Claim)
    assert claim.sop_uid not in of(1), "the first revision's page was cancelled"
    assert notes.rejected == [of(1)[:1]]
    other.ledger.engine.dispose()


def test_a_held_study_sends_no_note(house: House, notes: Notes) -> None:
    house.reported()
    deliver(house)
    revise(house, notes)
    for _ in ("sr", "sc"):
        assert deliveries.accepted(house.ledger, house.must_take())
    house.hold()
    assert house.take() is None
    with house.ledger.write() as conn:
        assert intake.release(house.ledger, conn, "1.1")
    assert deliver(house) == ["replaces"]


def test_an_archive_that_takes_no_note_is_no_fault(house: House, notes: Notes) -> None:
    house.reported()
    deliver(house)
    revise(house, notes)
    for _ in ("sr", "sc"):
        assert deliveries.accepted(house.ledger, house.must_take())
    assert deliveries.refused(house.ledger, house.must_take(), Reason.DESTINATION_REFUSED, "SOP class not accepted")
    last = house.rows(schema.delivery)[-1]
    assert (last.state, last.reason, last.reason_text) == ("cancelled", "destination_refused", "SOP class not accepted")
    revise(house, notes)
    assert len(notes.rejected[-1]) == 4, "whoever takes notes later gets one for all that stands"


def test_a_day_that_parks_results_does_not_leave_the_older_ones_standing(house: House, notes: Notes) -> None:
    house.reported()
    deliver(house)
    revise(house, notes)
    for _ in ("sr", "sc"):
        assert deliveries.accepted(house.ledger, house.must_take())
    house.time.passes(90_000)
    claim = deliveries.claim(house.ledger, worker="d1", lease_s=LEASE_S, known=(PACS.name,), within_s=86_400)
    assert claim is not None
    assert claim.kind == "replaces"


def unsupported(house: House, notes: Notes) -> None:
    """With the late images the study cannot be graded, and nobody wanted a page of that."""
    house.complete()
    assert house.report(house.must_claim(), (PACS, B), ("sc",), RevisionState.REJECTED, notes, only_to_replace=True)


def test_a_page_that_only_withdraws_goes_where_earlier_results_stand(house: House, notes: Notes) -> None:
    house.reported(addressees=(PACS, B))
    deliver(house)  # B is away
    unsupported(house, notes)
    assert notes.rejected == [of(1)]
    assert [row.state for row in house.rows(schema.delivery, destination=B.name)] == ["cancelled"] * 2
    assert deliver(house, BOTH) == ["sc", "replaces"]


def test_results_that_never_left_are_cancelled_by_a_study_that_cannot_be_graded_any_more(
    house: House, notes: Notes
) -> None:
    house.reported(addressees=(PACS, B))
    unsupported(house, notes)
    assert notes.rejected == []
    assert deliver(house, BOTH) == []
    assert {row.reason for row in house.rows(schema.delivery)} == {"superseded"}


def test_a_note_that_cannot_be_made_keeps_no_result_back_and_is_told(house: House) -> None:
    house.reported()
    deliver(house)
    house.complete()
    assert house.report(house.must_claim(), note=lambda _: None)
    assert deliver(house) == ["sr", "sc"]
    (told,) = house.events("rejection_not_made")
    assert told.detail == {"reason": "bug", "destination": PACS.name}
    notes = Notes()
    revise(house, notes)
    assert len(notes.rejected[0]) == 4, "the next revision makes up for it"


def test_an_operator_who_takes_back_what_replaced_something_ends_its_note_too(house: House, notes: Notes) -> None:
    """The retraction has a note of its own, which waits for nothing."""
    house.reported()
    deliver(house)
    second = revise(house, notes)
    for _ in ("sr", "sc"):
        assert deliveries.accepted(house.ledger, house.must_take())
    with house.ledger.write() as conn:
        done = retractions.retract(house.ledger, conn, "1.1", Why.WRONG_GRADE)
        standing = retractions.sent(conn, "1.1")
    assert done == retractions.Retracted(cancelled=1, noted=(PACS.name,))
    assert standing is not None
    assert [one.sop_uid for one in standing.made] == of(1) + of(second), "results, and no note of ours"
