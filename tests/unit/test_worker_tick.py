"""When a worker counts as deaf: it could work, the bell rang, and nothing begins."""

from __future__ import annotations

from cauda.worker.tick import Ear


def looks(ear: Ear, *seen: tuple[float, bool, bool, int]) -> list[bool]:
    return [ear.deaf(now, rang=rang, busy=busy, begun=begun) for now, rang, busy, begun in seen]


def test_deaf_after_ringing_in_vain_for_longer_than_its_patience() -> None:
    ear = Ear(patience_s=60)
    assert looks(ear, *((float(t), True, False, 0) for t in (0, 30, 60, 61))) == [False, False, False, True]


def test_work_that_begins_a_busy_worker_and_silence_each_start_the_wait_anew() -> None:
    assert not any(looks(Ear(patience_s=60), (0, True, False, 0), (59, True, False, 1), (100, True, False, 1)))
    assert not any(looks(Ear(patience_s=60), (0, True, False, 0), (59, True, True, 0), (100, True, False, 0)))
    assert not any(looks(Ear(patience_s=60), (0, True, False, 0), (59, False, False, 0), (100, True, False, 0)))
