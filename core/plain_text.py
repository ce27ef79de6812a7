"""Text that came from outside, shown as text: no control characters, no terminal sequences, no hidden marks."""

from __future__ import annotations

import unicodedata

# Control, format (direction marks, joiners), surrogate, private use, unassigned; line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str, *, lines: bool = False) -> str:
    """The text with every character that is not seen spelt as its code; ``lines`` keeps ends of lines.

    Markup is not touched: whoever prints it must print it as text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if (lines and c == "\n") or not _is_hidden(c) else _code(c) for c in text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _code(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
