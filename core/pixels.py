"""Pixels decoded in a process of their own, under limits on memory, processor time and wall clock.

Decoders are C libraries that were seen to abort, to crash and not to end on a few changed bytes. Here that costs one
answer. A process serves many requests; one that has died or was late is replaced (`pixels_child`).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cauda.core import pixels_child
from cauda.core.domain import Reason
from cauda.core.errors import Rejected

_MODULE = "cauda.core.pixels_child"
_LINE_BYTES = 4096
_SLOW = 4  # wall clock for each second of processor time: the machine does other work too
_FRESH_S = pixels_child.IDLE_S / 2  # an older process may be ending just now
_PICTURES = 256  # that are remembered
# Ends that say nothing of the file: it cannot be started, or somebody ended it (the kernel, for want of memory).
_NOT_THE_FILE = frozenset({0, 1, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT})


class Picture(NamedTuple):
    """What a file shows."""

    image: bool  # it says that it has pixels
    whole: bool  # none is cut short: some decoders make a picture of a beginning, and some makers write no end
    geometry: str | None  # digests; None where it cannot be read
    digest: str | None


BROKEN = Picture(image=True, whole=False, geometry=None, digest=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What decoding may cost."""

    memory_bytes: int = 2 << 30  # address space of the process
    frame_s: float = 5  # processor time of a frame
    start_s: float = 30  # wall clock to load the libraries, on a machine that is busy
    total_s: float = 60  # wall clock: of one picture, or of all that a Decoder decodes; without start_s


class Late(Exception):
    """The answer did not come in time."""


class Died(Exception):
    """The process ended before its answer."""

    def __init__(self, code: int, *, replaced: bool = False) -> None:
        """``code`` as `subprocess` gives it: negative for a signal; ``replaced``: another one is there already."""
        super().__init__(code)
        self.code = code
        self.replaced = replaced


