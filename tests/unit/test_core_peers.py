"""Who may call: what the list says of a title and an address."""

from __future__ import annotations

import ipaddress

import pytest

from cauda.core import peers
from cauda.core.errors import Misconfigured
from cauda.core.peers import Entry, Verdict
from cauda.core.schema import PeerRule
from cauda.core.settings import Limits, Peer


def entry(rule: PeerRule, aet: str, network: str) -> Entry:
    return Entry(rule=rule, aet=aet, network=ipaddress.ip_network(network))


ALLOWED = entry(PeerRule.ALLOW, "CT1", "10.1.0.0/16")
ANYBODY = entry(PeerRule.ALLOW, "*", "10.2.0.0/16")
LEARNING = entry(PeerRule.LEARN, "*", "10.3.0.0/16")
FORBIDDEN = entry(PeerRule.FORBID, "CT1", "10.1.7.0/24")
NOBODY = entry(PeerRule.FORBID, "*", "10.2.7.0/24")
LIST = (ALLOWED, ANYBODY, LEARNING, FORBIDDEN, NOBODY)


@pytest.mark.parametrize(
    ("aet", "address", "verdict"),
    [
        ("CT1", "10.1.0.7", Verdict.IN),
        ("CT2", "10.1.0.7", Verdict.OUT),
        ("CT1", "10.9.0.7", Verdict.OUT),
        ("CT9", "10.2.0.7", Verdict.IN),
        ("CT9", "10.3.0.7", Verdict.LEARN),
        ("CT1", "10.1.7.7", Verdict.OUT),  # forbidden within what is allowed
        ("CT9", "10.2.7.7", Verdict.OUT),
        ("CT1", "::ffff:10.1.0.7", Verdict.IN),
        ("CT1", "no address", Verdict.OUT),
    ],
)
def test_title_and_network_decide_and_a_ban_goes_first(aet: str, address: str, verdict: Verdict) -> None:
    assert peers.verdict(LIST, aet, address) is verdict


@pytest.mark.parametrize(
    ("aet", "address", "verdict"),
    [
        ("CT1", "10.9.0.7", Verdict.OUT),  # it is forbidden somewhere, and where it really is nobody knows
        ("CT9", "10.9.0.7", Verdict.IN),
        ("CT9", "10.2.7.7", Verdict.OUT),
    ],
)
def test_known_by_a_certificate_the_title_decides(aet: str, address: str, verdict: Verdict) -> None:
    assert peers.verdict(LIST, aet, address, anywhere=True) is verdict


def test_without_any_line_nobody_is_let_in() -> None:
    assert peers.verdict((), "CT1", "127.0.0.1") is Verdict.OUT


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("CT1@10.1.0.7", ("CT1", "10.1.0.7/32")),
        ("10.1.2.3/16", ("*", "10.1.0.0/16")),
        ("A@B@fe80::/10", ("A@B", "fe80::/10")),
    ],
)
def test_a_caller_is_written_as_title_and_network(text: str, read: tuple[str, str]) -> None:
    assert peers.parse(text) == read


@pytest.mark.parametrize("text", ["", "CT1@", "CT1@somewhere", "SEVENTEENLETTERSX@10.1.0.7", "A\\B@10.0.0.1"])
def test_what_is_no_caller_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(Misconfigured, match="AET@"):
        peers.parse(text)


def test_the_closest_line_that_says_so_bounds_a_caller() -> None:
    lines = peers.configured(
        (
            Peer(aet="*", network="10.0.0.0/8", max_associations=4, max_object_bytes=1 << 20),
            Peer(aet="*", network="10.1.0.0/16", max_associations=2, max_pdu_bytes=8192),
            Peer(aet="ROUTER", network="10.0.0.0/8", max_associations=40),
        )
    )
    limits = Limits(max_associations_per_peer=20, max_object_bytes=1 << 30, max_pdu_bytes=1 << 16)

    def held(aet: str, address: str, *, anywhere: bool = False) -> tuple[int, int, int]:
        found = peers.caps(lines, aet, address, limits, anywhere=anywhere)
        return found.max_associations, found.max_object_bytes, found.max_pdu_bytes

    assert held("CT1", "10.7.0.1") == (4, 1 << 20, 1 << 16)
    assert held("CT1", "10.1.0.1") == (2, 1 << 20, 8192)
    assert held("ROUTER", "10.1.0.1") == (40, 1 << 20, 8192)
    assert held("ROUTER", "192.0.2.1") == (20, 1 << 30, 1 << 16)
    assert held("ROUTER", "192.0.2.1", anywhere=True) == (40, 1 << 20, 8192)


def test_no_line_raises_what_an_object_or_a_pdu_may_have() -> None:
    lines = peers.configured((Peer(network="10.0.0.0/8", max_object_bytes=1 << 40, max_pdu_bytes=1 << 20),))
    found = peers.caps(lines, "CT1", "10.0.0.1", Limits(max_object_bytes=1 << 30, max_pdu_bytes=1 << 16))
    assert (found.max_object_bytes, found.max_pdu_bytes) == (1 << 30, 1 << 16)
