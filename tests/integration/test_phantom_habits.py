"""How studies are sent over time: every habit ends with every image stored by a real node, and is what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from dicom_peers import Storescp, storescp
from peers import HOST, free_port, until
from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt

from cauda.core.errors import Unavailable
from cauda.deploy import simulate
from cauda.deploy.doors import door
from cauda.deploy.simulate import Door
from cauda.models.phantom.copies import readdressed
from cauda.models.phantom.habits import HABITS
from cauda.models.phantom.imaging import Spoil
from cauda.models.phantom.protocol import ROUTINE, Protocol
from cauda.models.phantom.study import make_study

TINY = Protocol(
    kinds=ROUTINE, companions=True, sagittal_slices=2, axial_slices=1, coarse=4, spoil=Spoil(noise=0.005), vendor="ge"
)
pytestmark = pytest.mark.peers


@cache
def study(number: int = 0, vendor: str = "ge") -> list[Dataset]:
    return make_study(9, number, replace(TINY, vendor=vendor)).images


@pytest.fixture
def scp() -> Iterator[Storescp]:
    with storescp("-v") as peer:
        yield peer


def destination(port: int) -> Door:
    return door(f"dimse://STORESCP@{HOST}:{port}", yes=False)


def received(scp: Storescp) -> dict[str, Dataset]:
    """What lies in the node, the last version of each SOP instance."""
    found = [dcmread(path) for path in (scp.folder / "received").iterdir()]
    return {str(image.SOPInstanceUID): image for image in found}


# How many associations a habit makes, and how many images besides those of the study.
WAYS = {
    "study": ("one", "none"),
    "series": ("series", "none"),
    "image": ("images", "none"),
    "unreleased": ("one", "none"),
    "shuffled": ("one", "none"),
    "resend": ("two", "again"),
    "abort": ("two", "a third"),
    "late": ("two", "none"),
    "correction": ("two", "again"),
    "reconstruction": ("two", "axial"),
}


@pytest.mark.parametrize("habit", sorted(HABITS))
def test_every_habit_delivers_every_image(habit: str, scp: Storescp) -> None:
    images = study()
    uids = {str(image.SOPInstanceUID) for image in images}
    tally = simulate.push(destination(scp.port), [HABITS[habit](images)])
    axial = [image for image in images if image.get("SeriesDescription") == "Ax T2 frFSE"]
    times, more = WAYS[habit]
    turns = [str(image.SeriesInstanceUID) for image in images]
    series = 1 + sum(a != b for a, b in pairwise(turns))
    associations = {"one": 1, "two": 2, "series": series, "images": len(images)}[times]
    extra = {"none": 0, "again": len(images), "a third": len(images) // 3, "axial": len(axial)}[more]
    assert tally.whole
    assert tally.images == len(images) + extra
    assert tally.associations == associations
    assert [one.unsent for one in tally.studies] == [0]
    here = received(scp)
    assert uids <= set(here)
    assert len(here) == len(images) + (len(axial) if habit == "reconstruction" else 0)
    until(lambda: ends(scp).total() == associations, 20, "the associations' ends")
    assert ends(scp)["Abort"] == (1 if habit in {"abort", "unreleased"} else 0)
    names = {str(image.PatientName) for image in here.values()}
    assert names == {"PHANTOM^CAUDA^CORRECTED" if habit == "correction" else "PHANTOM^CAUDA"}


def ends(scp: Storescp) -> Counter[str]:
    """How associations ended, as the node saw it."""
    lines = scp.log.read_text().splitlines()
    return Counter("Abort" if "Abort" in line else "Release" for line in lines
                   if "Association Abort" in line or "Association Release" in line)  # fmt: skip


def test_copies_are_other_studies_with_the_same_pictures_and_whole_references() -> None:
    images = study()
    copies = readdressed(images, 1)
    assert [copy.get("PixelData") for copy in copies] == [image.get("PixelData") for image in images]
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "AccessionNumber"):
        assert not {str(copy.get(name)) for copy in copies} & {str(image.get(name)) for image in images}, name
    assert all(copy.PatientID.startswith("CAUDA-TEST-") for copy in copies)
    here = {str(copy.SOPInstanceUID) for copy in copies}
    referenced = {
        str(element.value)
        for copy in copies
        for element in copy.iterall()
        if element.keyword == "ReferencedSOPInstanceUID"
    }
    assert referenced
    assert referenced <= here


def test_a_corrected_study_is_the_same_study_of_a_renamed_patient() -> None:
    first, second = HABITS["correction"](study())
    assert [i.SOPInstanceUID for i in first.images] == [i.SOPInstanceUID for i in second.images]
    assert {str(i.PatientName) for i in second.images} == {"PHANTOM^CAUDA^CORRECTED"}
    assert second.after_s > 0
    assert {str(i.PatientName) for i in study()} == {"PHANTOM^CAUDA"}  # the first sending was not changed


def saved(folder: Path) -> Path:
    for number, image in enumerate(study()):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    (folder / "DICOMDIR.txt").write_text("not an image")
    return folder


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "cauda.deploy", "simulate", *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_command_replays_a_folder_and_says_what_was_acknowledged(scp: Storescp, tmp_path: Path) -> None:
    done = command("--to", f"dimse://STORESCP@{HOST}:{scp.port}", "--dir", str(saved(tmp_path)), "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert said["images"] == said["acknowledged"] == len(study()) == len(received(scp))
    assert 0 < said["ack_ms"]["p50"] <= said["ack_ms"]["p95"] <= said["ack_ms"]["p99"]


def test_an_image_that_is_refused_is_counted_by_its_status_and_the_command_fails(tmp_path: Path) -> None:
    """A load test that hides refusals proves nothing."""

    def full(event: evt.Event) -> int:
        return 0xA700 if str(event.request.AffectedSOPClassUID) == MRImageStorage else 0x0000

    with scp_that_answers(full) as port:
        to = f"dimse://STORESCP@{HOST}:{port}"
        done = command("--to", to, "--dir", str(saved(tmp_path)), "--json")
        plain = command("--to", to, "--dir", str(tmp_path))
    refused = sum(image.SOPClassUID == MRImageStorage for image in study())
    assert done.returncode == plain.returncode == 1
    assert json.loads(done.stdout)["failures"] == {"A700": refused}
    assert re.search(rf"^NOT STORED +{refused}: A700 \(out of resources\)$", plain.stdout, re.MULTILINE)


@contextmanager
def scp_that_answers(handler: Callable[[evt.Event], int]) -> Iterator[int]:
    """An SCP of pynetdicom itself with a handler of the test's."""
    ae = AE("STORESCP")
    ae.supported_contexts = AllStoragePresentationContexts
    port = free_port()
    server = ae.start_server((HOST, port), block=False, evt_handlers=[(evt.EVT_C_STORE, handler)])
    try:
        yield port
    finally:
        server.shutdown()


def test_nobody_there_is_said_and_fails() -> None:
    with pytest.raises(Unavailable, match="no association"):
        simulate.push(destination(free_port()), [HABITS["study"](study()[:1])])
