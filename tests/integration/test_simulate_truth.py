"""What `cauda simulate` says is true of the studies that it sent, compared with the images that a peer received."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dicom_peers import Storescp, storescp
from numpy.typing import NDArray
from peers import HOST
from pydicom import Dataset, dcmread

pytestmark = pytest.mark.peers

# By name, as the file says them; what a sac holds and what a disc consists of.
SAC, DISC = {"csf", "root", "cord"}, {"nucleus", "dry_nucleus", "annulus", "fragment"}


def simulate(scp: Storescp, *words: str) -> subprocess.CompletedProcess[str]:
    to = ["--to", f"dimse://STORESCP@{HOST}:{scp.port}", "--seed", "31", "--protocol", "quick", "--json"]
    return subprocess.run(
        [sys.executable, "-P", "-m", "cauda.deploy", "simulate", *to, *words],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


def images(scp: Storescp) -> dict[str, Dataset]:
    found = [dcmread(path) for path in (scp.folder / "received").iterdir()]
    return {str(image.SOPInstanceUID): image for image in found}


def pixel(image: Dataset, point: list[float]) -> tuple[float, float, float]:
    """(row, column, distance) of a patient point on an image, by PS3.3 C.7.6.2.1.1 alone."""
    across, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    offset = np.array(point) - np.array(image.ImagePositionPatient, float)
    row_mm, col_mm = image.PixelSpacing
    return float(offset @ down / row_mm), float(offset @ across / col_mm), float(offset @ np.cross(across, down))


def tissue_at(
    point: list[float], plane: str, sent: Mapping[str, Dataset], maps: Mapping[str, NDArray[np.uint8]], names: list[str]
) -> str:
    chosen = [uid for uid, image in sent.items() if plane in image.SeriesDescription]
    nearest = min(chosen, key=lambda uid: abs(pixel(sent[uid], point)[2]))
    row, column, apart = pixel(sent[nearest], point)
    assert abs(apart) < 3.0
    return names[maps[nearest][0, round(row), round(column)]]


def test_truth_lies_beside_what_was_sent_and_fits_it(tmp_path: Path) -> None:
    """Every image has a label map of its size; the points lie in the tissue they name; the sac's size is the map's."""
    with storescp() as scp:
        done = simulate(scp, "--truth", str(tmp_path))
        assert done.returncode == 0, done.stderr
        sent = images(scp)
    (study,) = {str(image.StudyInstanceUID) for image in sent.values()}
    truth = json.loads((tmp_path / f"{study}.json").read_text())
    with np.load(tmp_path / f"{study}.npz") as file:
        maps = {uid: file[uid] for uid in file.files}
    assert truth["study_uid"] == study
    assert maps.keys() == sent.keys()
    assert all(maps[uid].shape == (1, image.Rows, image.Columns) for uid, image in sent.items())
    names = [truth["tissues"][str(number)] for number in range(len(truth["tissues"]))]
    assert list(truth["levels"]) == ["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"]
    for level in truth["levels"].values():
        for plane in ("sag", "tra"):
            assert tissue_at(level["canal_mm"], plane, sent, maps, names) in SAC
        assert tissue_at(level["disc_mm"], "sag", sent, maps, names) in DISC
        across = {uid: image for uid, image in sent.items() if "tra" in image.SeriesDescription}
        nearest = min(across, key=lambda uid: abs(pixel(across[uid], level["canal_mm"])[2]))
        area = float(np.prod(across[nearest].PixelSpacing))
        sac = np.isin(maps[nearest], [number for number, name in enumerate(names) if name in SAC]).sum() * area
        assert sac == pytest.approx(level["sac_mm2"], rel=0.3, abs=10)  # the slice lies up to 2 mm beside the disc
        assert level["grades"]["RSNA 3-grade"] in {"Normal/Mild", "Moderate", "Severe"}
        assert level["grades"]["Schizas 7-grade"][0] == level["grades"]["Schizas 4-grade"]


@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips"])
def test_a_brain_is_sent_as_a_lumbar_spine_of_any_maker(vendor: str) -> None:
    """What a node is to be tried on: nothing but the picture gives it away, and its patient is a test patient."""
    with storescp() as scp:
        done = simulate(scp, "--anatomy", "brain", "--vendor", vendor)
        assert done.returncode == 0, done.stderr
        sent = images(scp)
    makers = {str(image.Manufacturer).split()[0].lower() for image in sent.values()}
    assert makers == {vendor}
    assert {image.BodyPartExamined for image in sent.values()} == {"LSPINE"}
    assert all(image.PatientID.startswith("CAUDA-TEST-") for image in sent.values())
    assert {image.Modality for image in sent.values()} == {"MR"}
    assert len(sent) > 40
    assert all(image.pixel_array.std() > 0 for image in sent.values())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--anatomy", "knee"], "brain"),
        (["--anatomy", "brain", "--truth", "x"], "--truth"),
        (["--anatomy", "brain", "--fault", "motion"], "--fault"),
        (["--anatomy", "brain", "--enhanced"], "--enhanced"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_sent(words: list[str], named: str) -> None:
    with storescp() as scp:
        done = simulate(scp, *words)
        assert done.returncode == 2
        assert named in done.stderr
        assert images(scp) == {}
