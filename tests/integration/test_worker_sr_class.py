"""Each archive gets the SR in a class that it takes when it is sent there (CLINICAL.md 27)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders
import pytest
from graded import grade, work
from peers import free_port
from pydicom import Dataset, dcmread
from scripted_archive import KO, Archive, archive
from worker_house import House, house

from cauda.core.schema import RevisionKind
from cauda.worker.grade import grade_next

COMPREHENSIVE_3D, COMPREHENSIVE, ENHANCED = (f"1.2.840.10008.5.1.4.1.1.88.{end}" for end in ("34", "33", "22"))
SC = "1.2.840.10008.5.1.4.1.1.7"
OWN = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")  # an instance's; anything else is the document


def sends_to(data: Path, *destinations: str | dict[str, Any]) -> House:
    """A house that reads nothing back; time stands still unless the test moves it."""
    return house(data, simulated=True, destinations=list(destinations), delivery={"confirm_after_s": 1e9})


def at_port(port: int) -> str:
    return f"dimse://ARCHIVE@127.0.0.1:{port}"


def classes(at: House, peer: Archive) -> list[str]:
    """What an archive has, in the order in which it came."""
    return [str(at.rows("result", sop_uid=uid)[0]["sop_class_uid"]) for uid in peer.order]


def in_outbox(at: House, sop_uid: str) -> bytes:
    (row,) = at.rows("result", sop_uid=sop_uid)
    return (at.data / row["path"]).read_bytes()


def opened(at: House, sop_uid: str) -> Dataset:
    (row,) = at.rows("result", sop_uid=sop_uid)
    return dcmread(at.data / row["path"])


def document(sr: Dataset) -> dict[int, object]:
    """Tag -> value as it stands in the file, which nobody may have decoded yet."""
    return {int(tag): sr.get_item(tag).value for tag in sr.keys() - {0x00080016, 0x00080018, 0x0020000E}}


def referenced(document: Dataset, sequence: str) -> set[str]:
    """The SOP Instance UIDs that a document names there."""
    return {
        str(one.ReferencedSOPInstanceUID)
        for study in document[sequence].value
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


@pytest.mark.parametrize("best", [COMPREHENSIVE, ENHANCED])
def test_an_archive_that_was_away_gets_the_report_in_its_class_and_no_other_gets_anything_again(
    tmp_path: Path, best: str
) -> None:
    port = free_port()
    with archive() as there:
        at = sends_to(tmp_path, there.dimse, at_port(port))
        image = grade(at, SpecificCharacterSet="ISO_IR 100", PatientName="M\u00fcller^J\u00f6rg")[0]
        there.knows(image)
        work(at)
        with archive(classes=(best, SC), port=port) as late:
            late.knows(image)
            at.clock[0] += 900
            work(at)
        assert (classes(at, there), classes(at, late)) == ([COMPREHENSIVE_3D, SC], [best, SC])
        assert at.states("delivery") == ["accepted"] * 4
        assert there.attempts == late.attempts == 2
    assert len(at.rows("revision")) == 1
    first, other = opened(at, there.order[0]), opened(at, late.order[0])
    assert b"M\xfcller^J\xf6rg " in document(first).values()
    assert document(first) == document(other)
    assert {first[name].value for name in OWN}.isdisjoint(other[name].value for name in OWN)
    assert other.SOPClassUID == other.file_meta.MediaStorageSOPClassUID == best
    assert other.SOPInstanceUID == other.file_meta.MediaStorageSOPInstanceUID == late.order[0]
    assert late.received[late.order[0]] == [builders.dataset_bytes(in_outbox(at, late.order[0]))]


def test_archives_of_one_class_get_one_report_also_when_the_first_try_broke_off(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    at = sends_to(tmp_path, *map(at_port, ports))
    image = grade(at)[0]
    work(at)
    with archive(classes=(ENHANCED, SC), port=ports[0]) as one, archive(classes=(ENHANCED, SC), port=ports[1]) as two:
        for peer in (one, two):
            peer.knows(image)
        one.script = ["abort"]
        for _ in range(3):
            at.clock[0] += 900
            work(at)
        assert classes(at, one) == classes(at, two) == [ENHANCED, SC]
        assert one.order == two.order
        assert (one.attempts, two.attempts) == (3, 2)
    assert at.states("delivery") == ["accepted"] * 4
    assert [row["sop_class_uid"] for row in at.rows("result", kind="sr")] == [COMPREHENSIVE_3D, ENHANCED]


def test_a_later_revision_rejects_in_each_archive_what_that_one_has(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    at = sends_to(tmp_path, *map(at_port, ports))
    image = grade(at)[0]
    older = (ENHANCED, SC, KO), (COMPREHENSIVE, SC, KO)
    with archive(classes=older[0], port=ports[0]) as one, archive(classes=older[1], port=ports[1]) as two:
        for accession in ("", "ACC2"):
            for peer in (one, two):
                peer.knows(image, **({"AccessionNumber": accession} if accession else {}))
            if accession:
                at.file(builders.mr_study(1, AccessionNumber=accession))
                at.freeze(image.StudyInstanceUID, RevisionKind.REISSUE, "demographics corrected")
                assert grade_next(at.post())
            at.clock[0] += 900
            work(at)
        assert classes(at, one) == [ENHANCED, SC, ENHANCED, SC, KO]
        assert classes(at, two) == [COMPREHENSIVE, SC, COMPREHENSIVE, SC, KO]
        for peer in (one, two):
            note = opened(at, peer.order[-1])
            assert referenced(note, "CurrentRequestedProcedureEvidenceSequence") == set(peer.order[:2])
        for peer in (one, two):
            predecessors = referenced(opened(at, peer.order[2]), "PredecessorDocumentsSequence")
            assert predecessors == {one.order[0], two.order[0]}  # and not the one in a class that nobody took
    assert set(at.states("delivery")) == {"accepted"}


def test_what_an_archive_took_is_remembered_while_it_is_away(tmp_path: Path) -> None:
    port = free_port()
    at = sends_to(tmp_path, at_port(port))
    with archive(classes=(COMPREHENSIVE, ENHANCED, SC), can_find=False, port=port):
        grade(at, 1)
    grade(at, 2)
    known, remembered = at.rows("revision")
    (sr,) = at.rows("result", revision_id=remembered["id"], kind="sr")
    assert sr["sop_class_uid"] == COMPREHENSIVE
    assert known["identity_checked"] is remembered["identity_checked"] is False


def test_what_is_remembered_is_asked_again_when_the_report_is_sent(tmp_path: Path) -> None:
    port = free_port()
    at = sends_to(tmp_path, at_port(port))
    with archive(classes=(COMPREHENSIVE, SC), port=port):
        image = grade(at)[0]
    with archive(classes=(COMPREHENSIVE_3D, ENHANCED, SC), port=port) as other:
        other.knows(image)
        work(at)
        assert classes(at, other) == [COMPREHENSIVE_3D, SC]
    assert at.states("delivery") == ["accepted", "accepted"]


def test_who_gets_no_report_has_no_say_in_its_class(tmp_path: Path) -> None:
    with archive(classes=(COMPREHENSIVE, SC)) as old, archive() as new:
        at = sends_to(
            tmp_path,
            old.dimse,
            {"name": "pages", "url": new.dimse, "sr": False},
            {"name": "shadow", "url": at_port(free_port()), "shadow": True},
        )
        image = grade(at)[0]
        for peer in (old, new):
            peer.knows(image)
        work(at)
        assert (classes(at, old), classes(at, new)) == ([COMPREHENSIVE, SC], [SC])
    assert [row["sop_class_uid"] for row in at.rows("result", kind="sr")] == [COMPREHENSIVE]
    assert at.rows("event", kind="delivery_exchanged") == []


def test_an_archive_that_takes_none_of_the_classes_gets_the_page_alone_and_is_not_asked_again(tmp_path: Path) -> None:
    port = free_port()
    at = sends_to(tmp_path, at_port(port))
    image = grade(at)[0]
    with archive(classes=(SC,), port=port) as peer:
        peer.knows(image)
        work(at)
        assert classes(at, peer) == [SC]
        assert at.states("delivery") == ["refused", "accepted"]
        assert "SOP class not accepted: Comprehensive 3D SR" in at.rows("delivery")[0]["reason_text"]
        at.clock[0] += 30 * 86_400
        assert work(at) == 0
