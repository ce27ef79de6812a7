"""Pixels decoded elsewhere: what crashes, hangs or swells there is one answer with its reason, and the next comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders
import numpy as np
import pytest
from listener_house import with_meta
from peers import until
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from cauda.core import decoding, pixels
from cauda.core.decoding import StudyDecoder
from cauda.core.domain import Reason, SeriesRole, Status
from cauda.core.errors import Rejected
from cauda.core.pixels import Bounds, Decoder
from cauda.core.settings import Decoding
from cauda.core.settings import load as load_settings
from cauda.deploy import analyze

TESTS = str(Path(__file__).parents[1])
SYNTAXES = (JPEG2000Lossless, JPEGLSLossless, RLELossless)


def an_image(**attributes: Any) -> Dataset:
    return builders.mr_image("1.2.3", "1.2.3.4", "1.2.3.4.5", **attributes)


def written(path: Path, image: Dataset, syntax: str = JPEG2000Lossless) -> Path:
    with_meta(image).compress(syntax, generate_instance_uid=False)
    path.write_bytes(builders.part10(image, syntax))
    return path


@pytest.fixture
def wild(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders that do to their process what Patient Comments says."""
    monkeypatch.setenv("PYTHONPATH", TESTS, prepend=os.pathsep)
    monkeypatch.setattr(pixels, "_MODULE", "wild_decoder")


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(Bounds(frame_s=1, memory_bytes=1 << 30)) as made:
        yield made


def refused(decoder: Decoder, path: Path) -> str:
    with pytest.raises(Rejected) as caught:
        decoder.decode(path, most_bytes=1 << 20)
    assert caught.value.reason is Reason.UNDECODABLE
    return caught.value.message


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("frames", [1, 5])
def test_what_is_decoded_elsewhere_is_what_is_decoded_here(
    tmp_path: Path, decoder: Decoder, syntax: str, frames: int
) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (frames, 32, 32)).astype("<u2")
    sides = {"NumberOfFrames": frames} if frames > 1 else {}
    path = written(tmp_path / "a.dcm", an_image(PixelData=values.tobytes(), **sides), syntax)
    found = decoder.decode(path, most_bytes=1 << 20)
    assert np.array_equal(found, values if frames > 1 else values[0])


@pytest.mark.usefixtures("wild")
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("abort", "end the decoder (status -6)"),
        ("crash", "end the decoder (status -11)"),
        ("exit", "end the decoder (status 2)"),
        ("spin", "took longer than 1 s"),
        ("panic", "cannot be decoded (Panic)"),
        ("memory", "takes more than 1024 MiB"),
    ],
)
def test_whatever_a_decoder_does_is_the_images_fault_and_the_next_is_decoded(
    tmp_path: Path, decoder: Decoder, what: str, words: str
) -> None:
    deadly = written(tmp_path / "deadly.dcm", an_image(PatientComments=what))
    sound = written(tmp_path / "sound.dcm", an_image())
    assert words in refused(decoder, deadly)
    assert decoder.decode(sound, most_bytes=1 << 20).shape == (32, 32)


@pytest.mark.usefixtures("wild")
def test_a_decoder_that_waits_is_ended_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    """It uses no processor time, so the kernel's limit never ends it; left alone, it would decode the image at last."""
    deadly = written(tmp_path / "deadly.dcm", an_image(PatientComments="rest"))
    with Decoder(Bounds(frame_s=0.2, start_s=8)) as decoder:
        assert "took longer" in refused(decoder, deadly)


@pytest.mark.usefixtures("wild")
def test_a_study_whose_images_all_hang_costs_no_more_than_its_time(tmp_path: Path) -> None:
    deadly = written(tmp_path / "deadly.dcm", an_image(PatientComments="spin"))
    with Decoder(Bounds(frame_s=1, total_s=0.5)) as decoder:
        refused(decoder, deadly)
        started = decoder._process
        assert "took longer than 0.5 s" in refused(decoder, deadly)
        assert decoder._process is started is None, "nothing is begun any more"


