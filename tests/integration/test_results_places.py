"""Where the page says a slice is: each place names one image, or says how to find it.

The truth is where the slices were put: series and instance numbers, locations and the order along the spine are given
here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import builders_results as given
import pytest
from analytic_spine import Spine, parts, study
from PIL import Image

from cauda.core.domain import Level, Report
from cauda.pipeline.analyse import analyse_study
from cauda.pipeline.illustrate import pictures
from cauda.pipeline.pictures import Place
from cauda.pipeline.results import words
from cauda.pipeline.results.page import render_page
from cauda.pipeline.source import SourceImage

AXIAL, SAGITTAL, T1 = "1.2.3.2", "1.2.3.1", "1.2.3.3"
SERIES = {AXIAL: 5, SAGITTAL: 3, T1: 4}


def images(change: Callable[[Any, str, int], None] = lambda *_: None) -> list[SourceImage]:
    """The study; of the five axial blocks, head first, each has images 1-5, 6-10, ... unless ``change`` says else."""
    made = study(Spine())
    for image in made:
        header = image.header
        header.SeriesNumber = SERIES[header.SeriesInstanceUID]
        change(header, str(header.SeriesInstanceUID), int(header.InstanceNumber))
    return made


@cache
def report() -> Report:
    """Nothing that is changed here changes what is graded."""
    return analyse_study("1.2.3", images(), parts()).report


def places(change: Callable[[Any, str, int], None]) -> dict[Level, str]:
    shown = pictures(report(), images(change))
    return {level: words.place_words(tile.place) for level, tile in shown.tiles.items()}


def number_of(level: Level) -> int:
    """The number that the graded image has in the unchanged study: the last part of its UID."""
    (finding,) = (one for one in report().findings if one.level is level)
    assert finding.axial is not None
    return int(finding.axial.sop_instance_uid.rsplit(".", 1)[1])


def test_numbers_that_are_unique_are_enough() -> None:
    found = places(lambda *_: None)
    assert found == {level: f"Se 5 Im {number_of(level)}" for level in Level}
    assert words.place_remarks([tile.place for tile in pictures(report(), images()).tiles.values()]) == ()


def ordinal(number: int) -> str:
    """1st, 2nd, ... 25th."""
    return f"{number}{'th' if number in range(11, 14) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def restart(header: Any, series: str, number: int) -> None:
    if series == AXIAL:
        header.InstanceNumber = (number - 1) % 5 + 1


def test_numbers_that_start_again_in_each_block_are_told_apart_by_the_order_from_the_head() -> None:
    """Five images have each number; those of the block at L1/L2 are the first from the head."""
    endings = dict(zip(Level, ("1st", "2nd", "3rd", "4th", "5th"), strict=True))
    assert places(restart) == {
        level: f"Se 5 Im {(number_of(level) - 1) % 5 + 1}, {endings[level]} of 5 from head" for level in Level
    }


def test_numbers_that_start_again_are_told_apart_by_the_slice_location_where_images_state_it() -> None:
    def change(header: Any, series: str, number: int) -> None:
        restart(header, series, number)
        header.SliceLocation = f"{-1.5 * number}"

    assert places(change) == {
        level: f"Se 5 Im {(number_of(level) - 1) % 5 + 1} Loc {-1.5 * number_of(level):.1f}" for level in Level
    }


@pytest.mark.parametrize("location", ["7", ""])
def test_a_slice_location_that_others_of_the_number_have_too_is_not_given(location: str) -> None:
    def change(header: Any, series: str, number: int) -> None:
        restart(header, series, number)
        header.SliceLocation = location

    assert all("Loc" not in said and said.endswith("of 5 from head") for said in places(change).values())


def test_images_without_numbers_are_counted_from_the_head() -> None:
    def change(header: Any, series: str, number: int) -> None:
        del header.InstanceNumber

    assert places(change) == {level: f"Se 5, {ordinal(number_of(level))} of 25 from head" for level in Level}


def test_a_series_number_that_two_series_have_is_told_by_the_number_of_images() -> None:
    def change(header: Any, series: str, number: int) -> None:
        header.SeriesNumber = 5

    assert places(change) == {level: f"Se 5 (25 images) Im {number_of(level)}" for level in Level}


def test_a_series_without_number_is_told_by_the_number_of_its_images() -> None:
    def change(header: Any, series: str, number: int) -> None:
        del header.SeriesNumber

    assert places(change) == {level: f"no Se (25 images) Im {number_of(level)}" for level in Level}


def test_the_sagittal_picture_is_counted_from_the_patients_right() -> None:
    """Slices run from x = -24 mm, the patient's right, in steps of 4 mm; the canal lies at 3 mm: the 7th or 8th."""

    def change(header: Any, series: str, number: int) -> None:
        if series == SAGITTAL:
            header.InstanceNumber = 1

    shown = pictures(report(), images(change)).sagittal
    assert shown is not None
    assert words.place_words(shown.place) in {"Se 3 Im 1, 7th of 13 from right", "Se 3 Im 1, 8th of 13 from right"}


def test_two_series_of_one_number_and_as_many_images_are_told_apart_by_their_echo_time() -> None:
    """Sagittal T1 (11 ms) and T2 (100 ms) have 13 images each."""

    def change(header: Any, series: str, number: int) -> None:
        header.SeriesNumber = 5

    shown = pictures(report(), images(change)).sagittal
    assert shown is not None
    assert words.place_words(shown.place).startswith("Se 5 (13 images, TE 100) Im ")


def seen(pixels: Any, tmp_path: Path) -> str:
    page, path = Image.fromarray(pixels), tmp_path / "page.png"
    page.resize((page.width * 2, page.height * 2)).save(path)
    command = ["tesseract", str(path), "-", "--psm", "6"]
    return "".join(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.split())


@pytest.mark.peers
def test_the_page_says_how_to_find_an_image_that_its_number_does_not_name(tmp_path: Path) -> None:
    changed = pictures(report(), images(restart))
    page = seen(render_page(report(), changed, given.context()), tmp_path)
    for ending in ("1st", "2nd", "3rd", "4th", "5th"):
        assert f"{ending}of5fromhead" in page
    assert "countedamongtheseries" in page
    usual = seen(render_page(report(), pictures(report(), images()), given.context()), tmp_path)
    assert "fromhead" not in usual


def edges(page: Any, row: int) -> Sequence[int]:
    """The columns of a page's row strip that hold ink."""
    strip = page[row : row + 40].max(axis=2)
    return [column for column in range(strip.shape[1]) if strip[:, column].max() > 150]


def test_the_longest_place_leaves_the_words_their_room() -> None:
    """The words of a row end before its place begins: a gap of 10 pixels without ink between them."""
    tile = given.tile(
        Level.L3_L4, 0.6, place=Place(
            series_number=None, instance_number=104, rank=(101, 112, "right"), series_images=112
        ),
    )  # fmt: skip
    shown = given.Pictures(tiles={Level.L3_L4: tile}, sagittal=given.sagittal_picture((Level.L3_L4,)))
    page = render_page(given.report(), shown, given.context())
    columns = edges(page, 127 + 2 * 42)
    gaps = [b - a for a, b in pairwise(columns) if a > 300]
    assert max(gaps) >= 12
    assert columns[-1] <= 1024 - 18
