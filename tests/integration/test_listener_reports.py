"""What archives report of our results at the door, under our title and under the one by which they know us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders
import pytest
from dicom_peers import echoscu
from impatient_door import image
from listener_house import listener
from peers import until
from pydicom.uid import ExplicitVRLittleEndian
from raw_peer import connected
from reporting_archive import ECHO, INSTANCE, PUSH_MODEL, archive, nothing, question, report, sent

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.schema import DeliveryState

pytestmark = pytest.mark.peers
SYNTAX = str(ExplicitVRLittleEndian)
RESULTS = "CAUDA_RES"
PACS = {"name": "pacs", "url": "dimse://PACS@127.0.0.1:9", "calling_aet": RESULTS, "commitment": True}


@pytest.mark.usefixtures("data_path")
def test_a_late_report_from_another_title_on_a_new_association_commits_what_we_sent(tmp_path: Path) -> None:
    """With the other half of commitment, what others may ask of us, switched off."""
    with listener(tmp_path / "data") as house, archive(house.ports.dimse) as opened:
        sent(house, "2.25.77", ["2.25.1", "2.25.2"])
        assert report(opened, "2.25.77", ["2.25.1"], ["2.25.2"]) == 0x0000
        states = {row["result_id"]: (row["state"], row["reason_text"]) for row in house.rows(schema.delivery)}
        assert states[1] == (DeliveryState.COMMITTED, None)
        assert states[2][0] == DeliveryState.ACCEPTED
        assert "0112" in states[2][1]


def test_a_report_of_no_transaction_or_of_nothing_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house, archive(house.ports.dimse) as opened:
        sent(house, "2.25.77", ["2.25.1"])
        assert report(opened, "2.25.78", ["2.25.1"]) == 0x0115
        status, _ = opened.send_n_event_report(nothing(), 1, PUSH_MODEL, INSTANCE)
        assert status.Status == 0x0115
        with pytest.raises(ValueError, match="SCU role"):  # who reports may not ask
            opened.send_n_action(question("2.25.9", []), 1, PUSH_MODEL, INSTANCE)
        assert house.row(schema.delivery)["state"] == DeliveryState.ACCEPTED
        assert echoscu(house.ports.dimse)


@pytest.mark.usefixtures("data_path")
def test_an_archive_reports_to_the_title_that_asked_it(tmp_path: Path) -> None:
    """CLINICAL.md 28: on a new association, hours later."""
    with (
        listener(tmp_path / "data", destinations=[PACS]) as house,
        archive(house.ports.dimse, called=RESULTS) as opened,
    ):
        sent(house, "2.25.77", ["2.25.1"])
        assert report(opened, "2.25.77", ["2.25.1"]) == 0x0000
        assert opened.send_c_echo().Status == 0x0000
        assert house.row(schema.delivery)["state"] == DeliveryState.COMMITTED


@pytest.mark.usefixtures("data_path")
@pytest.mark.parametrize("called", ["CAUDA", RESULTS])
@pytest.mark.parametrize("asking", [False, True], ids=["nobody may ask", "senders may ask"])
def test_reports_without_role_selection_are_taken_where_commitment_is_on(
    tmp_path: Path, called: str, asking: bool
) -> None:
    """What is asked in such a context is not entered, but for what senders may ask the node's own title."""
    may_ask: dict[str, Any] = {"source": {"url": "dimse://PACS@127.0.0.1:9"}, "commitment": {"enabled": asking}}
    with (
        listener(tmp_path / "data", destinations=[PACS], **may_ask) as house,
        archive(house.ports.dimse, called=called, with_role=False) as opened,
    ):
        sent(house, "2.25.77", ["2.25.1", "2.25.2"])
        assert report(opened, "2.25.77", ["2.25.1"], ["2.25.2"]) == 0x0000
        states = [row["state"] for row in house.rows(schema.delivery)]
        assert states == [DeliveryState.COMMITTED, DeliveryState.ACCEPTED]
        status, _ = opened.send_n_action(question("2.25.9", [("1.2", "2.25.5")]), 1, PUSH_MODEL, INSTANCE)
        allowed = asking and called == "CAUDA"
        assert status.Status == (0x0000 if allowed else 0x0211)
        assert len(house.rows(schema.commitment_request)) == allowed


