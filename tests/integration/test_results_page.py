"""The pages as eyes see them: in grey, without one kind of cone, at half size; and without anybody's name.

Nothing here asks the product for a colour, a size or a place: pixels are measured, text is read by tesseract.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import builders_results as given
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cauda.core.domain import Level, Reason, Status
from cauda.pipeline.pictures import Pictures
from cauda.pipeline.results.heat_page import render_heat_page
from cauda.pipeline.results.notices import render_not_analysed, render_retracted
from cauda.pipeline.results.page import render_page

pytestmark = pytest.mark.peers

Page = NDArray[np.uint8]
# How people without one kind of cone see linear RGB (Machado, Oliveira, Fernandes 2009, severity 1.0), and no colour.
SIGHT = {
    "every cone": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "grey": [[0.2126, 0.7152, 0.0722]] * 3,
}


def mixed() -> Page:
    return render_page(given.report(), given.pictures(), given.context())


def doubt() -> Page:
    report = given.report(level_doubt=Reason.TRANSITIONAL)
    return render_page(report, given.pictures(), given.context())


def revision() -> Page:
    change = "replaces revision 1: L4/L5 Severe, was L4/L5 Moderate (images came later)"
    context = given.context(revision=2, change_text=change, research=False)
    return render_page(given.report(frame_of_reference_assumed=True), given.pictures(), context)


def no_bundle() -> Page:
    return render_page(given.no_bundle(), Pictures(), given.context(identity_checked=False))


def not_analysed() -> Page:
    text = "no axial T2 found; found: sagittal T2 (15 slices); needed: axial T2 of the lumbar spine"
    return render_not_analysed(
        given.report(status=Status.REJECTED, reason=Reason.NO_AXIAL_T2, reason_text=text), given.context()
    )


def retracted() -> Page:
    return render_retracted(given.report(), given.context(), "wrong level or grade")


SAID = {
    mixed: ("RESEARCH: NOT FOR DIAGNOSIS", "Moderate (Severe possible)", "Not imaged", "NOT GRADED: motion", "Im 25"),
    doubt: ("NUMBERING UNCERTAIN: transitional segment", "2nd from", "lowest disc", "Severe"),
    revision: ("REVISION 2 replaces revision 1", "was L4/L5 Moderate", "images came later", "frames of reference"),
    no_bundle: ("no grading model", "NOT GRADED", "Identity not checked"),
    not_analysed: ("NOT ANALYSED: no axial T2 found", "Found: sagittal T2 (15 slices)", "This says nothing about"),
    retracted: ("RETRACTED: DO NOT USE", "wrong level or grade", "Delete them by hand"),
}
ALWAYS = ("UNVERIFIED", "Central canal only", "No result is not a normal result", "Cauda sends no alerts")


NOTICES = (not_analysed, retracted)


def read(picture: Image.Image, tmp_path: Path, *, notice: bool = False) -> str:
    """What tesseract reads of rows at twice their size, or of a notice with its blocks of large type as it is."""
    path = tmp_path / "page.png"
    times, layout = (1, "3") if notice else (2, "6")
    picture.resize((picture.width * times, picture.height * times), Image.Resampling.LANCZOS).save(path)
    return subprocess.run(
        ["tesseract", str(path), "-", "--psm", layout], capture_output=True, text=True, check=True, timeout=180
    ).stdout


def plain(text: str) -> str:
    """Without what an OCR confuses: case, blanks, slashes."""
    return re.sub(r"[\W_]", "", text).lower().replace("l", "i").replace("1", "i").replace("0", "o")


@pytest.mark.parametrize("make", SAID, ids=lambda make: make.__name__)
def test_each_page_says_what_it_must_and_nobodys_name_nor_any_date(make: Callable[[], Page], tmp_path: Path) -> None:
    text = read(Image.fromarray(make()), tmp_path, notice=make in NOTICES)
    for words in (*SAID[make], *ALWAYS):
        assert plain(words) in plain(text), (words, text)
    for secret in (*given.NAME.split("^"), given.PATIENT_ID, given.ACCESSION, "19640229", "S17", "LWS"):
        assert plain(secret) not in plain(text)
    assert not re.search(r"(19|20)\d\d[-/. ]?[01]\d[-/. ]?[0-3]\d|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b", text)


def heat() -> Page:
    return render_heat_page(given.report(), given.pictures(), {}, given.context())


# The place that OHIF 3.13 gives an image in a window of 1280 x 800 and of 1920 x 1080, and of its film-loop control the
# width, the upper and the lower edge in that place, in whose middle it hangs: measured in the browser, in its pixels.
PLACES = ((955, 742), (1595, 1022))
CONTROL = (163, 40, 84)


@pytest.mark.parametrize("make", [*SAID, heat], ids=lambda make: make.__name__)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_no_word_stands_where_ohif_lays_its_film_loop_control(place: tuple[int, int], make: Callable[[], Page]) -> None:
    """`make viewers` looks there in OHIF itself."""
    page = make()
    zoom = min(place[0] / page.shape[1], place[1] / page.shape[0])
    above = (place[1] / zoom - page.shape[0]) / 2
    wide, upper, lower = (length / zoom for length in CONTROL)
    top, bottom = (max(round(edge - above), 0) for edge in (upper, lower))
    left, right = (round((page.shape[1] + sign * wide) / 2) for sign in (-1, 1))
    part = page[top:bottom, left:right]
    assert (part == part[:, :1]).all(), "each line there is of one colour"


def seen(page: Page, sight: str) -> Page:
    """The page through somebody's eyes."""
    linear = (page / 255.0) ** 2.2
    mixed_cones = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1)
    return np.asarray((mixed_cones ** (1 / 2.2) * 255).round(), dtype=np.uint8)