class Decoder:
    """Owns the process; usable from any thread, one request at a time."""

    def __init__(self, bounds: Bounds) -> None:
        """Nothing is started before the first request."""
        self._bounds = bounds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._left_s = bounds.total_s
        self._cancelled = False
        self.spent_s = 0.0  # wall clock of all requests so far
        self._held = bytearray()
        self._ends = -1  # where the process says how one that served has ended
        self._used_s = 0.0  # time.monotonic when it was last used
        self._known: OrderedDict[tuple[int, ...], Picture] = OrderedDict()  # by file

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def cancel(self) -> None:
        """Let what is being found out end at once, without an answer, and begin nothing any more."""
        self._cancelled = True
        process = self._process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        """To be closed at the end of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """As `close`."""
        self.close()

    def picture(self, path: Path) -> Picture | None:
        """What a file shows; None when that could not be found out, which says nothing of the file.

        Raises OSError where the file is not there, InterruptedError after `cancel`.
        """
        with self._lock:
            found = path.stat()  # the same for a file under each of its names
            file = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if file not in self._known and (picture := self._picture(path)) is not None:
                self._known[file] = picture
                if len(self._known) > _PICTURES:
                    self._known.popitem(last=False)
            return self._known.get(file)

    def _picture(self, path: Path) -> Picture | None:
        if self._cancelled:
            raise InterruptedError("decoding was cancelled")
        self._left_s = self._bounds.total_s
        try:
            with closing(self._answers({"what": "picture", "path": str(path)})) as answers:
                last = next(one for one in answers if "frame" not in one)
        except Died as death:
            if self._cancelled:
                raise InterruptedError("decoding was cancelled") from None
            return None if death.code in _NOT_THE_FILE else BROKEN
        except (Late, OSError, ValueError):
            return None
        return None if "error" in last else Picture(**last)

    def decode(self, path: Path, *, most_bytes: int, options: Mapping[str, Any] = MappingProxyType({})) -> NDArray[Any]:
        """The pixels of a file, frames first where it has several. Rejected (undecodable) with the reason.

        ``options`` are pydicom's for decoding.
        """
        with self._lock:
            if self._left_s <= 0:
                raise _slow(self._bounds.total_s)
            try:
                frames = self._frames({"what": "decode", "path": str(path), "options": dict(options)}, most_bytes)
            except Died as death:
                if death.code == -signal.SIGXCPU:
                    raise _slow(self._bounds.frame_s) from None
                raise Rejected(Reason.UNDECODABLE, f"pixel data end the decoder (status {death.code})") from None
            except Late:
                raise _slow(self._bounds.total_s if self._left_s <= 0 else self._bounds.frame_s) from None
            except ValueError:
                raise Rejected(Reason.UNDECODABLE, "pixel data make the decoder answer at random") from None
        if not frames:
            raise Rejected(Reason.UNDECODABLE, "pixel data hold no frame")
        return frames[0] if len(frames) == 1 else np.stack(frames)

    def _frames(self, request: Mapping[str, Any], most_bytes: int) -> list[NDArray[Any]]:
        frames: list[NDArray[Any]] = []
        with closing(self._answers(request, most_bytes)) as answers:
            for answer in answers:
                if answer.get("error") == "MemoryError":
                    raise Rejected(
                        Reason.UNDECODABLE, f"decoding takes more than {self._bounds.memory_bytes >> 20} MiB"
                    )
                if "error" in answer:
                    raise Rejected(Reason.UNDECODABLE, f"pixel data cannot be decoded ({answer['error']})")
                if "end" not in answer:
                    frames.append(np.frombuffer(answer["content"], answer["dtype"]).reshape(answer["shape"]))
        return frames

    def _answers(self, request: Mapping[str, Any], most_bytes: int = 0) -> Generator[dict[str, Any]]:
        """All answers to one request. Raises Late, Died; the process is gone then, as where somebody stops early."""
        started = time.monotonic()
        whole = False
        try:
            self._send(json.dumps(request).encode() + b"\n")
            started = time.monotonic()
            while not whole:
                deadline = min(time.monotonic() + self._bounds.frame_s * _SLOW, started + self._left_s)
                answer = json.loads(self._line(deadline))
                most_bytes -= (count := answer.pop("bytes", 0))
                if count < 0 or most_bytes < 0:
                    raise ValueError("more than was asked for")
                answer |= {"content": self._exactly(count, deadline)} if count else {}
                whole = "shape" not in answer and "frame" not in answer
                yield answer
        except Died as death:
            whole = death.replaced
            raise
        finally:
            self._used_s = time.monotonic()
            self._left_s -= self._used_s - started
            self.spent_s += self._used_s - started
            if not whole:
                self._kill()

    def _send(self, content: bytes) -> None:
        if time.monotonic() - self._used_s > _FRESH_S:
            self._kill()
        for again in (True, False):
            process = self._process or self._started()
            deadline = time.monotonic() + self._bounds.start_s
            self._forget_ends()
            try:
                left = memoryview(content)
                while left:
                    self._wait(process.stdin, select.POLLOUT, deadline)
                    left = left[os.write(_fd(process.stdin), left[: 1 << 16]) :]
            except BrokenPipeError:
                code = process.wait()
                self._kill()
                if not again:
                    raise Died(code) from None  # else: somebody had ended it
            else:
                return

    def _started(self) -> subprocess.Popen[bytes]:
        """A process that has loaded what decodes; until then its time is nobody's."""
        self._held.clear()
        self._ends, ends = os.pipe()
        os.set_blocking(self._ends, False)
        command = [sys.executable, "-P", "-m", _MODULE, str(self._bounds.memory_bytes), str(self._bounds.frame_s),
                   str(ends)]  # fmt: skip
        one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")  # threads take address space
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, **one_thread}, start_new_session=True, pass_fds=[ends],
            )  # fmt: skip
        except OSError:
            os.close(self._ends)
            raise
        finally:
            os.close(ends)
        self._process = process
        if self._cancelled:  # just now, and did not see it
            process.kill()
        # so that one that has ended, for having nothing to do, is gone
        threading.Thread(target=process.wait, name="pixels", daemon=True).start()
        os.set_blocking(_fd(process.stdin), False)
        os.set_blocking(_fd(process.stdout), False)
        self._line(time.monotonic() + self._bounds.start_s)
        return process

    def _forget_ends(self) -> None:
        """One that served may have ended between two requests; what it said last is not for the next."""
        self._held.clear()
        with suppress(BlockingIOError):
            os.read(self._ends, 1 << 12)

    def _line(self, deadline: float) -> bytes:
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > _LINE_BYTES:
                raise Died(1)  # it says what no process of ours says
            self._held += self._some(deadline)
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line

    def _exactly(self, count: int, deadline: float) -> bytes:
        while len(self._held) < count:
            self._held += self._some(deadline)
        content = bytes(self._held[:count])
        del self._held[:count]
        return content

    def _some(self, deadline: float) -> bytes:
        process = self._process
        if process is None:
            raise Died(1)
        self._wait(process.stdout, select.POLLIN, deadline, self._ends)
        try:
            content = os.read(_fd(process.stdout), 1 << 20)
        except BlockingIOError:  # all that it said was read, and it has ended
            code = int.from_bytes(os.read(self._ends, pixels_child.END_BYTES), "big", signed=True)
            raise Died(code, replaced=True) from None
        if not content:
            raise Died(process.wait())
        return content

    def _wait(self, pipe: Any, what: int, deadline: float, *others: int) -> None:
        poller = select.poll()
        poller.register(pipe, what)
        for other in others:
            poller.register(other, select.POLLIN)
        if not poller.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise Late

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the one that serves
        process.wait()
        os.close(self._ends)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _slow(seconds: float) -> Rejected:
    return Rejected(Reason.UNDECODABLE, f"decoding took longer than {seconds:g} s")


def _fd(pipe: Any) -> int:
    return int(pipe.fileno())