@pytest.mark.parametrize("changed", [{"commitment": False}, None])
def test_without_a_destination_that_commits_the_context_needs_the_role(
    tmp_path: Path, changed: dict[str, Any] | None
) -> None:
    destinations = [] if changed is None else [PACS | changed]
    with listener(tmp_path / "data", destinations=destinations) as house, connected(house.ports.dimse) as peer:
        assert peer.associate([(PUSH_MODEL, SYNTAX), (ECHO, SYNTAX)])
        assert set(peer.accepted) == {3}


@pytest.mark.parametrize("kind", [1, 2])
def test_what_a_report_lists_as_held_and_as_failed_has_failed(tmp_path: Path, kind: int) -> None:
    """Whichever of the two events it calls itself."""
    with listener(tmp_path / "data") as house, archive(house.ports.dimse) as opened:
        sent(house, "2.25.77", ["2.25.1", "2.25.2"])
        both = question("2.25.77", [("1.2", "2.25.1"), ("1.2", "2.25.2")])
        both.FailedSOPSequence = question("2.25.77", [("1.2", "2.25.1")]).ReferencedSOPSequence
        both.FailedSOPSequence[0].FailureReason = 0x0110
        status, _ = opened.send_n_event_report(both, kind, PUSH_MODEL, INSTANCE)
        assert status.Status == 0x0000
        failed, held = house.rows(schema.delivery)
        assert (failed["state"], failed["reason"]) == (DeliveryState.ACCEPTED, Reason.NOT_CONFIRMED)
        assert held["state"] == DeliveryState.COMMITTED


@pytest.mark.usefixtures("data_path")
@pytest.mark.parametrize("as_scp", [[], [PUSH_MODEL]])
def test_under_that_title_nothing_is_stored_and_nothing_asked(tmp_path: Path, as_scp: list[str]) -> None:
    """Also where senders may ask, and where an image comes in a context that was accepted for something else."""
    uid = "1.2.3.4.5"
    may_ask: dict[str, Any] = {"source": {"url": "dimse://PACS@127.0.0.1:9"}, "commitment": {"enabled": True}}
    with listener(tmp_path / "data", destinations=[PACS], **may_ask) as house:
        proposed = [(PUSH_MODEL, SYNTAX), (builders.MR_IMAGE, SYNTAX), (ECHO, SYNTAX)]
        with connected(house.ports.dimse) as peer:
            assert peer.associate(proposed, called=RESULTS, as_scp=as_scp)
            assert set(peer.accepted) == {1, 5}
            assert peer.echo(5)
        for context in (1, 3, 5):
            for sop_class in (PUSH_MODEL, builders.MR_IMAGE, ECHO):
                assert not stored(house.ports.dimse, context, sop_class, uid, as_scp)
        house.until_filed()
        assert not house.rows(schema.instance)
        assert echoscu(house.ports.dimse)


def stored(port: int, context: int, sop_class: str, uid: str, as_scp: list[str]) -> bool:
    """Whether an object of this class is acknowledged when it comes in this context: an echo's answer is none to it."""
    data = image(uid).replace(builders.MR_IMAGE.encode().ljust(26, b"\0"), sop_class.encode().ljust(26, b"\0"))
    with connected(port) as peer:
        peer.associate(
            [(PUSH_MODEL, SYNTAX), (builders.MR_IMAGE, SYNTAX), (ECHO, SYNTAX)], called=RESULTS, as_scp=as_scp
        )
        answer = peer.store(context, sop_class, uid, data)
        return answer is not None and (answer.field, answer.status) == (0x8001, 0x0000)


@pytest.mark.parametrize(
    ("changed", "peers", "why"),
    [
        ({"commitment": False}, None, Reason.CALLED_AE_UNKNOWN),
        ({"calling_aet": None}, None, Reason.CALLED_AE_UNKNOWN),
        ({}, [{"aet": "CT1", "network": "127.0.0.0/8"}], Reason.CALLING_AE_NOT_ALLOWED),
    ],
)
def test_that_title_opens_the_door_where_reports_are_awaited_and_to_who_may_call(
    tmp_path: Path, changed: dict[str, Any], peers: Any, why: Reason
) -> None:
    rules = {} if peers is None else {"peers": peers}
    with listener(tmp_path / "data", destinations=[PACS | changed], **rules) as house:
        with connected(house.ports.dimse) as peer:
            assert not peer.associate([(ECHO, SYNTAX)], called=RESULTS)
        until(lambda: [row["why"] for row in house.rows(schema.refused_peer)] == [why], what="the reason kept")
