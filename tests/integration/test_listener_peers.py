"""Who may call, changed while the listener runs: DCMTK calls, the command line is the operator."""

from __future__ import annotations

import json
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from dicom_peers import echoscu
from impatient_door import CONTEXTS, MR, image
from listener_house import House, association, listener
from peers import HOST, until
from raw_peer import RawPeer, c_store_rq, connected, fragment
from typer.testing import CliRunner

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.deploy.cli_peers import app

pytestmark = pytest.mark.peers
NOBODY = ({"aet": "NOBODY", "network": "10.9.8.7"},)


def operator(house: House, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--data", str(house.data)])
    assert done.exit_code == 0, done.output
    return done.output


def test_an_operator_lets_a_caller_in_and_turns_it_away_again_without_a_restart(tmp_path: Path) -> None:
    with listener(tmp_path / "data", peers=NOBODY) as house:
        assert not echoscu(house.ports.dimse, calling="CT1")
        until(lambda: house.rows(schema.refused_peer), what="the refused peer")
        assert "cauda peers allow CT1@127.0.0.1" in operator(house, "list", "--json")
        operator(house, "allow", f"CT1@{HOST}")
        until(lambda: echoscu(house.ports.dimse, calling="CT1"), what="CT1 let in")
        assert not echoscu(house.ports.dimse, calling="CT2")
        operator(house, "forbid", f"CT1@{HOST}")
        until(lambda: not echoscu(house.ports.dimse, calling="CT1"), what="CT1 turned away")


def test_a_ban_goes_before_the_configuration_and_can_be_taken_back(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        assert echoscu(house.ports.dimse, calling="CT1")
        operator(house, "forbid", "127.0.0.0/8")
        until(lambda: not echoscu(house.ports.dimse, calling="CT1"), what="everybody turned away")
        operator(house, "remove", "127.0.0.0/8")
        until(lambda: echoscu(house.ports.dimse, calling="CT1"), what="CT1 let in")


def test_who_calls_while_the_list_is_learned_stays_on_it(tmp_path: Path) -> None:
    with listener(tmp_path / "data", peers=NOBODY) as house:
        operator(house, "learn", "127.0.0.0/8", "--for", "60")
        until(lambda: echoscu(house.ports.dimse, calling="CT1"), what="CT1 let in")
        until(lambda: len(house.rows(schema.peer)) == 2, what="CT1 entered")
        assert "learning, 60 min left" in operator(house, "list")
        operator(house, "remove", "127.0.0.0/8")  # learning is over
        # each call by another title: one that comes before the listener has heard of it is learned, and stays
        strangers = (f"NEW{number}" for number in count())
        until(lambda: not echoscu(house.ports.dimse, calling=next(strangers)), what="a new one turned away")
        assert echoscu(house.ports.dimse, calling="CT1")
        assert all(row["learned"] for row in house.rows(schema.peer))


def test_a_caller_that_is_wrong_in_both_titles_is_listed_once_with_one_reason(tmp_path: Path) -> None:
    with listener(tmp_path / "data", peers=NOBODY) as house:
        assert not echoscu(house.ports.dimse, calling="CT1", called="SOMEBODY")
        assert not echoscu(house.ports.dimse, calling="CT2")
        until(lambda: len(house.rows(schema.refused_peer)) == 2, what="both listed")
        assert {(one["aet"], one["why"], one["count"]) for one in house.rows(schema.refused_peer)} == {
            ("CT1", Reason.CALLING_AE_NOT_ALLOWED, 1),
            ("CT2", Reason.CALLING_AE_NOT_ALLOWED, 1),
        }


def test_a_caller_that_names_us_wrongly_is_told_and_the_list_says_what_to_change(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        with association(house.ports.dimse, [("1.2.840.10008.1.1", "1.2.840.10008.1.2")], called="SOMEBODY") as opened:
            assert opened.is_rejected
            assert opened.acceptor.primitive.diagnostic == 0x07  # called AE title not recognised
        until(lambda: house.rows(schema.refused_peer), what="the refused peer")
        assert "let it call CAUDA" in operator(house, "list", "--json")


@pytest.mark.usefixtures("data_path")
def test_a_peers_line_bounds_what_it_may_take(tmp_path: Path) -> None:
    bounded = {"aet": "SMALL", "network": "127.0.0.0/8", "max_associations": 1, "max_object_bytes": 1024}
    with listener(tmp_path / "data", peers=(bounded, {"network": "127.0.0.0/8"})) as house, ExitStack() as held:

        def calling(title: str) -> RawPeer | None:
            peer = held.enter_context(connected(house.ports.dimse))
            return peer if peer.associate(CONTEXTS, calling=title) else None

        def told(peer: RawPeer | None) -> tuple[int, str]:
            assert peer is not None
            answer = peer.store(1, MR, "1.2.3.4.5", image("1.2.3.4.5"))
            assert answer is not None
            return answer.status, answer.comment

        small = calling("SMALL")
        assert calling("SMALL") is None
        assert told(small) == (0xA700, "object is larger than 1,024 bytes")
        assert told(calling("OTHER")) == (0x0000, "")


@pytest.mark.usefixtures("data_path")
def test_an_operator_bounds_a_caller_without_a_restart_and_goes_before_the_configuration(tmp_path: Path) -> None:
    line = {"aet": "CT1", "network": f"{HOST}/32", "max_object_bytes": 2048}
    with listener(tmp_path / "data", peers=(line,)) as house:
        operator(house, "allow", f"CT1@{HOST}", "--max-associations", "1", "--max-object-bytes", "1024",
                 "--max-pdu-bytes", "4096")  # fmt: skip
        assert "1 at once, 1,024 bytes an object, 4,096 bytes a PDU" in operator(house, "list", "--json")

        def bounded() -> bool:
            with connected(house.ports.dimse) as peer:
                return peer.associate(CONTEXTS, calling="CT1") and peer.max_pdu == 4096 and peer.release()

        until(bounded, what="the bound announced")
        with connected(house.ports.dimse) as peer, connected(house.ports.dimse) as other:
            assert peer.associate(CONTEXTS, calling="CT1")
            assert not other.associate(CONTEXTS, calling="CT1")
            answer = peer.store(1, MR, "1.2.3.4.5", image("1.2.3.4.5"))
            assert answer is not None
            assert (answer.status, answer.comment) == (0xA700, "object is larger than 1,024 bytes")
            peer.send(fragment(1, c_store_rq(MR, "1.2.3.4.5"), command=True, last=True))
            peer.send(fragment(1, bytes(4092), command=False, last=False))  # with its header two bytes too many
            assert peer.ended()
        operator(house, "allow", f"CT1@{HOST}")  # the last word: the configuration's bounds again, and no others
        until(lambda: not bounded(), what="the bound taken back")
        with connected(house.ports.dimse) as peer:
            assert peer.associate(CONTEXTS, calling="CT1")
            answer = peer.store(1, MR, "1.2.3.4.5", image("1.2.3.4.5"))
            assert answer is not None
            assert (answer.status, answer.comment) == (0xA700, "object is larger than 2,048 bytes")


@pytest.mark.usefixtures("data_path")
def test_a_pdu_longer_than_was_announced_ends_the_association(tmp_path: Path) -> None:
    """One of just that length does not (PS3.8 D.1)."""
    limits = {"min_free_bytes": 0, "max_pdu_bytes": 8192}
    with listener(tmp_path / "data", limits=limits) as house, connected(house.ports.dimse) as peer:
        assert peer.associate(CONTEXTS)
        assert peer.max_pdu == 8192
        peer.send(fragment(1, c_store_rq(MR, "1.2.3.4.5"), command=True, last=True))
        peer.send(fragment(1, bytes(8192 - 6), command=False, last=True))
        answer = peer.answer()
        assert answer is not None
        assert answer.status != 0x0000  # zeros are no image, but an answer
        peer.send(fragment(1, c_store_rq(MR, "1.2.3.4.5"), command=True, last=True))
        peer.send(fragment(1, bytes(8192 - 4), command=False, last=True))
        assert peer.ended()


def test_the_list_shows_a_lines_bounds(tmp_path: Path) -> None:
    given = tmp_path / "cauda.toml"
    given.write_text(
        f'data = "{tmp_path / "data"}"\n'
        'peers = [{ aet = "SMALL", network = "10.0.0.0/8", max_associations = 3, max_object_bytes = 9216 }]\n'
    )
    with listener(tmp_path / "data"):
        done = CliRunner().invoke(app, ["list", "--config", str(given), "--json"])
    assert done.exit_code == 0, done.output
    (line,) = json.loads(done.output)["allowed"]
    assert line["bounds"] == "3 at once, 9,216 bytes an object"
