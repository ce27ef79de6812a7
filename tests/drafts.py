"""A file in memory, as the door puts one together."""

from __future__ import annotations

from cauda.core.draft import Draft


def drafted(content: bytes) -> Draft:
    """It, which may be as long as a draft can be."""
    draft = Draft()
    draft.begin(content[:128])
    draft.add(content[128:])
    return draft