def luminance(page: Page) -> NDArray[np.float64]:
    """Relative luminance (WCAG 2)."""
    part = page / 255.0
    linear = np.where(part <= 0.03928, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def rows(page: Page) -> list[slice]:
    """Where the five rows lie: round the first five level names that stand below each other at one distance."""
    ink = (luminance(page)[:, 20:100] > 0.2).any(axis=1)
    starts = [int(y) for y in np.flatnonzero(ink[1:] & ~ink[:-1]) + 1]
    for first in range(len(starts) - 4):
        five = starts[first : first + 5]
        pitch = np.diff(five)
        if np.ptp(pitch) <= 2 and 30 < pitch[0] < 60:
            return [slice(y - 8, y - 8 + int(pitch[0])) for y in five]
    raise AssertionError(f"no five rows: {starts}")


def ratio(part: Page) -> float:
    """The contrast of ink and ground: the brightest per cent of the pixels against the most common ones."""
    light = luminance(part)
    return float((np.quantile(light, 0.99) + 0.05) / (np.median(light) + 0.05))


@pytest.mark.parametrize("sight", SIGHT)
def test_the_words_of_every_row_stand_out_whoever_looks(sight: str) -> None:
    """7 : 1 is what WCAG calls enhanced; what is grey on purpose keeps 4.5 : 1."""
    page = seen(mixed(), sight)
    ratios = [ratio(page[row, 180:700]) for row in rows(page)]
    assert len(ratios) == 5
    assert min(ratios[1:]) >= 7
    assert ratios[0] >= 4.5


def test_no_two_kinds_of_row_differ_by_hue_alone() -> None:
    """Not imaged, mild, moderate, severe, not graded: the marks' shapes differ where colour and brightness are gone."""
    page = mixed()
    shapes = []
    for row in rows(page):
        light = luminance(page[row, 120:164])
        shapes.append(light > (light.max() + np.median(light)) / 2)
    assert len(shapes) == 5
    for one, other in combinations(shapes, 2):
        height = min(len(one), len(other))
        differ = (one[:height] ^ other[:height]).sum()
        assert differ > 0.25 * max(one.sum(), other.sum())


def test_the_text_lies_in_the_top_third_and_is_read_when_the_page_is_shown_512_wide(tmp_path: Path) -> None:
    """The page of an ordinary study. Grey, half size; an eye sees it enlarged on a screen, so does the reader."""
    page = Image.fromarray(render_page(given.report(*given.all_graded()), given.pictures(), given.context()))
    small = page.convert("L").resize((512, round(page.height / 2)), Image.Resampling.LANCZOS)
    third = small.crop((0, 0, 512, round(small.height / 3)))
    lines = [plain(line) for line in read(third, tmp_path).splitlines()]
    for level, finding in zip(Level, given.all_graded(), strict=True):
        line = next((line for line in lines if line.startswith(plain(level.value))), "")
        assert plain(str(finding.grade)) in line, (level, lines)
        if level in given.pictures().tiles:
            assert plain(f"Se 7 Im {given.LEVEL_SLICES[level]}") in line, (level, lines)


def marks(page: Page, tmp_path: Path) -> list[tuple[int, int]]:
    """Where the words RESEARCH: ... DIAGNOSIS begin below the head, from the top; read as text scattered over pictures.

    The head, the page's upper eighth, is made black: it says the same.
    """
    blank = page.copy()
    blank[: len(page) // 8] = 0
    picture, path, times = Image.fromarray(blank), tmp_path / "marks.png", 3
    picture.resize((picture.width * times, picture.height * times), Image.Resampling.LANCZOS).save(path)
    command = ["tesseract", str(path), "-", "--psm", "11", "tsv"]
    table = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout
    seen = [line.split("\t") for line in table.splitlines()[1:]]
    at = {
        word: sorted((int(row[7]) // times, int(row[6]) // times) for row in seen if word in row[11])
        for word in ("RESEARCH", "DIAGNOSIS")
    }
    assert len(at["RESEARCH"]) == len(at["DIAGNOSIS"]), table
    return at["RESEARCH"]


@pytest.mark.parametrize("heat_map", [False, True])
@pytest.mark.parametrize("research", [True, False])
def test_research_stands_below_every_tile(heat_map: bool, research: bool, tmp_path: Path) -> None:
    """CLINICAL.md 16; a tile without a picture too. A page that is no research says it nowhere."""
    report, pictures, context = given.report(), given.pictures(), given.context(research=research)
    page = render_heat_page(report, pictures, {}, context) if heat_map else render_page(report, pictures, context)
    found = marks(page, tmp_path)
    assert len(found) == (len(Level) if research else 0)
    if research:
        lines = [[x for y, x in found if abs(y - line) < 4] for line in (found[0][0], found[-1][0])]
        assert [len(line) for line in lines] == [3, 2]
        assert np.abs(np.subtract(lines[0][:2], lines[1])).max() < 4, "below each other"
        assert np.ptp(np.diff(lines[0])) < 4, "at one distance"
