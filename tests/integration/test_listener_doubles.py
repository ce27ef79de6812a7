"""Two studies with the same images, over the wire: what a real archive says of them, and what an operator says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import builders
import command
import pytest
from dicom_peers import orthanc
from key_ignoring_archive import key_ignoring
from listener_house import House, listener, store
from logged import logged
from peers import until
from pydicom import Dataset
from sqlalchemy import update
from worker_house import house as worker_house

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.schema import RevisionKind, RevisionState
from cauda.core.settings import Settings, Source
from cauda.listener.archive import Asker
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next

pytestmark = pytest.mark.peers

OTHER = "1.2.99.1"
EXPORT = {"StudyInstanceUID": OTHER, "PatientID": "TRIAL-001", "PatientName": "TRIAL-001"}


def holds(house: House) -> Mapping[str, str | None]:
    return {row["uid"]: row["hold"] for row in house.rows(schema.study)}


def sent(house: House, images: Sequence[Dataset]) -> None:
    before = len(house.rows(schema.instance))
    store(house.ports.dimse, images)
    until(lambda: len(house.rows(schema.instance)) == before + len(images), what="images")


@pytest.mark.parametrize(("protocol", "moved"), [("dimse", True), ("dimse", False), ("web", True)])
def test_orthanc_decides_whether_images_were_moved(tmp_path: Path, *, moved: bool, protocol: str) -> None:
    """The original was graded; its results are taken back only where the archive has the images under the new study."""
    images, copies = builders.mr_study(31), builders.mr_study(31, **EXPORT)
    original = str(images[0].StudyInstanceUID)
    plugins = {"Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"]} if protocol == "web" else {}
    with orthanc(**plugins) as pacs:
        url = pacs.dimse if protocol == "dimse" else f"dicomweb+{pacs.url}/dicom-web"
        pacs.store(builders.write(copies if moved else images, tmp_path / "there"))
        source = {"url": url, "ask_every_s": 0.5}
        with listener(tmp_path / "data", source=source) as house, logged(StringIO()):
            sent(house, images)
            until(lambda: house.rows(schema.revision), what="it is frozen")
            with house.book.write() as conn:
                conn.execute(update(schema.revision).values(state=RevisionState.REPORTED))
            sent(house, copies)
            if moved:
                until(lambda: holds(house) == {original: Reason.MOVED, OTHER: None}, what="the archive's word")
                states = [row["state"] for row in house.rows(schema.revision) if row["study_uid"] == original]
                assert states == [RevisionState.RETRACTED]
            else:
                until(lambda: holds(house) == {original: None, OTHER: Reason.KNOWN_ELSEWHERE}, what="the copy held")


@pytest.mark.parametrize("echoes", [set(), {"SOPInstanceUID"}], ids=["ignores", "echoes"])
def test_an_archive_that_ignores_keys_decides_nothing(tmp_path: Path, echoes: set[str]) -> None:
    """It answers every question about an image with one of the copy; one that does not is believed."""
    images, copies = builders.mr_study(32), builders.mr_study(32, **EXPORT)
    with key_ignoring("dimse") as pacs:
        at = worker_house(tmp_path / "data")
        at.file(images)
        at.file(copies)
        asker = Asker(at.ledger, Settings(source=Source(url=pacs.url, timeout_s=5)))
        pacs.images = [builders.mr_image(OTHER, "1.2.99.2", "1.2.99.3")]
        pacs.ignores, pacs.echoes = frozenset({"SOPInstanceUID"}), frozenset(echoes)
        assert asker.decide_due(0.0) == 0
        assert {row["hold"] for row in at.rows("study")} == {None, Reason.KNOWN_ELSEWHERE}
        pacs.images, pacs.ignores, pacs.echoes = copies, frozenset(), frozenset()
        assert asker.decide_due(1.0) == 0  # asked a moment ago
        assert asker.decide_due(100.0) == 1
        assert {row["hold"] for row in at.rows("study")} == {None, Reason.MOVED}


@pytest.mark.parametrize(("words", "original"), [((), Reason.MOVED), (("--copy",), None)])
def test_an_operator_decides_after_results_were_delivered(
    tmp_path: Path, words: tuple[str, ...], original: str | None
) -> None:
    """Released it counts as where the images were moved to: the original's results are taken back. As a copy not."""
    at = worker_house(tmp_path / "data", destinations=[f"folder:{tmp_path}/out"])
    uid = at.complete(builders.mr_study(33))
    while grade_next(at.post()) or deliver_next(at.post()):
        pass
    delivered = len(list((tmp_path / "out").glob("*/*.dcm")))
    assert delivered
    at.complete(builders.mr_study(33, **EXPORT))
    assert {row["uid"]: row["hold"] for row in at.rows("study")} == {uid: None, OTHER: Reason.KNOWN_ELSEWHERE}
    assert not grade_next(at.post())  # held
    done = command.cauda("studies", "release", OTHER, *words, "--data", at.data)
    assert done.returncode == 0, done.stderr
    assert ("taken back" in done.stdout) is (original is not None)
    while grade_next(at.post()) or deliver_next(at.post()):
        pass
    assert {row["uid"]: row["hold"] for row in at.rows("study")} == {uid: original, OTHER: None}
    kinds = {row["kind"]: row["state"] for row in at.rows("revision", study_uid=uid)}
    assert (RevisionKind.RETRACT in kinds) is (original is not None)
    assert at.rows("revision", study_uid=OTHER)[0]["state"] in {RevisionState.REPORTED, RevisionState.REJECTED}
