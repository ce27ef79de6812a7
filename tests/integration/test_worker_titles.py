"""By which title an archive is called: its destination's own, else the node's (CLINICAL.md 28)."""

from __future__ import annotations

from pathlib import Path

from graded import grade, work
from scripted_archive import archive
from worker_house import house


def test_each_archive_is_called_by_its_title_whatever_it_is_asked(tmp_path: Path) -> None:
    with archive(commits="here") as one, archive(commits="here") as other, archive() as third:
        at = house(
            tmp_path,
            simulated=True,
            node={"aet": "NODE"},
            destinations=[
                {"name": "one", "url": one.dimse, "calling_aet": "RESULTS", "commitment": True},
                {"name": "other", "url": other.dimse, "commitment": True},
                {"name": "third", "url": third.dimse, "calling_aet": "THIRD"},
            ],
        )
        images = grade(at)
        peers = (one, other, third)
        assert [peer.callers for peer in peers] == [["RESULTS"], ["NODE"], ["THIRD"]], "asked what they take"
        for peer in peers:
            peer.knows(images[0])
        work(at)
        for peer in peers:
            assert len(peer.order) == 2, "SR and SC stored"
            assert "STUDY" in peer.asked, "asked whose study it is"
        assert len(one.transactions) == len(other.transactions) == 2, "asked to commit"
        at.clock[0] += 60
        work(at)
        assert set(at.states("delivery")) == {"committed"}
        assert "IMAGE" in third.asked, "read back"
        assert [set(peer.callers) for peer in peers] == [{"RESULTS"}, {"NODE"}, {"THIRD"}]
