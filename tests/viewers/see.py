"""What OHIF and Orthanc's viewer make of a study with our results in it: `make viewers`.

Phantoms are graded by the starter bundle and delivered to an Orthanc beside their images; OHIF runs over its DICOMweb
in a headless Chromium. What the viewer says of itself is held against the files in the archive, read by pydicom; the
screenshots in out/viewers are for people.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.misc import is_dicom
from pydicom.uid import ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).parents[1]))

import spoilers
from builders import part10
from dicom_peers import Orthanc, orthanc
from ohif import DICOMWEB, ohif
from worker_house import House, house

from cauda.models.bundle import load_bundle
from cauda.models.phantom.protocol import Protocol
from cauda.models.phantom.study import make_study
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next
from cauda.worker.post import Post

HERE = Path(__file__).parent
STARTER = HERE.parents[1] / "models" / "starter"
WEB_VIEWER = "/usr/share/orthanc/plugins/libOrthancWebViewer.so"
SEED = 1
STUDIES = {
    "normal": 14,
    "graded": 15,
    "revised": 4,
    "not-graded": 5,
    "withheld": 0,
    "unmarked": 6,
}  # which phantom; "graded" has every grade
LATE = {"revised", "unmarked"}  # whose caudal slices come late; "unmarked" has no RESEARCH band
GRADES = {"Normal/Mild", "Moderate", "Severe"}


def main() -> None:
    """Make the studies, look at them, say what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dist", type=Path, default=HERE / "node_modules" / "ohif" / "package" / "dist")
    parser.add_argument("--out", type=Path, default=Path("out/viewers"))
    parser.add_argument("--only", action="append", help="a study's name, again for several")
    parser.add_argument("--study", type=Path, help="a folder with one study of your own, to be looked at alone")
    given = parser.parse_args()
    browser = shutil.which(os.environ.get("CHROMIUM", "chromium")) or ""
    if absent := missing(browser, given.dist):
        sys.exit("\n".join(absent))
    given.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="cauda-viewers-") as data,
        orthanc(Plugins=[DICOMWEB, WEB_VIEWER]) as pacs,
        ohif(given.dist, pacs.url) as url,
    ):
        at = house(Path(data), destinations=[pacs.dimse])
        studies = scene(at, pacs, given.only) if given.study is None else own(at, pacs, given.study)
        asked = [{"name": name, "uid": uid, "series": series(pacs, uid)} for name, uid in studies.items()]
        answer = subprocess.run(
            ["node", HERE / "look.mjs", browser, url, pacs.url, given.out],
            input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        (given.out / "seen.json").write_text(answer.stdout)
        looked = json.loads(answer.stdout)
        wrong = []
        for seen in looked:
            files = contents(pacs, studies[seen["name"]])
            Image.fromarray(newest(files)["OT"].pixel_array).save(given.out / f"{seen['name']}-page.png")
            wrong += [f"{seen['name']}: {what}" for what in faults(seen, files)]
    said = {one["label"].rpartition(": ")[2] for seen in looked for one in seen["measurements"]}
    if not given.only and given.study is None and not said >= GRADES:
        wrong.append(f"not every grade was seen, only {sorted(said)}")
    sys.exit("\n".join(wrong) or 0)


def missing(browser: str, dist: Path) -> list[str]:
    """What is not here, and how to get it."""
    here = {
        "chromium: sudo apt-get install chromium, or say where one is with CHROMIUM=": Path(browser or "/nowhere"),
        "Orthanc's DICOMweb: sudo apt-get install orthanc-dicomweb": Path(DICOMWEB),
        "Orthanc's viewer: sudo apt-get install orthanc-webviewer": Path(WEB_VIEWER),
        "OHIF: make tests/viewers/node_modules/.installed": dist / "index.html",
    }
    return [f"not found: {what}" for what, path in here.items() if not path.exists()]


def series(pacs: Orthanc, study_uid: str) -> dict[str, str]:
    """Orthanc's own identifiers of one series of every modality."""
    (study,) = (one for one in pacs.get("/studies?expand") if one["MainDicomTags"]["StudyInstanceUID"] == study_uid)
    found = pacs.get(f"/studies/{study['ID']}/series")
    return {one["MainDicomTags"]["Modality"]: one["ID"] for one in found}


def scene(at: House, pacs: Orthanc, only: Sequence[str] | None) -> dict[str, str]:
    """Study Instance UIDs by what became of the study; images and results are in the archive."""
    parts = load_bundle(STARTER, None)
    unmarked = replace(parts, info=replace(parts.info, clinical=True))
    made = {}
    for name, number in STUDIES.items():
        if only and name not in only:
            continue
        post = replace(at.post(), parts=unmarked if name == "unmarked" else parts)
        drawn = Protocol(balanced=True, syntax=ExplicitVRLittleEndian)
        images = withheld() if name == "withheld" else make_study(SEED, number, drawn).images
        axial = [one for one in images if abs(float(one.ImageOrientationPatient[4])) > 0.5]
        late = axial if name == "not-graded" else axial[2 * len(axial) // 3 :] if name in LATE else []
        later = {image.SOPInstanceUID for image in late}
        first = [image for image in images if image.SOPInstanceUID not in later]
        for image in first if name == "not-graded" else images:
            pacs.post("/instances", part10(image))
        made[name] = at.complete(first)
        work(post)
        if name in LATE:
            at.complete(late)
            work(post)
    return made


def own(at: House, pacs: Orthanc, folder: Path) -> dict[str, str]:
    """As `scene`, of one study in files. Its screenshots show a patient's images: they are for nobody else."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and is_dicom(path))
    images = [pydicom.dcmread(path) for path in files]
    for image in images:
        if image.file_meta.TransferSyntaxUID.is_compressed:
            image.decompress(generate_instance_uid=False)
        pacs.post("/instances", part10(image))
    uid = at.complete(images)
    work(replace(at.post(), parts=load_bundle(STARTER, None)))
    return {"own": uid}


def withheld() -> list[Dataset]:
    """A phantom whose L3/L4 moved; `test_quality_faults.py` holds that just this level is withheld."""
    images = make_study(4711, 0, Protocol(sagittal_slices=9, axial_slices=3, syntax=ExplicitVRLittleEndian)).images
    axial = [one for one in images if abs(float(one.ImageOrientationPatient[4])) > 0.5]
    for image in sorted(axial, key=lambda one: int(one.InstanceNumber))[6:9]:
        still = image.pixel_array.astype(np.float64)
        moved = spoilers.moved(still, 0.6, 3.0, np.random.default_rng(8))
        image.PixelData = moved.clip(0, 4095).round().astype("<u2").tobytes()
    return list(images)


def work(post: Post) -> None:
    """Grade and deliver until nothing is due."""
    while grade_next(post) or deliver_next(post):
        pass


def contents(pacs: Orthanc, study_uid: str) -> list[Dataset]:
    """The study's files as the archive keeps them."""
    return [pydicom.dcmread(io.BytesIO(pacs.file(one["id"]))) for one in pacs.instances(study_uid)]


def newest(files: Sequence[Dataset]) -> dict[str, Dataset]:
    """The newest object of each modality."""
    return {one.Modality: one for one in sorted(files, key=lambda one: one.get("SeriesTime") or "")}


def faults(seen: dict[str, Any], files: Sequence[Dataset]) -> Iterator[str]:
    """What the viewer showed and should not have, or the other way round."""
    of = {modality: [one for one in files if one.Modality == modality] for modality in ("MR", "OT", "SR")}
    wanted = (0, 1) if seen["name"] == "not-graded" else (2, 2) if seen["name"] in LATE else (1, 1)
    if (len(of["SR"]), len(of["OT"])) != wanted:
        yield f"the archive has {len(of['SR'])} SR and {len(of['OT'])} SC"
    images = {one.SeriesInstanceUID for one in of["MR"]}
    for opened in (seen["opened"], *seen["ways"]):
        if opened["series"] not in images:
            yield f"opens on {opened}, which is none of the images' series"
    last = newest(files)
    page = last["OT"]
    if f"/{page.SOPInstanceUID}/" not in seen["capture"]["image"]:
        yield f"shows {seen['capture']} for the newest Secondary Capture"
    for window in seen["laid"]:
        at = f"in a window of {window['width']} x {window['height']}"
        if not any(one["what"] == "film-loop control" for one in window["over"]):
            yield f"has no film-loop control {at}"
        for one in window["over"]:
            if not quiet(page.pixel_array, one["box"]):
                yield f"lays {one['what']!r} over words of the page, at {[round(n) for n in one['box']]} of it {at}"
    told = sorted(regions(last["SR"])) if "SR" in last else []
    if sorted((one["label"], one["sop"]) for one in seen["measurements"]) != told:
        yield f"takes over {seen['measurements']}, but the newest report has {told}"
    for jump in seen["jumps"]:
        if not jump["there"]:
            yield f"jumps to {jump['image']} for {jump['label']}, not to {jump['wanted']}"
    if seen["name"] == "withheld" and not any("NOT GRADED: motion" in one["label"] for one in seen["measurements"]):
        yield f"has no level that was not graded among {[one['label'] for one in seen['measurements']]}"
    yield from (f"page error {error}" for error in seen["errors"])


def quiet(page: NDArray[np.uint8], box: Sequence[float]) -> bool:
    """Whether no mark stands in a box of the page (left, top, right, bottom): each line there is of one colour."""
    left, top, right, bottom = (max(round(edge), 0) for edge in box)
    part = page[top:bottom, left:right]
    return bool((part == part[:, :1]).all())


def regions(report: Dataset) -> list[tuple[str, str]]:
    """Tracking identifier and SOP Instance UID of every measurement group with a 2D region."""
    found = []
    for group in nodes(report):
        inside = list(nodes(group))
        if concept(group) != "125007":
            continue
        label = [one.TextValue for one in inside if concept(one) == "112039"]
        images = [
            source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for one in inside
            if one.ValueType == "SCOORD"
            for source in one.ContentSequence
        ]
        found += [(label[0], image) for image in images]
    return found


def nodes(item: Dataset) -> Iterator[Dataset]:
    """Every content item below one."""
    for below in item.get("ContentSequence", ()):
        yield below
        yield from nodes(below)


def concept(item: Dataset) -> str | None:
    """The code value of its name."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else None


if __name__ == "__main__":
    main()
