"""Stands for `cauda.core.pixels_child` with decoders that do to the process what Patient Comments says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cauda.core import pixels_child


class Panic(BaseException):
    """As one in Rust comes to Python."""


_sound, _say = pixels_child.frames, pixels_child.say


def _half(answers: BinaryIO, answer: dict[str, Any], content: bytes) -> None:
    _say(answers, answer, content[: len(content) // 2])
    os.abort()


def frames(dataset: Any, frame_s: float, options: Any = None) -> Iterator[Any]:
    """The frames, unless something happens."""
    match dataset.get("PatientComments"):
        case "abort":
            os.abort()
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(2)
        case "spin":
            while True:
                pass
        case "wait":
            if "WILD_WAITS" in os.environ:  # somebody wants to know
                Path(os.environ["WILD_WAITS"]).touch()
            time.sleep(3600)
        case "rest":
            time.sleep(25)
        case "panic":
            raise Panic
        case "halfway":
            pixels_child.say = _half
        case "memory":
            bytearray(8 << 30)
    return _sound(dataset, frame_s, options or {})


if __name__ == "__main__":
    pixels_child.frames = frames
    pixels_child.main()
