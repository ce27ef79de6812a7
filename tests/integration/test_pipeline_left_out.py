"""What is said of images that were left out, and why a level has no grade: each reason is true, and none is silent.

The sentences are written out here; the spine is written down as formulas.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import builders_results as given
import numpy as np
import pytest
from analytic_spine import Spine, axial_block, parts, sagittal, study
from PIL import Image
from pydicom import Dataset, dcmwrite

from cauda.core.domain import Reason, Report, SeriesRole, SeriesUse, Status
from cauda.core.errors import Rejected
from cauda.deploy.analyze import folder_of
from cauda.pipeline import report_json
from cauda.pipeline.analyse import Analysis, analyse_study
from cauda.pipeline.choosing import cuts
from cauda.pipeline.frames import frames
from cauda.pipeline.results.notices import render_not_analysed
from cauda.pipeline.results.page import render_page
from cauda.pipeline.results.structured_report import structured_report
from cauda.pipeline.source import SourceImage

SPINE = Spine()
AXIAL, SAGITTAL = "1.2.3.2", "1.2.3.1"
NUMBERING = "Levels counted up from the sacrum, assuming five lumbar vertebrae; check against your own count."


def numbered(images: Sequence[SourceImage]) -> list[SourceImage]:
    """Series 5 is axial, series 3 sagittal T2, series 4 sagittal T1."""
    numbers = {AXIAL: 5, SAGITTAL: 3, "1.2.3.3": 4}
    for image in images:
        image.header.SeriesNumber = numbers[image.header.SeriesInstanceUID]
    return list(images)


def of(images: Sequence[SourceImage], series: str) -> list[SourceImage]:
    return [image for image in images if image.header.SeriesInstanceUID == series]


def broken(image: SourceImage) -> SourceImage:
    def read() -> Dataset:
        whole = image.read()
        whole.PixelData = whole.PixelData[:100]
        return whole

    return SourceImage(header=image.header, read=read)


def analysed(images: Sequence[SourceImage]) -> Analysis:
    return analyse_study("1.2.3", images, parts())


def written(report: Report, images: Sequence[SourceImage] | None = None) -> str:
    """The SR's text, as it stands in the file."""
    sources = given.sources() if images is None else [image.header for image in images]
    sr = structured_report(report, sources, given.context())
    buffer = BytesIO()
    sr.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue().decode("latin-1")


def seen(pixels: Any, tmp_path: Path) -> str:
    """What tesseract reads of a page, without blanks."""
    page, path = Image.fromarray(pixels), tmp_path / "page.png"
    page.resize((page.width * 2, page.height * 2)).save(path)
    done = subprocess.run(
        ["tesseract", str(path), "-", "--psm", "6"], capture_output=True, text=True, check=True, timeout=120
    )
    return "".join(done.stdout.split())


@pytest.mark.peers
def test_images_that_are_left_out_are_counted_and_named_by_series(tmp_path: Path) -> None:
    """On the page, in the SR and in report.json."""
    images = numbered(study(SPINE))
    axial, middle = of(images, AXIAL), of(images, SAGITTAL)[6]
    del axial[2].header.ImagePositionPatient
    del axial[7].header.ImagePositionPatient
    del axial[8].header.ImageOrientationPatient
    del middle.header.ImagePositionPatient
    images[images.index(axial[12])] = broken(axial[12])
    analysis = analysed(images)
    reasons = "no orientation, so no position (1), no position (2), cannot be decoded (1)"
    said = (
        "Series 3: 1 of 13 images left out: no position.",
        f"Series 5: 4 of 25 images left out: {reasons}.",
    )
    text = written(analysis.report, images)
    page = seen(render_page(analysis.report, analysis.pictures, given.context()), tmp_path)
    for line in said:
        assert line in text
        assert "".join(line.split()) in page
    assert text.count("left out") == len(said)
    series = {one["series_number"]: one for one in report_json.to_json(analysis.report, 1)["series"]}
    assert series[5]["left_out"] == {"no_position": 2, "no_orientation": 1, "undecodable": 1}
    assert series[3]["left_out"] == {"no_position": 1}
    assert series[4]["left_out"] == {}
    assert [series[number]["images"] for number in (3, 4, 5)] == [13, 13, 25]


