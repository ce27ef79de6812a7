"""Figures in documents say which bundle they were measured with: the shipped one, or an earlier form by name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = hashlib.sha256((ROOT / "models" / "starter" / "bundle.toml").read_bytes()).hexdigest()
_NAMED = re.compile(r"(?i)(earlier form \()?digest `?([0-9a-f]{12,64})\b")
_UNMARKED = re.compile(r"(?i)starter(?: bundle)? [0-9.]+ \(([0-9a-f]{12,64})\)")


def documents() -> list[Path]:
    return [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "models" / "starter" / "CARD.md"]


def wrong(text: str) -> list[str]:
    """Digests that are not the shipped bundle's and not said to be of an earlier form."""
    joined = " ".join(text.split())
    named = [digest for earlier, digest in _NAMED.findall(joined) if not earlier] + _UNMARKED.findall(joined)
    return [digest for digest in named if not SHIPPED.startswith(digest.lower())]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_document_names_the_bundle_that_is_shipped(path: Path) -> None:
    assert wrong(path.read_text(encoding="utf-8")) == []


def test_the_documents_of_figures_name_a_bundle_and_another_one_is_noticed() -> None:
    """The search above finds what it looks for."""
    for name in ("numbering.md", "second-generator.md"):
        assert SHIPPED[:12] in (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert wrong("starter 1.1, digest a7fc49b63c41, 120 specimens") == ["a7fc49b63c41"]
    assert wrong("the starter bundle 1.1 (a7fc49b63c41)") == ["a7fc49b63c41"]
    assert wrong("in its earlier form\n(digest a7fc49b63c41)") == []
