"""What two versions of an image are to each other, by what each of them shows."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import builders
import numpy as np
import pytest
from pydicom.encaps import encapsulate

from cauda.core import pixels_child
from cauda.core.pixels import BROKEN, Picture
from cauda.listener.compare import Comparison, judge

WHOLE = Picture(image=True, whole=True, geometry="g", digest="a")
OTHER = WHOLE._replace(digest="b")
ELSEWHERE = WHOLE._replace(geometry="h")
ENDLESS = OTHER._replace(whole=False)
REPORT = Picture(image=False, whole=False, geometry="g", digest=None)


@pytest.mark.parametrize(
    ("current", "later", "found"),
    [
        (WHOLE, WHOLE, Comparison.SAME),
        (WHOLE, OTHER, Comparison.OTHER),
        (WHOLE, ELSEWHERE, Comparison.OTHER),
        (WHOLE, BROKEN, Comparison.BROKEN),
        (BROKEN, WHOLE, Comparison.MENDS),
        (BROKEN, BROKEN, Comparison.BROKEN),
        (WHOLE, ENDLESS, Comparison.BROKEN),
        (ENDLESS, WHOLE, Comparison.MENDS),
        (ENDLESS, ENDLESS._replace(digest="c"), Comparison.OTHER),  # its maker writes no end
        (ENDLESS, ELSEWHERE, Comparison.OTHER),
        (REPORT, REPORT, Comparison.SAME),
        (None, WHOLE, Comparison.OTHER),
        (WHOLE, None, Comparison.OTHER),
    ],
)
def test_the_judgement_of_what_two_versions_show(
    current: Picture | None, later: Picture | None, found: Comparison
) -> None:
    assert judge(current, later) is found


@pytest.mark.parametrize(("end", "whole"), [(b"\xff\xd9", True), (b"\xff\xd9\0", True), (b"\xff", False), (b"", False)])
def test_a_codestream_without_its_end_is_not_whole_whatever_a_decoder_makes_of_it(
    tmp_path: Path, end: bytes, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some decoders make a picture of a beginning."""

    def decoded(*_: Any) -> list[Any]:
        return [np.zeros((32, 32))]

    monkeypatch.setattr(pixels_child, "frames", decoded)
    image = builders.mr_image("1.2.3", "1.2.3.4", "1.2.3.4.5", PixelData=encapsulate([b"\xff\xd8" + b"a" * 99 + end]))
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    path = tmp_path / "a.dcm"
    path.write_bytes(builders.part10(image, "1.2.840.10008.1.2.4.70"))
    found = pixels_child.picture(str(path), 1.0, BytesIO())
    assert (found["whole"], found["digest"] is None) == (whole, False)
