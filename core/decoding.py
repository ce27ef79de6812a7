"""The pixels of a study's images: what its header makes too large is not decoded, what is compressed not here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cauda.core import log, pixels
from cauda.core.domain import Reason
from cauda.core.errors import Rejected
from cauda.core.settings import Decoding

# Their pixels are numbers in a row: no decoder of anybody's is run on them.
_PLAIN = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)

Decode = Callable[..., NDArray[Any]]  # of a data set that was read, and pydicom's options


class StudyDecoder:
    """Decodes images of one study; what cannot be decoded is named once in the log and not tried again."""

    def __init__(self, settings: Decoding) -> None:
        """Closed by `close`, or at the end of a block."""
        self._settings = settings
        self._failed: dict[Path, Rejected] = {}
        self._decoder = pixels.Decoder(
            pixels.Bounds(
                memory_bytes=settings.memory_bytes,
                frame_s=settings.frame_timeout_s,
                total_s=settings.study_timeout_s,
            )
        )

    def __enter__(self) -> StudyDecoder:  # noqa: PYI034  final in all but name
        """To be closed at the end of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """End the process that decodes, where there is one."""
        self._decoder.close()

    def decode(self, path: Path, dataset: Dataset, **options: Any) -> NDArray[Any]:
        """The pixels of a file that was read as ``dataset``. Rejected (undecodable) with the reason."""
        if path in self._failed:
            raise self._failed[path].with_traceback(None)
        try:
            return self._decoded(path, dataset, options)
        except Rejected as error:
            self._failed[path] = error
            uid = str(dataset.get("SOPInstanceUID", ""))[:64]
            log.get("pixels").warning("image_not_decoded", sop=uid, message=error.message)
            raise

    def _decoded(self, path: Path, dataset: Dataset, options: dict[str, Any]) -> NDArray[Any]:
        stated = stated_bytes(dataset)
        if stated > self._settings.max_image_bytes:
            most = self._settings.max_image_bytes >> 20
            raise Rejected(Reason.UNDECODABLE, f"image too large to decode: {stated >> 20} MiB, allowed are {most}")
        meta = getattr(dataset, "file_meta", {})
        if meta.get("TransferSyntaxUID", ImplicitVRLittleEndian) in _PLAIN:
            return pixel_array(dataset, **options)
        return self._decoder.decode(path, most_bytes=2 * stated, options=options)  # some decoders widen 8 bits


def stated_bytes(dataset: Dataset) -> int:
    """What the pixels come to when they are decoded, as the header has it; 0 where that cannot be read."""
    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        samples = int(dataset.get("SamplesPerPixel") or 1)
        bits = int(dataset.get("BitsAllocated") or 8)
        return max(frames, 1) * int(dataset.Rows) * int(dataset.Columns) * samples * max(bits, 8) // 8
    except (TypeError, ValueError, AttributeError, ArithmeticError):
        return 0
