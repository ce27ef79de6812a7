"""Two versions of one image: the whole one is current, whichever came first, and neither can end the listener."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import builders
import pydicom.pixels.decoders.base
import pytest
from listener_house import House, landed, listener, store, with_meta
from peers import until
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless

from cauda.core import pixels, schema
from cauda.core.domain import Reason
from cauda.listener import beside

pytestmark = pytest.mark.peers

TESTS = str(Path(__file__).parents[1])


@pytest.fixture(autouse=True)
def nothing_is_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener runs in this process; what decodes must be another."""

    def decoded(*_: Any, **__: Any) -> None:
        raise AssertionError("pixels were decoded in the listener")

    monkeypatch.setattr(pydicom.pixels.decoders.base.DecodeRunner, "set_source", decoded)


@pytest.fixture
def wild(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders that do to their process what Patient Comments says."""
    monkeypatch.setenv("PYTHONPATH", TESTS, prepend=os.pathsep)
    monkeypatch.setattr(pixels, "_MODULE", "wild_decoder")


def an_image(seed: int, **attributes: Any) -> Dataset:
    return builders.mr_study(f"versions {seed}", axial=1, sagittal=0, **attributes)[0]


def empty(image: Dataset) -> Dataset:
    image.PixelData = b""
    return image


def half(image: Dataset) -> Dataset:
    image.PixelData = image.PixelData[: len(image.PixelData) // 2]
    return image


def absent(image: Dataset) -> Dataset:
    del image.PixelData
    return image


def compressed(image: Dataset) -> Dataset:
    with_meta(image).compress(JPEG2000Lossless, generate_instance_uid=False)
    return image


def cut(image: Dataset) -> Dataset:
    """Its codestream ends in the middle, as where a sender's disk was full."""
    whole = compressed(image)
    (frame,) = generate_frames(whole.PixelData, number_of_frames=1)
    whole.PixelData = encapsulate([frame[: len(frame) * 3 // 4]])
    return whole


def misnamed(image: Dataset) -> Dataset:
    """The same bytes, of which nobody can say how many a pixel has (PS3.5 8.1.1: 1, or a multiple of 8)."""
    image.BitsAllocated = 12
    return image


BROKEN = [empty, half, absent, cut, misnamed]


def send(house: House, image: Dataset) -> None:
    sent(house, image)
    house.until_filed()


def sent(house: House, image: Dataset) -> None:
    """Store one, acknowledged and filed."""
    syntax = str(image.file_meta.TransferSyntaxUID) if hasattr(image, "file_meta") else "1.2.840.10008.1.2.1"
    (status,) = store(house.ports.dimse, [deepcopy(image)], syntax)
    assert status.Status == 0


def versions(house: House) -> list[tuple[int, bool]]:
    return [(row["version"], row["current"]) for row in house.rows(schema.instance)]


def events(house: House) -> list[str]:
    return [row["kind"] for row in house.rows(schema.event) if row["kind"].startswith(("image_", "object_"))]


@pytest.mark.parametrize("spoil", BROKEN)
def test_a_whole_image_takes_the_place_of_a_broken_one(tmp_path: Path, spoil: Callable[[Dataset], Dataset]) -> None:
    with listener(tmp_path / "data") as house:
        send(house, spoil(an_image(1)))
        before = house.row(schema.study)["input_at"]
        send(house, an_image(1))
        until(lambda: len(versions(house)) == 2, what="the second version entered")
        assert versions(house) == [(1, False), (2, True)]
        study = house.row(schema.study)
        assert study["hold"] is None
        assert study["input_at"] > before, "the study waits anew: what can be graded has changed"
        assert events(house) == ["image_mended"]
        send(house, spoil(an_image(1)))
        assert versions(house) == [(1, False), (2, True)], "the broken one again is a duplicate"
        assert not list((house.data / "unfiled").iterdir())


@pytest.mark.parametrize("spoil", BROKEN)
def test_a_broken_version_after_a_whole_one_changes_nothing(
    tmp_path: Path, spoil: Callable[[Dataset], Dataset]
) -> None:
    with listener(tmp_path / "data") as house:
        send(house, an_image(2))
        before = house.row(schema.study)
        send(house, spoil(an_image(2)))
        until(lambda: len(versions(house)) == 2, what="the second version entered")
        assert versions(house) == [(1, True), (2, False)]
        assert house.row(schema.study)["hold"] is None
        assert house.row(schema.study)["input_at"] == before["input_at"]
        assert events(house) == ["image_broken"]


def test_the_same_bytes_with_another_meaning_are_other_pixels(tmp_path: Path) -> None:
    """Values above 32767 of an unsigned image are negative in a signed one."""
    image = an_image(8)
    image.PixelData = b"\xff" * len(image.PixelData)
    image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 15, 0
    with listener(tmp_path / "data") as house:
        send(house, image)
        image.PixelRepresentation = 1
        send(house, image)
        until(lambda: len(versions(house)) == 2, what="the second version entered")
        assert versions(house) == [(1, True), (2, False)]
        assert house.row(schema.study)["hold"] == Reason.PIXELS_CHANGED


def test_of_two_broken_versions_the_first_stays_until_a_whole_one_comes(tmp_path: Path) -> None:
    with listener(tmp_path / "data") as house:
        for image in (empty(an_image(3)), half(an_image(3)), an_image(3)):
            send(house, image)
        until(lambda: len(versions(house)) == 3, what="all entered")
        assert versions(house) == [(1, False), (2, False), (3, True)]
        assert house.row(schema.study)["hold"] is None


def test_whole_versions_that_differ_hold_the_study_and_those_that_do_not_are_a_correction(tmp_path: Path) -> None:
    """Equal pixels in another encoding, and with another name: compared by what they show."""
    with listener(tmp_path / "data") as house:
        send(house, an_image(4))
        send(house, compressed(an_image(4, PatientName="Corrected^Name")))
        until(lambda: len(versions(house)) == 2, what="the correction entered")
        assert versions(house) == [(1, False), (2, True)]
        assert house.row(schema.study)["hold"] is None
        assert house.row(schema.study)["corrected_at"] is not None
        other = an_image(4)
        other.PixelData = bytes(reversed(other.PixelData))
        other.PixelData = bytes(b & 0x0F if i % 2 else b for i, b in enumerate(other.PixelData))
        send(house, other)
        until(lambda: house.row(schema.study)["hold"] == Reason.PIXELS_CHANGED, what="hold")
        assert versions(house)[1:] == [(2, True), (3, False)]


@pytest.mark.parametrize(
    "change",
    [
        {"ImagePositionPatient": [1.0, 2.0, 3.0]},
        {"PixelSpacing": [0.5, 0.5]},
        {"RescaleSlope": "2"},
    ],
)
@pytest.mark.parametrize("encode", [compressed, lambda image: image])
def test_the_same_pixels_in_another_place_are_not_the_same_picture(
    tmp_path: Path, change: dict[str, Any], encode: Callable[[Dataset], Dataset]
) -> None:
    with listener(tmp_path / "data") as house:
        send(house, an_image(5))
        send(house, encode(an_image(5, **change)))
        until(lambda: house.row(schema.study)["hold"] == Reason.PIXELS_CHANGED, what="hold")
        assert versions(house) == [(1, True), (2, False)]


@pytest.mark.usefixtures("wild")
@pytest.mark.parametrize("what", ["abort", "crash", "exit", "spin", "panic"])
@pytest.mark.parametrize("first", [True, False])
def test_a_version_that_ends_its_decoder_is_the_broken_one(tmp_path: Path, what: str, first: bool) -> None:
    with listener(tmp_path / "data") as house:
        sound, deadly = an_image(6), an_image(6, PatientComments=what)
        deadly.PixelData = bytes(len(deadly.PixelData))
        for image in (deadly, sound) if first else (sound, deadly):
            send(house, image)
        until(lambda: len(versions(house)) == 2, timeout=60, what="both entered")
        assert versions(house) == ([(1, False), (2, True)] if first else [(1, True), (2, False)])
        send(house, deadly)
        assert house.row(schema.study)["hold"] is None
        assert events(house) == ["image_mended" if first else "image_broken"]


@pytest.mark.usefixtures("wild")
def test_what_cannot_be_found_out_is_other_and_filed(tmp_path: Path) -> None:
    """Without memory nobody knows which of two is the broken one: a person decides."""
    with listener(tmp_path / "data") as house:
        sound, large = an_image(7), an_image(7, PatientComments="memory")
        large.PixelData = bytes(len(large.PixelData))
        for image in (large, sound):
            send(house, image)
        until(lambda: house.row(schema.study)["hold"] == Reason.PIXELS_CHANGED, what="hold")
        assert versions(house) == [(1, True), (2, False)]


def test_an_error_of_ours_in_comparing_keeps_no_image_from_its_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(pixels.Decoder, "picture", bug)
    with listener(tmp_path / "data") as house:
        for image in (empty(an_image(8)), an_image(8)):
            send(house, image)
        until(lambda: len(versions(house)) == 2, what="both entered")
        assert not list((house.data / "unfiled").iterdir())


def uids(house: House) -> list[str]:
    return [row["sop_uid"] for row in house.rows(schema.instance)]


def ends(house: House) -> list[str | None]:
    return [row["ended_how"] for row in house.rows(schema.association)]


def test_nothing_waits_for_two_versions_that_take_long_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other images are filed meanwhile; a later version of the same one, and their senders' release, come behind it."""
    answer = threading.Event()
    real = pixels.Decoder.picture

    def slow(self: pixels.Decoder, path: Path) -> Any:
        assert answer.wait(60)
        return real(self, path)

    monkeypatch.setattr(pixels.Decoder, "picture", slow)
    first, other = an_image(10), an_image(11)
    later = an_image(10, PatientName="Third^Version")
    with listener(tmp_path / "data", completeness={"after_release_s": 600}) as house:
        send(house, first)
        sent(house, compressed(an_image(10)))
        sent(house, later)
        sent(house, other)
        until(lambda: len(versions(house)) == 2, what="another image filed meanwhile")
        assert uids(house) == [first.SOPInstanceUID, other.SOPInstanceUID]
        until(lambda: ends(house).count("released") == 2, what="the end of its association")
        assert ends(house) == ["released", None, None, "released"]
        answer.set()
        until(lambda: ends(house) == ["released"] * 4, what="all of them filed")
        assert uids(house)[2:] == [first.SOPInstanceUID] * 2
        assert versions(house) == [(1, False), (1, True), (2, False), (3, True)]
        until(lambda: not landed(house.data), what="nothing left to file")


@pytest.mark.usefixtures("wild")
@pytest.mark.parametrize("endless", ["the current one", "the later one"])
def test_a_listener_that_ends_while_it_compares_leaves_the_image_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endless: str
) -> None:
    images = an_image(12), compressed(an_image(12, PatientName="B"))
    images[endless == "the later one"].PatientComments = "wait"
    monkeypatch.setenv("WILD_WAITS", str(tmp_path / "waits"))
    with listener(tmp_path / "data") as house:
        send(house, images[0])
        sent(house, images[1])
        sent(house, an_image(13))
        until(lambda: len(versions(house)) == 2, what="another image filed meanwhile")
        until((tmp_path / "waits").exists, what="it is being decoded")
        house.close()
        assert len(versions(house)) == 2
        assert [row["hold"] for row in house.rows(schema.study)] == [None, None], "nobody said that they differ"
        assert len(landed(house.data)) == 1
    monkeypatch.setattr(pixels, "_MODULE", "cauda.core.pixels_child")
    with listener(tmp_path / "data") as house:
        until(lambda: len(versions(house)) == 3, timeout=60, what="filed")
        house.until_filed()
        until(lambda: len(list((house.data / "arrivals").iterdir())) == 1, what="the folder of the first gone")
        assert [row["hold"] for row in house.rows(schema.study)] == [None, None]
        assert versions(house)[-1] == (2, True)


def test_where_many_take_long_what_has_waited_is_filed_without_being_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise somebody's slow pixels would keep everybody's studies waiting for hours."""
    waiting = threading.Event()
    compared: list[Path] = []
    real = pixels.Decoder.picture

    def slow(self: pixels.Decoder, path: Path) -> Any:
        assert waiting.wait(60)
        self.spent_s += beside._PATIENCE_S
        compared.append(path)
        return real(self, path)

    monkeypatch.setattr(pixels.Decoder, "picture", slow)
    with listener(tmp_path / "data") as house:
        send(house, an_image(14))
        sent(house, compressed(an_image(14, PatientName="B")))
        sent(house, an_image(14, PatientName="C"))
        until(lambda: len(landed(house.data)) == 2, what="they wait")
        monkeypatch.setattr(beside, "_WAIT_S", 0.0)
        waiting.set()
        until(lambda: len(versions(house)) == 3, timeout=60, what="all filed")
        assert house.row(schema.study)["hold"] == Reason.PIXELS_CHANGED
        assert versions(house) == [(1, False), (2, True), (3, False)]
    assert len(compared) == 2


def test_many_that_are_soon_compared_are_all_compared_however_long_the_last_has_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that sends all it has again, in another encoding."""
    monkeypatch.setattr(beside, "_WAIT_S", 0.0)
    with listener(tmp_path / "data") as house:
        send(house, an_image(15))
        for number in range(6):
            again = an_image(15, PatientName=f"A^{number}")
            sent(house, again if number % 2 else compressed(again))
        until(lambda: len(versions(house)) == 7, timeout=60, what="all filed")
        assert house.row(schema.study)["hold"] is None