def test_a_study_of_which_everything_is_used_says_nothing() -> None:
    images = numbered(study(SPINE))
    assert "left out" not in written(analysed(images).report, images)


def test_the_counts_are_read_back_from_a_stored_report() -> None:
    """The objects are made again from it when identity changes."""
    images = numbered(study(SPINE))
    del of(images, AXIAL)[2].header.ImagePositionPatient
    report = analysed(images).report
    assert report_json.from_json(report_json.to_json(report, 1)) == report


def without(keyword: str) -> Callable[[SourceImage], SourceImage]:
    def change(image: SourceImage) -> SourceImage:
        del image.header[keyword]
        return image

    return change


def stated(**tags: Any) -> Callable[[SourceImage], SourceImage]:
    def change(image: SourceImage) -> SourceImage:
        for keyword, value in tags.items():
            setattr(image.header, keyword, value)
        return image

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("ImagePositionPatient"), "no position"),
        (without("ImageOrientationPatient"), "no orientation, so no position"),
        (without("PixelSpacing"), "no pixel size"),
        (stated(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "no valid geometry"),
        (stated(SamplesPerPixel=3), "not a grey slice"),
        (broken, "cannot be decoded"),
    ],
)
def test_each_reason_for_leaving_an_image_out_is_its_own(
    change: Callable[[SourceImage], SourceImage], words: str
) -> None:
    images = numbered([*sagittal(SPINE), *axial_block(SPINE, 1), *axial_block(SPINE, 2, start=6)])
    images[-1] = change(images[-1])
    assert f"Series 5: 1 of 10 images left out: {words}." in written(analysed(images).report, images)


def test_two_different_pictures_in_one_place_are_both_left_out_and_counted() -> None:
    images = [*sagittal(SPINE), *axial_block(SPINE, 1), *axial_block(SPINE, 2, start=6)]
    twin = axial_block(replace(SPINE, fluid=500.0), 1, start=11)[0]
    images = numbered([*images, twin])
    text = written(analysed(images).report, images)
    assert "Series 5: 2 of 11 images left out: another picture in the same place." in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("ImagePositionPatient"), "NOT GRADED: images that were left out may show this level"),
        (broken, "NOT GRADED: images cannot be decoded"),
        (None, "Not imaged: no axial slice at this level"),
    ],
)
def test_a_level_whose_images_were_all_left_out_is_not_called_not_imaged(
    change: Callable[[SourceImage], SourceImage] | None, reason: str
) -> None:
    images = numbered(study(SPINE))
    lowest = of(images, AXIAL)[20:]
    others = [image for image in images if image not in lowest]
    images = [*others, *(change(image) for image in lowest if change is not None)]
    report = analysed(images).report
    assert [one.grade is not None for one in report.findings] == [True, True, True, True, False]
    assert f"L5/S1 canal: {reason}" in written(report, images)


def test_the_canal_outside_the_images_is_not_called_not_imaged() -> None:
    """The plane cuts the canal at L4/L5, 30 mm beyond the picture's edge."""
    images = [*sagittal(SPINE), *axial_block(SPINE, 2), *axial_block(SPINE, 1, start=6)]
    for image in images[-5:]:
        x, y, z = image.header.ImagePositionPatient
        image.header.ImagePositionPatient = [x + 110, y, z]
    text = written(analysed(numbered(images)).report, images)
    assert "L4/L5 canal: NOT GRADED: canal outside the field of the axial images" in text
    assert "L5/S1 canal: Not imaged: no axial slice at this level" in text


def test_a_slice_just_too_far_to_show_a_level_does_not_say_that_its_canal_is_outside() -> None:
    """A slice that is graded lies within 5 mm of the disc's point: one 5.5 mm away does not show the level."""
    (frame,) = frames(axial_block(SPINE, 3)[2])  # not tilted
    x, y, z = SPINE.plane_point(3)
    canal = np.array([(x, y, z + offset) for offset in range(-40, 41)], dtype=np.float64)
    assert cuts(frame, (x, y, z + 4.5), canal)
    assert not cuts(frame, (x, y, z + 5.5), canal)
    assert not cuts(frame, (x, y, z - 5.5), canal)


