"""The page that readers see, as a PNG: a stored RGB Secondary Capture, pixel for pixel."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from pydicom import dcmread

from cauda.core.domain import Reason
from cauda.core.errors import Unavailable


def png(stored: bytes) -> bytes:
    """The first frame of a Secondary Capture; Unavailable when the file is not a picture in RGB."""
    capture = dcmread(BytesIO(stored))
    if capture.get("PhotometricInterpretation") != "RGB" or capture.get("BitsAllocated") != 8:
        raise Unavailable(Reason.UNDECODABLE, "this result is not an RGB picture")
    pixels = capture.pixel_array
    out = BytesIO()
    Image.fromarray(pixels if pixels.ndim == 3 else pixels[0]).save(out, "PNG", compress_level=1)
    return out.getvalue()
