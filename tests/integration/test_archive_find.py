"""An archive's answer counts only if the UIDs that were asked stand in it and match (CLINICAL.md 25)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from graded import graded_house, images, work
from key_ignoring_archive import Held, key_ignoring
from pydicom import Dataset
from scripted_archive import archive

from cauda.archive.find import holds, series_of
from cauda.archive.holdings import held_instances
from cauda.archive.protocol import Archive, open_archive
from cauda.core import retractions
from cauda.core.domain import Reason
from cauda.core.errors import Unavailable
from cauda.core.retractions import Why
from cauda.core.settings import Destination, Settings, Source
from cauda.worker import identity, numbers
from cauda.worker.grade import grade_next
from cauda.worker.identity import Check, Verdict

pytestmark = pytest.mark.peers

STUDY, SERIES, IMAGE = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
ANY = (STUDY, SERIES, IMAGE)


def instance(study: str, series: str, sop: str, **attributes: str) -> Dataset:
    """An image of patient P-``study``; UIDs are written short."""
    made = Dataset()
    values = {"PatientID": f"P-{study}", "PatientBirthDate": "19600101", "AccessionNumber": f"A-{study}",
              "Modality": "MR", "SeriesNumber": "5", STUDY: f"1.2.{study}", SERIES: f"1.2.{study}.{series}",
              IMAGE: f"1.2.{study}.{series}.{sop}"}  # fmt: skip
    for keyword, value in (values | attributes).items():
        setattr(made, keyword, value)
    return made


RESULT = instance("1", "9901", "1")
OURS = instance("1", "4", "7")  # the image that the result was made from
FOREIGN = instance("2", "4", "7")


@pytest.fixture(params=["dimse", "stow"])
def pacs(request: pytest.FixtureRequest) -> Iterator[Held]:
    with key_ignoring(request.param) as held:
        yield held


def check(pacs: Held, **options: Any) -> Check:
    with open_archive(Destination.model_validate(pacs.url), "CAUDA", (), timeout_s=10) as opened:
        return identity.check(opened, RESULT, str(OURS.SOPInstanceUID), **options)


def ask(pacs: Held, question: Any) -> Any:
    with open_archive(Destination.model_validate(pacs.url), "CAUDA", (), timeout_s=10) as opened:
        return question(opened)


# --- whose study it is


@pytest.mark.parametrize("ignored", [{IMAGE}, {STUDY}, set(ANY)], ids=str)
@pytest.mark.parametrize("echoed", [set(), {IMAGE}, {STUDY}, set(ANY)], ids=str)
def test_somebody_elses_study_is_no_answer(pacs: Held, ignored: set[str], echoed: set[str]) -> None:
    """Not even where the archive writes the UID that was asked into what it found."""
    pacs.images = [FOREIGN]
    pacs.ignores, pacs.echoes = frozenset(ignored), frozenset(echoed)
    found = check(pacs)
    assert (found.verdict, dict(found.archive)) == (Verdict.ABSENT, {})
    assert found.foreign


@pytest.mark.parametrize("ignored", [set(), {IMAGE}, {STUDY}, set(ANY)], ids=str)
def test_the_study_is_found_among_others(pacs: Held, ignored: set[str]) -> None:
    pacs.images = [FOREIGN, OURS, instance("3", "1", "1")]
    pacs.ignores = frozenset(ignored)
    assert check(pacs).verdict == Verdict.SAME


@pytest.mark.parametrize("left_out", [{STUDY}, set(ANY)], ids=str)
def test_an_answer_without_the_uids_asked_is_none(pacs: Held, left_out: set[str]) -> None:
    pacs.images = [OURS]
    pacs.leaves_out = frozenset(left_out)
    assert check(pacs).verdict == Verdict.ABSENT


def test_another_patient_under_the_study_is_another(pacs: Held) -> None:
    """Where the archive does look at its keys."""
    pacs.images = [FOREIGN, instance("1", "4", "7", PatientID="SOMEBODY")]
    found = check(pacs)
    assert (found.verdict, found.differing, found.ambiguous) == (Verdict.OTHER, ("PatientID",), False)
    assert found.archive["PatientID"] == "SOMEBODY"


def test_an_image_that_moved_is_found_where_it_is(pacs: Held) -> None:
    pacs.images = [instance("1", "4", "7", StudyInstanceUID="1.2.5"), FOREIGN]
    pacs.ignores = frozenset({IMAGE})
    found = check(pacs)
    assert (found.verdict, found.differing) == (Verdict.OTHER, (STUDY,))
    assert found.archive[STUDY] == "1.2.5"


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "other", [{"PatientID": "P-2"}, {"PatientID": "P-2", "PatientBirthDate": ""}, {"StudyInstanceUID": "1.2.6"}],
    ids=str,
)  # fmt: skip
def test_two_patients_or_studies_for_one_uid_are_ambiguous(pacs: Held, first: int, other: dict[str, str]) -> None:
    """In whatever order they are listed; nothing is copied from either."""
    if STUDY in other:
        twice = [instance("1", "4", "7", StudyInstanceUID="1.2.5"), instance("1", "4", "7", **other)]
    else:
        twice = [OURS, instance("1", "4", "7", **other)]
    pacs.images = twice[::-1] if first else twice
    found = check(pacs)
    assert (found.verdict, found.ambiguous, dict(found.archive)) == (Verdict.OTHER, True, {})


def test_a_study_that_is_listed_twice_for_one_patient_is_that_study(pacs: Held) -> None:
    pacs.images = [OURS, instance("1", "5", "8", IssuerOfPatientID="")]
    assert check(pacs).verdict == Verdict.SAME


# --- delivery


@pytest.mark.parametrize("demographics", ["hold", "archive"])
def test_nothing_is_sent_to_an_archive_that_answers_with_somebody_else(
    pacs: Held, demographics: str, tmp_path: Path
) -> None:
    """It waits until the archive has the study; log and delivery say that keys are ignored."""
    pacs.images, pacs.ignores = [FOREIGN], frozenset({IMAGE})
    at = graded_house(tmp_path, pacs.url, demographics=demographics)
    for _ in range(3):
        work(at)
        grade_next(at.post())
        at.clock[0] += 900
    assert (at.states("delivery"), pacs.stored, at.states("revision")) == (["due", "due"], [], ["reported"])
    assert at.rows("study")[0]["hold"] is None
    waiting = at.rows("delivery")[0]
    assert (waiting["reason"], "ignores keys" in waiting["reason_text"]) == (Reason.STUDY_ABSENT, True)
    pacs.images.append(images()[0])
    at.clock[0] += 3600
    work(at)
    assert at.states("delivery") == ["accepted", "accepted"]
    assert len(pacs.stored) == 2


def test_ignored_keys_are_logged_without_what_came(pacs: Held, capsys: pytest.CaptureFixture[str]) -> None:
    pacs.images, pacs.ignores = [FOREIGN], frozenset({IMAGE})
    check(pacs)
    lines = [line for line in capsys.readouterr().out.splitlines() if "archive_ignores_keys" in line]
    assert len(lines) == 1
    assert "SOPInstanceUID" in lines[0]
    assert not any(value in lines[0] for value in ("P-2", "A-2", "1.2.2"))


def test_two_studies_with_the_image_hold_the_study(pacs: Held, tmp_path: Path) -> None:
    first = min(images(), key=lambda image: str(image.SOPInstanceUID))
    for study_uid in ("1.2.5", "1.2.6"):
        pacs.images.append(deepcopy(first))
        pacs.images[-1].StudyInstanceUID = study_uid
    at = graded_house(tmp_path, pacs.url, demographics="archive")
    work(at)
    (study,) = at.rows("study")
    assert (study["hold"], pacs.stored) == (Reason.IDENTITY_MISMATCH, [])
    assert "several studies or patients" in study["hold_text"]


# --- counts


def counted(pacs: Held) -> dict[str, int | None]:
    found: dict[str, int | None] = ask(
        pacs, lambda archive: {one.series_uid: one.images for one in series_of(archive, "1.2.1")}
    )
    return found


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("ignored", [set(), {STUDY}, {SERIES}, set(ANY)], ids=str)
def test_only_the_studys_series_and_images_are_counted(pacs: Held, counts: bool, ignored: set[str]) -> None:
    pacs.images = [
        FOREIGN,
        *(instance("1", "4", str(n)) for n in range(3)),
        *(instance("1", "5", str(n)) for n in range(2)),
    ]
    pacs.counts, pacs.ignores = counts, frozenset(ignored)
    assert counted(pacs) == {"1.2.1.4": 3, "1.2.1.5": 2}


@pytest.mark.parametrize("left_out", [{STUDY}, {SERIES}], ids=str)
def test_series_without_the_uids_asked_are_no_answer(pacs: Held, left_out: set[str]) -> None:
    pacs.images, pacs.counts, pacs.leaves_out = [OURS], True, frozenset(left_out)
    with pytest.raises(Unavailable, match="ignores or leaves out"):
        counted(pacs)


@pytest.mark.parametrize("shown", [(2, 3), (3, 2)])
def test_a_series_that_is_listed_twice_is_counted_by_its_images(shown: tuple[int, int]) -> None:
    """Once for each of two patients, and with different counts: neither is believed."""
    images = [instance("1", "4", str(n)) for n in range(4)]
    with archive() as peer:
        for count in shown:
            listed = peer.series.get("1.2.1", [])
            peer.lists(images, NumberOfSeriesRelatedInstances=count)
            peer.series["1.2.1"] = listed + peer.series["1.2.1"]
        with open_archive(Destination.model_validate(peer.dimse), "CAUDA", (), timeout_s=10) as opened:
            assert [(one.series_uid, one.images) for one in series_of(opened, "1.2.1")] == [("1.2.1.4", 4)]


# --- what it holds


def held(pacs: Held, *sop_uids: str, **places: tuple[str, str]) -> dict[str, str]:
    url = pacs.url.replace("stow+", "dicomweb+")
    settings = Settings(source=Source(url=url, timeout_s=5))
    known = {f"1.2.1.4.{name[1:]}": place for name, place in places.items()}
    return held_instances(settings, sop_uids, known)


HERE = ("1.2.1", "1.2.1.4")


@pytest.mark.parametrize("ignored", [set(), {SERIES}, {STUDY}, {IMAGE}, set(ANY)], ids=str)
@pytest.mark.parametrize("places", [{}, {"n7": HERE}])
def test_only_the_instance_that_was_asked_is_held(pacs: Held, ignored: set[str], places: dict[str, Any]) -> None:
    pacs.ignores = frozenset(ignored)
    pacs.images = [FOREIGN, instance("1", "4", "8")]
    assert held(pacs, "1.2.1.4.7", **places) == {}
    pacs.images = [FOREIGN, OURS]
    assert list(held(pacs, "1.2.1.4.7", **places)) == ["1.2.1.4.7"]


def test_an_instance_in_another_series_than_known_is_found_by_itself(pacs: Held) -> None:
    pacs.ignores = frozenset({SERIES})
    pacs.images = [instance("1", "5", "7", SOPInstanceUID="1.2.1.4.7")]
    assert list(held(pacs, "1.2.1.4.7", n7=HERE)) == ["1.2.1.4.7"]


def test_an_instance_in_two_studies_is_not_known_to_be_held(pacs: Held) -> None:
    pacs.images = [OURS, instance("1", "4", "7", StudyInstanceUID="1.2.6")]
    assert held(pacs, "1.2.1.4.7") == {}


def test_an_archive_that_holds_whatever_it_is_asked_holds_nothing(pacs: Held) -> None:
    pacs.images, pacs.ignores, pacs.echoes = [FOREIGN], frozenset({IMAGE}), frozenset({IMAGE})
    with pytest.raises(Unavailable, match="what nobody has"):
        held(pacs, "1.2.1.4.7")


# --- reading back


@pytest.mark.parametrize("ignored", [{IMAGE}, {SERIES, IMAGE}, set(ANY)], ids=str)
def test_other_objects_do_not_say_that_a_result_is_there_or_gone(pacs: Held, ignored: set[str]) -> None:
    def ours(archive: Archive) -> bool | None:
        return holds(archive, "1.2.1", "1.2.1.9901", "1.2.1.9901.1")

    assert ask(pacs, ours) is False
    pacs.images, pacs.ignores = [instance("1", "9901", "2"), OURS, FOREIGN], frozenset(ignored)
    assert ask(pacs, ours) is None
    pacs.images.append(RESULT)
    assert ask(pacs, ours) is True


def test_a_retraction_that_cannot_be_checked_is_warned_of(pacs: Held, tmp_path: Path) -> None:
    """The archive answers with other objects: nobody can say whether the results are hidden."""
    pacs.images = images()
    at = graded_house(tmp_path, pacs.url)
    work(at)
    assert at.write(retractions.retract, str(images()[0].StudyInstanceUID), Why.WRONG_GRADE)
    assert grade_next(at.post())
    work(at)
    pacs.ignores = frozenset({SERIES, IMAGE})
    at.clock[0] += 60
    work(at)
    note, page = at.rows("delivery")[2:]
    assert "cannot be asked what it shows" in note["reason_text"]
    assert (page["state"], len(pacs.stored)) == ("accepted", 4)


def test_a_rejection_note_waits_for_an_archive_that_answers_with_somebody_else(pacs: Held, tmp_path: Path) -> None:
    """Refused for good is what is not there any more; what is no answer does not say that."""
    pacs.images = images()
    at = graded_house(tmp_path, pacs.url)
    work(at)
    assert at.write(retractions.retract, str(images()[0].StudyInstanceUID), Why.WRONG_GRADE)
    assert grade_next(at.post())
    pacs.images, pacs.ignores = [FOREIGN], frozenset(ANY)
    work(at)
    assert (at.rows("delivery")[2]["state"], len(pacs.stored)) == ("due", 2)
    pacs.images = [FOREIGN, *images()]
    at.clock[0] += 3600
    work(at)
    assert at.rows("delivery")[2]["state"] == "accepted"


# --- series numbers


@pytest.mark.parametrize("ignored", [set(), {STUDY}, set(ANY)], ids=str)
def test_series_numbers_of_other_studies_are_not_in_use(pacs: Held, ignored: set[str]) -> None:
    pacs.images = [instance("2", "4", "7", SeriesNumber="9901"), instance("1", "4", "7", SeriesNumber="31")]
    pacs.ignores = frozenset(ignored)
    assert set(ask(pacs, lambda archive: numbers.listed(archive, "1.2.1"))) == {31}