def test_an_answer_larger_than_the_picture_is_not_received(tmp_path: Path, decoder: Decoder) -> None:
    """What has taken over the decoder may answer without end."""
    path = written(tmp_path / "a.dcm", an_image())
    with pytest.raises(Rejected):
        decoder.decode(path, most_bytes=2047)
    assert decoder.decode(path, most_bytes=2048).nbytes == 2048


def test_an_idle_process_that_has_ended_is_replaced(
    tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.dcm", an_image())
    decoder.decode(path, most_bytes=2048)
    assert decoder._process is not None
    os.kill(decoder._process.pid, 9)
    decoder._process.wait()
    assert decoder.decode(path, most_bytes=2048).shape == (32, 32)


def test_the_process_ends_with_its_owner(tmp_path: Path) -> None:
    with Decoder(Bounds()) as decoder:
        decoder.picture(written(tmp_path / "a.dcm", an_image()))
        assert decoder._process is not None
        pid = decoder._process.pid
        assert Path(f"/proc/{pid}").exists()
    until(lambda: not Path(f"/proc/{pid}").exists(), what="its end")


def served_by(decoder: Decoder) -> list[int]:
    """The processes that the one which loads has forked."""
    assert decoder._process is not None
    pid = decoder._process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.usefixtures("wild")
@pytest.mark.parametrize("what", ["abort", "spin"])
def test_what_dies_is_replaced_without_loading_everything_again(
    tmp_path: Path, decoder: Decoder, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request has processor time of its own: the kernel ends what spins, not our clock."""
    monkeypatch.setattr(pixels, "_SLOW", 50)  # however much else the machine does
    deadly = written(tmp_path / "deadly.dcm", an_image(PatientComments=what))
    sound = written(tmp_path / "sound.dcm", an_image())
    decoder.decode(sound, most_bytes=1 << 20)
    loaded, first = decoder._process, served_by(decoder)
    refused(decoder, deadly)
    refused(decoder, deadly)
    decoder.decode(sound, most_bytes=1 << 20)
    assert decoder._process is loaded
    assert len(served_by(decoder)) == 1
    assert served_by(decoder) != first


@pytest.mark.usefixtures("wild")
def test_what_one_that_died_said_is_no_part_of_the_next_answer(tmp_path: Path, decoder: Decoder) -> None:
    """Killed in the middle of its answer, or between two."""
    sound = written(tmp_path / "sound.dcm", an_image())
    halfway = written(tmp_path / "halfway.dcm", an_image(PatientComments="halfway"))
    for _ in range(3):
        assert "end the decoder (status -6)" in refused(decoder, halfway)
        expected = decoder.decode(sound, most_bytes=1 << 20)
        assert np.array_equal(expected, dcmread(sound).pixel_array)
        (server,) = served_by(decoder)
        os.kill(server, 9)
        until(lambda server=server: served_by(decoder) not in ([], [server]), what="another")
        assert np.array_equal(decoder.decode(sound, most_bytes=1 << 20), expected)


@pytest.mark.usefixtures("wild")
def test_nothing_is_left_of_a_decoder_that_was_late(tmp_path: Path) -> None:
    sound = written(tmp_path / "sound.dcm", an_image())
    deadly = written(tmp_path / "deadly.dcm", an_image(PatientComments="wait"))
    with Decoder(Bounds(frame_s=0.2)) as decoder:
        decoder.decode(sound, most_bytes=1 << 20)
        (server,) = served_by(decoder)
        refused(decoder, deadly)
        until(lambda: not Path(f"/proc/{server}").exists(), what="its end")


def test_a_process_that_ends_by_itself_is_reaped(tmp_path: Path, decoder: Decoder) -> None:
    """Nobody may ask for pixels again for days."""
    decoder.picture(written(tmp_path / "a.dcm", an_image()))
    assert decoder._process is not None
    pid = decoder._process.pid
    os.kill(pid, 9)
    until(lambda: not Path(f"/proc/{pid}").exists(), what="no zombie")


def test_a_picture_is_looked_at_once_whatever_its_file_is_called(
    tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current version is compared with each later one; and once filed, an arrival has another name."""
    path = written(tmp_path / "a.dcm", an_image())
    found = decoder.picture(path)
    (tmp_path / "b.dcm").hardlink_to(path)
    monkeypatch.setattr(decoder, "_answers", None)
    assert decoder.picture(tmp_path / "b.dcm") == found
    monkeypatch.undo()
    written(tmp_path / "c.dcm", an_image(PixelSpacing=[3.0, 3.0]))
    (tmp_path / "c.dcm").rename(path)
    assert decoder.picture(path) != found, "another file under the same name"


# A study's decoder


def tried(decoder: StudyDecoder, path: Path) -> str:
    with pytest.raises(Rejected) as caught:
        decoder.decode(path, dcmread(path))
    return caught.value.message


@pytest.mark.parametrize("size", [{"Rows": 8192, "Columns": 8192, "NumberOfFrames": 20}, {"NumberOfFrames": 10**9}])
def test_an_image_that_is_too_large_by_its_header_is_not_decoded(
    tmp_path: Path, size: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: Any, **__: Any) -> None:
        raise AssertionError("decoding began")

    image = an_image()
    path = written(tmp_path / "large.dcm", image)
    for keyword, value in size.items():
        setattr(image, keyword, value)
    path.write_bytes(builders.part10(image, JPEG2000Lossless))
    monkeypatch.setattr(Decoder, "decode", begun)
    monkeypatch.setattr(decoding, "pixel_array", begun)
    with StudyDecoder(Decoding()) as decoder:
        assert "too large to decode" in tried(decoder, path)


@pytest.mark.usefixtures("wild")
def test_an_image_that_cannot_be_decoded_is_named_once_and_not_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = written(tmp_path / "deadly.dcm", an_image(PatientComments="abort"))
    with StudyDecoder(Decoding()) as decoder:
        first = tried(decoder, deadly)
        monkeypatch.setattr(decoder._decoder, "decode", None)
        assert tried(decoder, deadly) == first
    told = [line for line in capsys.readouterr().out.splitlines() if "image_not_decoded" in line]
    assert len(told) == 1
    assert "1.2.3.4.5" in told[0]
    assert "status -6" in told[0]


def test_pixels_in_a_row_are_read_here_and_no_process_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_MODULE", "no_such_module")
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"):
        path = tmp_path / "a.dcm"
        path.write_bytes(builders.part10(an_image(), syntax))
        with StudyDecoder(Decoding()) as decoder:
            assert np.array_equal(decoder.decode(path, dcmread(path)), dcmread(path).pixel_array)


# A study with such an image


def analysed(folder: Path, images: list[Dataset]) -> Any:
    folder.mkdir()
    for number, image in enumerate(images):
        written(folder / f"{number:03}.dcm", image)
    settings = load_settings(environ={})
    return analyze.analyse(analyze.folder_of(folder, None), None, settings, lambda: 0.0).report


@pytest.mark.usefixtures("wild")
@pytest.mark.parametrize("what", ["abort", "panic"])
def test_a_study_goes_on_without_the_image_that_ends_its_decoder(tmp_path: Path, what: str) -> None:
    images = builders.mr_study("decoded", axial=6, sagittal=5)
    images[2].PatientComments = what
    report = analysed(tmp_path / "deadly", images)
    assert report.status is Status.REPORTED
    axial = next(one for one in report.series if one.role is SeriesRole.AXIAL_T2)
    assert axial.left_out == {Reason.UNDECODABLE: 1}


@pytest.mark.usefixtures("wild")
def test_a_study_of_which_nothing_can_be_decoded_is_rejected_with_the_reason(tmp_path: Path) -> None:
    images = builders.mr_study("deadly", axial=5, sagittal=5, PatientComments="abort")
    report = analysed(tmp_path / "study", images)
    assert (report.status, report.reason) == (Status.REJECTED, Reason.UNDECODABLE)
    assert "status -6" in report.reason_text
