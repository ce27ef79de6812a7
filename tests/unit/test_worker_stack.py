"""A stack says where a bug is, and nothing of what it was working on."""

from __future__ import annotations

from cauda.core import stack
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured


def fails(secret: str) -> None:
    raise ValueError(secret)


def wraps(secret: str) -> None:
    try:
        fails(secret)
    except ValueError as error:
        raise RuntimeError(secret) from error


def caught(secret: str) -> BaseException:
    try:
        wraps(secret)
    except RuntimeError as error:
        return error
    raise AssertionError


def test_frames_and_types_from_cause_to_end_without_the_messages() -> None:
    text = stack.of(caught("Doe^Jane"))
    assert "Doe^Jane" not in text
    assert text.index("ValueError") < text.index("RuntimeError")
    assert "in fails: raise ValueError(secret)" in text
    assert "test_worker_stack.py" in text


def test_our_own_errors_keep_their_message() -> None:
    assert stack.of(Misconfigured("grading.bundle: not there")) == "Misconfigured: grading.bundle: not there"
    assert Misconfigured("x").reason is Reason.MISCONFIGURED
