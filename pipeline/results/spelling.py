"""Other people's words in ASCII, which means the same under every character set (CLINICAL.md 30)."""

from __future__ import annotations

import unicodedata

# What Unicode does not take apart into a letter and its marks.
_LETTERS = str.maketrans(
    {
        "ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "æ": "ae", "Æ": "AE", "œ": "oe",
        "Œ": "OE", "ı": "i", "‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"',
        "„": '"', "«": '"', "»": '"', "·": "-", "×": "x", "µ": "u", "©": "(c)", "®": "(R)",
    }
)  # fmt: skip


def in_ascii(text: str) -> str:
    """Letters without their marks, plain dashes and quotes; only what has no Latin letter in it becomes ``?``."""
    parts = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    letters = "".join(one for one in parts if not unicodedata.combining(one))
    return letters.encode("ascii", "replace").decode("ascii")
