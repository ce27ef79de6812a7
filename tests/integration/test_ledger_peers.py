"""The list of callers in the ledger, on both databases."""

from __future__ import annotations

import pytest
from ledgers import House

from cauda.core import peers, schema
from cauda.core.domain import Reason
from cauda.core.schema import PeerRule

pytestmark = pytest.mark.peers


def said(house: House) -> list[tuple[str, str, str]]:
    with house.ledger.read() as conn:
        return [(one.rule, one.aet, str(one.network)) for one in peers.entries(house.ledger, conn)]


def test_the_last_word_about_a_caller_holds_and_can_be_taken_back(house: House) -> None:
    with house.ledger.write() as conn:
        peers.enter(house.ledger, conn, PeerRule.ALLOW, "CT1", "10.1.0.7/32")
        peers.enter(house.ledger, conn, PeerRule.FORBID, "CT1", "10.1.0.7/32")
    assert said(house) == [("forbid", "CT1", "10.1.0.7/32")]
    with house.ledger.write() as conn:
        assert peers.remove(house.ledger, conn, "CT1", "10.1.0.7/32")
        assert not peers.remove(house.ledger, conn, "CT1", "10.1.0.7/32")
    assert said(house) == []
    assert [one.kind for one in house.rows(schema.event)] == ["peer_allow", "peer_forbid", "peer_removed"]


def test_an_operators_bounds_are_kept_and_go_with_the_next_word(house: House) -> None:
    bounds = peers.Bounds(max_associations=2, max_object_bytes=1 << 40)
    with house.ledger.write() as conn:
        peers.enter(house.ledger, conn, PeerRule.ALLOW, "CT1", "10.1.0.7/32", bounds=bounds)
        assert [one.bounds for one in peers.entries(house.ledger, conn)] == [bounds]
        peers.enter(house.ledger, conn, PeerRule.ALLOW, "CT1", "10.1.0.7/32")
        assert [one.bounds for one in peers.entries(house.ledger, conn)] == [peers.Bounds()]
    assert house.rows(schema.event)[0].detail | {"aet": "", "network": ""} == {
        "aet": "", "network": "", "max_associations": 2, "max_object_bytes": 1 << 40
    }  # fmt: skip


def test_learning_ends_by_itself_and_what_was_learned_stays(house: House) -> None:
    with house.ledger.write() as conn:
        peers.enter(house.ledger, conn, PeerRule.LEARN, "*", "10.1.0.0/16", for_s=60)
        peers.learned(house.ledger, conn, "CT1", "::ffff:10.1.0.7")
        peers.learned(house.ledger, conn, "CT1", "10.1.0.7")  # the same again
    house.time.passes(61)
    assert said(house) == [("allow", "CT1", "10.1.0.7/32")]


def test_who_tries_title_after_title_fills_no_list(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_LEARNED", 3)
    monkeypatch.setattr(peers, "MOST_REFUSED", 3)
    for number in range(6):
        house.time.passes(1)
        with house.ledger.write() as conn:
            peers.learned(house.ledger, conn, f"CT{number}", "10.1.0.7")
            peers.refused(house.ledger, conn, f"CT{number}", "10.1.0.7", Reason.CALLING_AE_NOT_ALLOWED)
    assert [aet for _, aet, _ in said(house)] == ["CT0", "CT1", "CT2"]
    assert [one.aet for one in house.rows(schema.refused_peer)] == ["CT3", "CT4", "CT5"]


def test_a_later_reason_hides_no_earlier_one(house: House) -> None:
    """What keeps a sender out is often not what was refused last."""
    with house.ledger.write() as conn:
        for reason in (Reason.CALLED_AE_UNKNOWN, Reason.TOO_SLOW, Reason.CALLED_AE_UNKNOWN):
            house.time.passes(1)
            peers.refused(house.ledger, conn, "CT1", "10.1.0.7", reason)
    rows = {(one.aet, one.address, one.why): one.count for one in house.rows(schema.refused_peer)}
    assert rows == {("CT1", "10.1.0.7", "called_ae_unknown"): 2, ("CT1", "10.1.0.7", "too_slow"): 1}


def test_one_address_pushes_no_other_off_the_list(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_REFUSED_OF_ADDRESS", 2)
    with house.ledger.write() as conn:
        peers.refused(house.ledger, conn, "CT1", "10.1.0.7", Reason.CALLED_AE_UNKNOWN)
        for number in range(6):
            house.time.passes(1)
            peers.refused(house.ledger, conn, f"X{number}", "10.6.6.6", Reason.CALLED_AE_UNKNOWN)
    assert [one.aet for one in house.rows(schema.refused_peer)] == ["CT1", "X4", "X5"]


def test_who_is_let_in_is_no_longer_among_those_turned_away(house: House) -> None:
    with house.ledger.write() as conn:
        peers.refused(house.ledger, conn, "CT1", "10.1.0.7", Reason.CALLING_AE_NOT_ALLOWED)
        peers.refused(house.ledger, conn, "CT1", "10.1.0.8", Reason.CALLED_AE_UNKNOWN)
        peers.refused(house.ledger, conn, "CT1", "10.9.0.8", Reason.CALLING_AE_NOT_ALLOWED)
        peers.refused(house.ledger, conn, "CT1", "10.1.0.7", Reason.TOO_SLOW)
        peers.enter(house.ledger, conn, PeerRule.ALLOW, "*", "10.1.0.0/16")
    left = {(one.address, one.why) for one in house.rows(schema.refused_peer)}
    assert left == {("10.1.0.7", "too_slow"), ("10.1.0.8", "called_ae_unknown"), ("10.9.0.8", "calling_ae_not_allowed")}


def test_a_title_that_plays_with_the_terminal_is_kept_without_its_tricks(house: House) -> None:
    with house.ledger.write() as conn:
        peers.refused(house.ledger, conn, "\x1b[2JCT1", "10.1.0.7", Reason.CALLING_AE_NOT_ALLOWED)
    assert house.rows(schema.refused_peer)[0].aet == "?[2JCT1"
