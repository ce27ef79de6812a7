"""Heat maps: what the model's answers hang on, computed on the very crops, on a page of its own, only where wanted."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import builders
import builders_results as given
import httpx
import numpy as np
import pytest
from analytic_spine import CoreEmbedder, Spine, parts, study
from listener_house import listener
from peers import HOST
from PIL import Image
from pydicom import Dataset, dcmread
from worker_house import House, house

from cauda.core.domain import F32, Level, Reason
from cauda.core.revisions import Fingerprint
from cauda.core.schema import RevisionKind
from cauda.core.settings import Settings
from cauda.deploy import analyze
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.occlusion import HeatMap, effect, heat_maps
from cauda.pipeline.results.context import ObjectIds
from cauda.pipeline.results.heat_page import render_heat_page
from cauda.pipeline.results.secondary_capture import heat_map
from cauda.worker.deliver import deliver_next
from cauda.worker.grade import grade_next
from cauda.worker.post import Post

SPINE = Spine(dark={1: 0.1})  # Severe at L4/L5


def spot(dark: float, around: float) -> F32:
    """A crop of 64 mm in 128 pixels whose middle 8 mm, all that `CoreEmbedder` sees, differ from the rest."""
    crop = np.full((128, 128), around, np.float32)
    crop[56:72, 56:72] = dark
    return crop


@pytest.mark.parametrize(("core", "around", "sign"), [(0.1, 0.9, 1), (0.9, 0.1, -1)])
def test_the_map_is_hot_where_the_model_looks_and_nowhere_else(core: float, around: float, sign: int) -> None:
    """Where a dark core makes the answer worse, covering it makes it milder; and the other way round."""
    found = effect(spot(core, around), Level.L4_L5, parts())
    row, column = np.unravel_index(np.abs(found).argmax(), found.shape)
    assert 56 <= row < 72
    assert 56 <= column < 72
    assert sign * found[64, 64] > 0.1
    far = found.copy()
    far[40:88, 40:88] = 0  # a cover of 16 pixels that touches the core reaches no further
    assert not far.any()


def test_a_place_that_the_model_does_not_look_at_has_no_effect_however_striking_it_is() -> None:
    crop = spot(0.5, 0.5)
    crop[0:20, 0:20] = 1.0
    assert np.abs(effect(crop, Level.L4_L5, parts())).max() < 1e-3


class Watching(CoreEmbedder):
    """Keeps the crops that it was given."""

    def __init__(self) -> None:
        self.seen: list[F32] = []

    def embed(self, crops: F32) -> F32:
        """As the other."""
        self.seen.extend(crops)
        return super().embed(crops)


def test_maps_are_of_the_very_crops_that_were_graded() -> None:
    watching = Watching()
    used = replace(parts(), embedder=watching)
    images = study(SPINE)
    report = analyse_study("1.2.3", images, used).report
    graded = list(watching.seen)
    maps = heat_maps(report, images, used)
    assert set(maps) == set(Level)
    for one in maps.values():
        assert min(float(np.abs(one.crop - crop).max()) for crop in graded) < 1e-4
    severe = maps[Level.L4_L5].effect
    row, column = np.unravel_index(severe.argmax(), severe.shape)
    assert 40 <= row < 88, "within a cover of the core, which is dark"
    assert 40 <= column < 88
    assert severe.max() > 0.02
    assert severe.max() > -5 * severe.min()


def test_no_map_explains_what_another_bundle_said_or_a_grade_that_does_not_come_again() -> None:
    images = study(SPINE)
    report = analyse_study("1.2.3", images, parts()).report
    assert report.bundle is not None
    other = replace(report, bundle=replace(report.bundle, digest="1" * 64))
    assert heat_maps(other, images, parts()) == {}
    assert heat_maps(replace(report, bundle=None), images, parts()) == {}
    first, *others = report.findings
    said = replace(report, findings=(replace(first, grade="Severe"), *others))
    assert set(heat_maps(said, images, parts())) == set(Level) - {first.level}
    withheld = replace(report, findings=(replace(first, grade=None, abstained=Reason.MOTION), *others))
    assert set(heat_maps(withheld, images, parts())) == set(Level) - {first.level}


def maps() -> dict[Level, HeatMap]:
    heat = np.zeros((128, 128), np.float32)
    heat[50:70, 50:70], heat[20:30, 90:100] = 0.4, -0.3
    crop = given.axial_picture(0.4, 3)
    return {Level.L3_L4: HeatMap(crop=crop, effect=heat), Level.L4_L5: HeatMap(crop=crop, effect=heat * 0.01)}


def heat_context() -> Any:
    ids = ObjectIds(sop_instance_uid="1.2.9.1", series_instance_uid="1.2.9", series_number=9903)
    return given.context(heat_map=ids)


@pytest.mark.peers
def test_the_page_validates_and_is_a_series_of_its_own_that_no_hanging_protocol_takes(tmp_path: Path) -> None:
    page = heat_map(given.report(), given.pictures(), maps(), given.sources(), heat_context())
    path = tmp_path / "heat.dcm"
    page.save_as(path, enforce_file_format=True)
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []
    assert page.SeriesDescription == "RESEARCH CAUDA AI canal unverified heat map"
    assert (page.Modality, page.BurnedInAnnotation, page.SeriesNumber) == ("OT", "NO", 9903)
    assert "PixelSpacing" not in page
    assert "FrameOfReferenceUID" not in page
    graded = {one.axial.sop_instance_uid for one in given.report().findings if one.axial and one.level in maps()}
    assert {one.ReferencedSOPInstanceUID for one in page.SourceImageSequence} == graded


@pytest.mark.peers
def test_the_page_says_what_it_is_and_shows_no_identity_no_date_and_no_number(tmp_path: Path) -> None:
    page = Image.fromarray(render_heat_page(given.report(), given.pictures(), maps(), heat_context()))
    path = tmp_path / "page.png"
    page.resize((page.width * 2, page.height * 2)).save(path)
    read = ""
    for mode in ("6", "11"):  # lines of text, and text scattered over pictures
        command = ["tesseract", str(path), "-", "--psm", mode]
        read += subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    text = "".join(read.split())
    for sentence in (
        "RESEARCH: NOT FOR DIAGNOSIS", "UNVERIFIED", "explains the model, not the patient", "no place alone matters",
        "not graded: no heat map", "no colour is no proof of health", "Cauda sends no alerts",
        "check against your own count", "Central canal only",
    ):  # fmt: skip
        assert "".join(sentence.split()) in text, sentence
    for secret in (*given.NAME.split("^"), given.PATIENT_ID, given.ACCESSION, "19640229", "Ref"):
        assert secret.lower() not in text.lower()
    assert not re.search(r"(19|20)\d\d[-/. ]?[01]\d[-/. ]?[0-3]\d|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b", read)
    assert not re.search(r"0[.,]\d|\d ?%", re.sub(r"starter ?0\.\d|Cauda ?0\.1\.0", "", read))


def test_what_raises_and_what_lowers_a_grade_are_told_apart_in_grey() -> None:
    """Rings are whole round the one and broken round the other."""
    same = maps()[Level.L3_L4]
    shown = []
    for sign in (1, -1):
        turned = {Level.L3_L4: HeatMap(crop=np.zeros_like(same.crop), effect=np.float32(sign) * np.abs(same.effect))}
        page = render_heat_page(given.report(), given.pictures(), turned, heat_context())
        bright = page.min(axis=2) > 200
        shown.append(int(bright.sum()))
    plain = int((render_heat_page(given.report(), given.pictures(), {}, heat_context()).min(axis=2) > 200).sum())
    whole, broken = (count - plain for count in shown)
    assert 0.3 * whole < broken < 0.7 * whole


def graded(at: House, wanted: bool) -> list[Dataset]:
    """The results of an analytic study, graded by the stand-ins with or without the setting."""
    grading = at.settings.grading.model_copy(update={"heat_map_page": wanted})
    post = replace(at.post(grading=grading), parts=parts())
    assert isinstance(post, Post)
    assert grade_next(post)
    last = at.rows("revision")[-1]["id"]
    return [dcmread(at.data / row["path"]) for row in at.rows("result", revision_id=last)]


def test_it_is_off_unless_the_setting_asks_for_it_and_is_rejected_with_what_it_belongs_to(tmp_path: Path) -> None:
    at = house(tmp_path, simulated=True, destinations=[f"folder:{tmp_path}/out"])
    assert at.settings.grading.heat_map_page is False
    images = [image.read() for image in study(SPINE)]
    study_uid = at.complete(images)
    sr, page, heat = graded(at, True)
    assert [one.SeriesNumber for one in (sr, page, heat)] == [9901, 9902, 9903]
    assert len({one.SeriesInstanceUID for one in (sr, page, heat)}) == 3
    assert heat.SeriesDescription.endswith("heat map")
    while deliver_next(at.post()):
        pass
    assert at.states("delivery") == ["accepted"] * 3
    for image in images:
        image.StudyDescription = "MR LSPINE corrected"
    at.file(images)
    at.freeze(study_uid, RevisionKind.REISSUE)
    *others, note = graded(at, False)
    assert len(others) == 2
    rejected = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {one.SeriesInstanceUID for one in rejected} == {one.SeriesInstanceUID for one in (sr, page, heat)}


def test_the_studys_page_shows_it_apart_from_the_grades(tmp_path: Path) -> None:
    """Folded in, under words that say what it is; and a study without one says nothing of it."""
    at = house(tmp_path, destinations=[f"folder:{tmp_path}/out"])
    first = at.complete([image.read() for image in study(SPINE)])
    (_, _, heat) = graded(at, True)
    other = at.complete([renamed(image.read()) for image in study(SPINE)])
    assert len(graded(at, False)) == 2
    with listener(at.data) as door:
        url = f"http://{HOST}:{door.ports.http}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as browser:
            page = browser.get(f"/studies/{first}").text
            (place,) = re.findall(r"<details><summary>Heat map: explains the model, not the patient</summary>\s*"
                                  r'<a href="([^"]+)">', page)  # fmt: skip
            assert place.endswith(f"/{heat.SOPInstanceUID}.png")
            shown = np.asarray(Image.open(BytesIO(browser.get(place).content)))
            assert np.array_equal(shown, heat.pixel_array)
            assert "Heat map" not in browser.get(f"/studies/{other}").text


def renamed(image: Dataset) -> Dataset:
    """The same picture in another study."""
    image.StudyInstanceUID += ".7"
    image.SeriesInstanceUID += ".7"
    image.SOPInstanceUID += ".7"
    return image


def test_analyze_writes_it_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    builders.write([image.read() for image in study(SPINE)], folder)
    used, settings = parts(), Settings(data=tmp_path)
    fingerprint = Fingerprint(bundle_digest="0", config_digest="c0", code_version="0")
    found = analyze.folder_of(folder)
    analysis = analyze.analyse(found, used, settings, lambda: 0.0)
    maps = analyze.heat(found, analysis, used)
    files = analyze.write(tmp_path / "out", found, analysis, settings, fingerprint, maps)
    assert [one.name for one in files][-2:] == ["heat.dcm", "heat.png"]
    page = dcmread(files[-2])
    assert page.SeriesDescription.endswith("heat map")
    assert np.array_equal(np.asarray(Image.open(files[-1])), page.pixel_array)
    others = [dcmread(tmp_path / "out" / name) for name in ("sr.dcm", "sc.dcm")]
    assert len({one.SOPInstanceUID for one in (page, *others)}) == 3
    analyze.write(tmp_path / "out", found, analysis, settings, fingerprint, {})
    assert not list((tmp_path / "out").glob("heat.*")), "a run without it leaves none of an earlier one"
