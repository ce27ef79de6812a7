"""The process that decodes pixels for `pixels`: it may crash, hang or be killed, and nothing else is lost.

Run as ``python -m cauda.core.pixels_child MEMORY_BYTES FRAME_S ENDS_FD``. Requests come on standard input, answers go
to standard output: a line of JSON each, with bytes behind it where the line says so. The process loads what decodes
and forks one that serves; where that dies, its exit status (`END_BYTES` of them) goes to ENDS_FD, and another is
forked, which costs milliseconds where loading costs a second. It ends when its input does, or when nobody has asked
for a while.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from types import MappingProxyType
from typing import Any, BinaryIO

IDLE_S, _LOADING_S = 60.0, 30.0
END_BYTES = 2
_NOTHING_TO_DO = 64  # status of one that serves
GEOMETRY = (
    "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "PhotometricInterpretation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Whose last bytes are an end marker: JPEG, JPEG-LS, JPEG 2000 and HTJ2K.
_MARKED = frozenset(
    f"1.2.840.10008.1.2.4.{end}"
    for end in ("50", "51", "57", "70", "80", "81", "90", "91", "92", "93", "201", "202", "203")
)


def main() -> None:
    """Have requests served until the input ends."""
    memory_bytes, frame_s, ends = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # decoders print
    limited(_LOADING_S)
    load()
    unlimited()  # forking takes some
    say(answers, {"ready": True})
    while True:
        server = os.fork()
        if server == 0:
            serve(requests, answers, frame_s)
            os._exit(_NOTHING_TO_DO)
        code = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
        if code == _NOTHING_TO_DO:
            return
        os.write(ends, code.to_bytes(END_BYTES, "big", signed=True))


def serve(requests: BinaryIO, answers: BinaryIO, frame_s: float) -> None:
    """Answer requests, each under limits of its own, until there are none."""
    while select.select([requests], [], [], IDLE_S)[0] and (line := _line(requests)):
        request = json.loads(line)
        limited(frame_s)
        try:
            if request["what"] == "picture":
                say(answers, picture(request["path"], frame_s, answers))
            else:
                decode(request, frame_s, answers)
        except BaseException as error:  # noqa: BLE001  the border of this process; a panic in Rust is no Exception
            say(answers, {"error": type(error).__name__})
        unlimited()  # to read the next one


def load() -> None:
    """Load what decodes, so that it counts for no image."""
    for name in ("pydicom.pixels", "gdcm", "openjpeg", "jpeg_ls", "rle", "PIL.Image"):
        with suppress(ImportError):
            import_module(name)


def limited(more_s: float) -> None:
    """Let the kernel end this process when it has used so much more processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(used.ru_utime + used.ru_stime + more_s)
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def unlimited() -> None:
    """What is not the work of a request may take processor time."""
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def say(answers: BinaryIO, answer: dict[str, Any], content: bytes = b"") -> None:
    """An answer, and the bytes behind it."""
    answers.write(json.dumps(answer).encode() + b"\n" + content)
    answers.flush()


def picture(path: str, frame_s: float, answers: BinaryIO) -> dict[str, Any]:
    """What a file shows: digests of geometry and pixels (None: cannot be decoded), and whether it is whole."""
    from pydicom import dcmread  # noqa: PLC0415  under the limits
    from pydicom.encaps import generate_frames  # noqa: PLC0415

    dataset = dcmread(path)
    found: dict[str, Any] = {"geometry": None, "digest": None, "whole": False, "image": "Rows" in dataset}
    if not any(keyword in dataset for keyword in PIXELS):
        found["geometry"] = _digest(repr([plain(dataset.get(keyword)) for keyword in GEOMETRY]))
        return found
    found["image"] = True
    try:
        found["geometry"] = _digest(repr([plain(dataset.get(keyword)) for keyword in GEOMETRY]))
        digest = hashlib.sha256()
        for frame in frames(dataset, frame_s):
            digest.update(
                f"{frame.shape}".encode() + frame.astype("<f8" if frame.dtype.kind == "f" else "<i8").tobytes()
            )
            say(answers, {"frame": True})
        found["digest"] = digest.hexdigest()
        found["whole"] = True
        found["whole"] = dataset.file_meta.TransferSyntaxUID not in _MARKED or all(
            one.rstrip(b"\0").endswith(b"\xff\xd9")
            for one in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
        )
    except MemoryError:
        raise
    except BaseException:  # noqa: BLE001, S110  whatever a decoder raises: it has no picture
        pass
    return found


def frames(dataset: Any, frame_s: float, options: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Any]:
    """Each frame's pixels, under a limit of its own."""
    from pydicom.pixels.utils import iter_pixels  # noqa: PLC0415

    for frame in iter_pixels(dataset, **options):
        yield frame
        limited(frame_s)


def decode(request: dict[str, Any], frame_s: float, answers: BinaryIO) -> None:
    """Answer with each frame of an image, then with the end."""
    from pydicom import dcmread  # noqa: PLC0415

    for frame in frames(dcmread(request["path"], force=True), frame_s, request["options"]):
        content = frame.tobytes()
        say(answers, {"shape": frame.shape, "dtype": frame.dtype.str, "bytes": len(content)}, content)
    say(answers, {"end": True})


def plain(value: Any) -> Any:
    """A value in a form whose text says whether two are equal: 4 is 4.0."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        return value.strip()
    if hasattr(value, "elements"):
        return [(int(one.tag), plain(one.value)) for one in value.elements()]
    return [plain(one) for one in value] if hasattr(value, "__iter__") else str(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(requests: BinaryIO) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        one = requests.read(1)
        if not one:
            return b""
        line += one
    return bytes(line)


if __name__ == "__main__":
    main()
