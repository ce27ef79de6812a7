"""The probe's verdict is fair: no patient on both sides, chance where nothing differs, and no acquittal when weak."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cauda.core.domain import F64
from cauda.models.realism import probe
from cauda.models.realism.__main__ import BEGIN, END, kept, main
from cauda.models.realism.measure import FIRST, SECOND, Found
from cauda.models.realism.pictures import Shot, Window, comparable, exported, patch, square, twin, windowed
from cauda.models.realism.probe import Auc, Set
from cauda.models.realism.report import Probed, Range, Report, ranges, table


def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def cloud(count: int, middle: float, seed: int, who: range | None = None) -> Set:
    features = np.random.default_rng(seed).normal(middle, 1, (count, 20)).astype(np.float32)
    return Set(features=features, who=np.array(who or range(seed * 1000, seed * 1000 + count), np.int64))


def test_patients_are_dealt_out_once_each_with_all_their_pictures() -> None:
    who = np.repeat(np.arange(23), 3)
    hands = probe.folds(who, draw())
    assert sorted(np.concatenate(hands).tolist()) == list(range(23))


def test_a_patient_known_from_training_is_not_asked_about() -> None:
    known, asked = cloud(10, 0, 1, range(10)), cloud(10, 0, 2, range(5, 15))
    assert probe.apart(known, asked).who.tolist() == [10, 11, 12, 13, 14]
    result = probe.across((known, cloud(10, 3, 3)), (asked, cloud(10, 3, 4)), draw())
    assert result.pictures == (5, 10)


def test_a_patient_seen_by_both_scanners_is_not_known_from_the_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[int], set[int]]] = []
    scores = probe._scores

    def spied(train: tuple[Set, Set], test: tuple[Set, Set]) -> tuple[F64, F64]:
        seen.append(({*train[0].who, *train[1].who}, {*test[0].who, *test[1].who}))
        return scores(train, test)

    monkeypatch.setattr(probe, "_scores", spied)
    probe.between(cloud(30, 0, 1, range(30)), cloud(30, 2, 2, range(15, 45)), draw())
    assert len(seen) == 5
    assert all(not train & test for train, test in seen)


def test_what_differs_is_told_apart_and_what_does_not_is_not() -> None:
    far = probe.between(cloud(60, 0, 1), cloud(60, 2, 2), draw())
    same = probe.between(cloud(200, 0, 1), cloud(200, 0, 2), draw())
    assert far.value > 0.99
    assert 0.3 < same.value < 0.7
    assert same.low < 0.5 < same.high


def test_distance_is_none_between_like_and_grows_with_difference() -> None:
    one = cloud(80, 0, 1)
    assert abs(probe.distance(one, cloud(80, 0, 2))) < 0.1 * probe.distance(one, cloud(80, 0.5, 3))
    assert probe.distance(one, cloud(80, 0.5, 3)) < probe.distance(one, cloud(80, 1.0, 4))


def report(ceiling: float) -> Report:
    auc = Auc(value=ceiling, low=ceiling, high=ceiling, pictures=(3, 3))
    asked = (Probed(question="a against b", auc=auc),)
    line = Range(on="T2", measure="grey", real=(0.1, 0.2, 0.3), ours=(0.1, 0.4, 0.5))
    return Report(ours=asked, control=asked, floor=asked, ceiling=asked, distances={"x": 1.0}, ranges=(line,))


def measured(ceiling: float) -> Callable[[Path, Callable[[str], None]], Found]:
    kinds = [f"{kind}{name}" for name in (FIRST, SECOND) for kind in ("", "phantom, ", "trial, ")]
    patches = {kind: [np.full((4, 4), i, np.uint8)] * 8 for i, kind in enumerate(kinds)}
    return lambda _data, _say: Found(report=report(ceiling), patches=patches)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("spider/overview.csv", "weights/mobilenetv2_100.imagenet.pth"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    monkeypatch.setenv("CAUDA_REALDATA", str(tmp_path))
    return tmp_path


PAGE = f"before\n{BEGIN}\nold\n{END}\nafter\n"


def test_a_probe_that_passes_the_trials_pictures_ends_in_failure_and_writes_nothing(data: Path) -> None:
    (data / "realism.md").write_text(PAGE)
    assert main(["--write"], measured(0.949), data) == 1
    assert (data / "realism.md").read_text() == PAGE


def test_a_strong_probe_passes_and_its_table_is_kept_between_the_marks(data: Path) -> None:
    (data / "realism.md").write_text(PAGE)
    assert main(["--write"], measured(0.95), data) == 0
    page = (data / "realism.md").read_text()
    assert table(report(0.95)) in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    assert (data / "realism.png").is_file()


def test_nothing_is_written_unasked(data: Path) -> None:
    assert main([], measured(1.0), data) == 0
    assert not (data / "realism.md").exists()
    assert not (data / "realism.png").exists()


def test_without_a_ceiling_nothing_is_proved() -> None:
    assert not Report(ours=(), control=(), floor=(), ceiling=(), distances={}, ranges=()).proves


def test_a_page_without_marks_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="lacks"):
        kept("a page of someone's own", "table")


def test_missing_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUDA_REALDATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"overview\.csv"):
        main([], measured(1.0), tmp_path)


def test_a_median_is_within_only_between_the_real_percentiles() -> None:
    real = [{"grey": float(i)} for i in range(101)]
    (line,) = ranges("T2", real, [{"grey": 96.0}])
    assert line.real == (5.0, 50.0, 95.0)
    assert not line.within
    (line,) = ranges("T2", real, [{"grey": 94.0}, {}])
    assert line.within


def shot(rows: int, columns: int, mm: float) -> Shot:
    image = np.zeros((rows, columns), np.uint8)
    image[:, columns * 3 // 4 - 5 : columns * 3 // 4 + 5] = 200
    image[: rows // 10] = 255
    return Shot(picture=image, mm=mm, who=1, scanner="Siemens Any 1.5 T")


def test_the_square_is_160_mm_around_what_is_bright() -> None:
    one = shot(400, 600, 0.5)
    cut = square(one.picture, one.mm)
    assert cut.shape == (320, 320)
    bright = np.flatnonzero(cut[160] > 100)
    assert abs(bright.mean() - 160) < 45
    assert patch(one).shape == (224, 224)


def test_a_picture_smaller_than_the_square_is_refused() -> None:
    small = shot(300, 600, 0.5)
    assert not comparable(small)
    with pytest.raises(ValueError, match="160"):
        square(small.picture, small.mm)


def test_a_field_larger_than_any_lumbar_one_is_left_out() -> None:
    assert comparable(shot(600, 400, 0.66))
    assert not comparable(shot(640, 400, 0.66))


def test_the_way_of_a_drawn_picture_hardly_changes_a_real_one() -> None:
    ramp = np.linspace(0, 268, 400 * 360).clip(0, 255).reshape(400, 360)  # the window cut off a part of it
    one = Shot(picture=ramp.astype(np.uint8), mm=0.5, who=1, scanner="Siemens Any 1.5 T")
    assert np.abs(exported(one).picture.astype(int) - one.picture).mean() < 1.0


def test_a_twin_has_the_pixels_and_the_white_of_its_real_one() -> None:
    one = shot(400, 360, 0.5)
    asked: list[Window] = []

    def drawing(seed: int, window: Window) -> np.ndarray:
        asked.append(window)
        return np.random.default_rng(seed).random((window.rows, window.columns)).astype(np.float32)

    made = twin(one, drawing, 7)
    assert (made.mm, made.who, made.scanner) == (0.5, 7, one.scanner)
    assert made.picture.shape == (400, 360)
    assert asked[0].white == pytest.approx((one.picture == 255).mean())


def test_a_window_cuts_off_the_share_of_white_that_is_asked() -> None:
    image = np.random.default_rng(0).random((200, 200)).astype(np.float32)
    assert (windowed(image, 0.05) == 255).mean() == pytest.approx(0.05, abs=0.005)
    assert windowed(image - 0.5, 0.05).min() == 0
