"""A message from Redis is a hint of ours or nothing; what is passed on says no more than the hint did."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from cauda.core.broker import NoHint, hint


def body(content: Any) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def message(**changes: Any) -> dict[str, Any]:
    return {
        "body": body([[], {}, {"callbacks": None}]), "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "cauda.grade", "id": "theirs", "expires": "2026-11-30T10:00:00+00:00"},
        "properties": {"body_encoding": "base64", "delivery_tag": "theirs", "reply_to": "theirs"},
    } | changes  # fmt: skip


def test_a_hint_is_rebuilt_from_its_task_and_its_end() -> None:
    made = hint(message(), "grade")
    assert (made["headers"]["task"], made["headers"]["expires"]) == ("cauda.grade", "2026-11-30T10:00:00+00:00")
    assert json.loads(base64.b64decode(made["body"]))[:2] == [[], {}]
    assert "theirs" not in json.dumps(made)
    assert hint(message(), "grade")["properties"]["delivery_tag"] != made["properties"]["delivery_tag"]


@pytest.mark.parametrize(
    "junk",
    [
        None, 7, "text", [], {}, message(headers=None), message(headers="x"), message(headers={}),
        message(headers={"task": ["cauda.grade"]}), message(headers={"task": "os.system"}),
        message(headers={"task": "cauda.deliver"}), message(headers={"task": "cauda.grade", "expires": "never"}),
        message(properties=None), message(properties={"body_encoding": "rot13"}),
        message(body=body([[1], {}, {}])), message(body=body([[], {"a": 1}, {}])), message(body=body("x")),
        message(body=body([[]])), message(body="!!!"), message(body=None), message(body=7),
        message(body=body([[], {}, "x" * 100_000])), message(body=base64.b64encode(b"[" * 3000).decode()),
        message(**{"content-type": "application/x-python-serialize"}), message(**{"content-type": None}),
    ],
    ids=lambda junk: str(junk)[:60],
)  # fmt: skip
def test_anything_else_is_none(junk: Any) -> None:
    with pytest.raises(NoHint):
        hint(junk, "grade")
