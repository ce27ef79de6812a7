"""Enough file descriptors for every connection: asked for at the start, in words where the system gives fewer."""

from __future__ import annotations

import resource

import pytest

from cauda.core import settings
from cauda.core.errors import Misconfigured
from cauda.listener import descriptors

GIVEN = settings.load(environ={}, overrides={"limits": {"max_associations": 50}})


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """The system's limits; what they are set to is kept."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    return asked


def test_the_soft_limit_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limits(monkeypatch, 1024, 524_288)
    descriptors.reserve(GIVEN)
    assert asked == [(descriptors.needed(GIVEN), 524_288)]
    assert descriptors.needed(GIVEN) > 1024 + 525, "what 525 silent connections had used up"


def test_a_soft_limit_that_is_enough_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limits(monkeypatch, 65_536, 524_288)
    descriptors.reserve(GIVEN)
    assert asked == []


def test_a_hard_limit_below_is_misconfigured_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limits(monkeypatch, 1024, 1024)
    with pytest.raises(Misconfigured) as caught:
        descriptors.reserve(GIVEN)
    assert "LimitNOFILE" in caught.value.message
    assert "limits.max_associations" in caught.value.message
    assert asked == []
