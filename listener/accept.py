"""Which of the media types that we can send an Accept header wants most (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence


def best(accept: str, offered: Sequence[str]) -> str | None:
    """The one of greatest weight, the first of several; None where the header admits none. Without one any will do."""
    if not accept.strip():
        return offered[0]
    ranges = dict(_range(one) for one in accept.split(","))
    weights = [_weight(one, ranges) for one in offered]
    return offered[weights.index(max(weights))] if max(weights) > 0 else None


def _range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    given = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return name, float(given)
    except ValueError:
        return name, 0.0


def _weight(offered: str, ranges: dict[str, float]) -> float:
    """The closest range decides, however little it gives."""
    kind = offered.partition("/")[0]
    return next((ranges[name] for name in (offered, f"{kind}/*", "*/*") if name in ranges), 0.0)