def test_a_sagittal_series_without_positions_is_not_called_missing() -> None:
    images = numbered([*sagittal(SPINE), *axial_block(SPINE, 1)])
    for image in images[:13]:
        del image.header.ImagePositionPatient
    report = analysed(images).report
    assert {one.abstained for one in report.findings} == {Reason.LEVELS_NOT_COUNTED}
    assert "Series 3: 13 of 13 images left out: no position." in written(report, images)
    missing = analysed(images[13:]).report
    assert {one.abstained for one in missing.findings} == {Reason.NO_SAGITTAL}


@pytest.mark.peers
def test_a_spine_that_is_not_recognised_says_how_many_discs_were_found(tmp_path: Path) -> None:
    report = analysed(study(Spine(count=1))).report
    assert (report.status, report.reason) == (Status.REJECTED, Reason.NOT_LUMBAR)
    assert report.reason_text == "lumbar spine not recognised: 1 disc found"
    page = seen(render_not_analysed(report, given.context()), tmp_path)
    assert "Lumbarspinenotrecognised:1discfound." in page
    assert "notalumbarspine" not in page


@pytest.mark.peers
@pytest.mark.parametrize(
    "report",
    [
        given.no_bundle(),
        given.report(level_doubt=Reason.TRANSITIONAL),
        given.report(
            *(given.not_graded(one.level, Reason.LEVELS_NOT_COUNTED) for one in given.mixed()), levels_from=None
        ),
    ],
    ids=["no bundle", "doubt", "not counted"],
)
def test_counting_from_the_sacrum_is_claimed_only_where_it_was_done(report: Report, tmp_path: Path) -> None:
    """CLINICAL.md 9."""
    assert NUMBERING not in written(report)
    assert "countedupfromthesacrum" not in seen(render_page(report, given.pictures(), given.context()), tmp_path)
    assert NUMBERING in written(given.report())


def test_many_series_with_images_left_out_take_seven_lines() -> None:
    """A page of them would hide the rest."""
    series = tuple(
        SeriesUse(
            series_instance_uid=f"1.2.{n}", role=SeriesRole.OTHER, slices=9, series_number=n, images=10,
            left_out={Reason.NO_POSITION: 1},
        )
        for n in range(1, 10)
    )  # fmt: skip
    text = written(given.report(series=series))
    assert text.count("left out") == 7
    assert "3 more series: 3 images left out." in text


def layout(root: Path, images: Sequence[SourceImage], *, shared: bool) -> Path:
    """A folder a series, a file an image: ``1.dcm``, ``2.dcm``, ... Shared: UIDs count from 1 in each series."""
    for image in images:
        number = int(image.header.InstanceNumber)
        whole = deepcopy(image.read())
        if shared:
            whole.SOPInstanceUID = f"1.2.3.9.{number}"
        path = root / whole.SeriesInstanceUID / f"{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        dcmwrite(path, whole, enforce_file_format=True)
    return root


def test_a_folder_whose_series_share_sop_instance_uids_is_refused_with_the_reason(tmp_path: Path) -> None:
    """As the RSNA Kaggle data do: by UID alone 5 of 18 images would be dropped in silence."""
    images = [*sagittal(SPINE), *axial_block(SPINE, 1)]
    with pytest.raises(Rejected) as refused:
        folder_of(layout(tmp_path / "shared", images, shared=True))
    assert "5 files" in refused.value.message
    assert "have the SOP Instance UID of another image of the study" in refused.value.message
    assert len(folder_of(layout(tmp_path / "own", images, shared=False)).paths) == len(images)


def test_copies_of_a_file_are_not_taken_for_other_images(tmp_path: Path) -> None:
    root = layout(tmp_path, axial_block(SPINE, 1), shared=True)
    copy = root / "again" / "1.dcm"
    copy.parent.mkdir()
    copy.write_bytes((root / AXIAL / "1.dcm").read_bytes())
    found = folder_of(root)
    assert (len(found.paths), found.copies) == (5, 1)


def test_points_stay_true_when_the_middle_sagittal_slice_has_no_position() -> None:
    images = study(SPINE)
    del of(images, SAGITTAL)[6].header.ImagePositionPatient
    for number, finding in enumerate(reversed(analysed(images).report.findings)):
        assert finding.point_mm is not None
        assert np.linalg.norm(np.subtract(finding.point_mm, SPINE.disc_point(number))) < 4.5
