"""Secrets out of what is shown: settings, URLs with passwords or tokens, words of drivers that repeat either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, SecretStr

MASK = "**********"
_SHORTEST = 4  # a shorter "secret" would mask half of every sentence
# Up to the last @ before a blank or quote: a password may hold / and @ that nobody encoded.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^\s'\"<>]*)@")
_QUERY = re.compile(r"([?&;][^=&;\s'\"<>]*=)[^&;\s'\"<>#]+")
_DSN = re.compile(
    r"(?i)\b(password|passwd|token|secret|api[_-]?key)(\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s,;]+)"
)  # libpq's form


def masked(text: str, secrets: frozenset[str] = frozenset()) -> str:
    """A text without known secrets, and without passwords and values of queries in the URLs that it holds."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _USERINFO.sub(_without_password, text)
    if "://" in text:
        text = _QUERY.sub(rf"\1{MASK}", text)
    return _DSN.sub(rf"\1\2{MASK}", text)


def masked_tree(value: Any, secrets: frozenset[str] = frozenset()) -> Any:
    """Every text in a tree of plain values, masked."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, dict):
        return {key: masked_tree(one, secrets) for key, one in value.items()}
    return [masked_tree(one, secrets) for one in value] if isinstance(value, list | tuple) else value


def secrets_of(settings: BaseModel) -> frozenset[str]:
    """Every secret in settings: secret values whole, and the passwords and query values of URLs."""
    found: set[str] = set()
    for value, is_secret in _texts(settings):
        if is_secret:
            found.add(value)
        found |= set(_in_url(value))
    return frozenset(one for one in found if len(one) >= _SHORTEST)


def _texts(value: Any, *, is_secret: bool = False) -> Iterator[tuple[str, bool]]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value(), True
    elif isinstance(value, str):
        yield value, is_secret
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _in_url(text: str) -> Iterator[str]:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return
    userinfo, at, _ = rest.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if at and (colon or scheme != "dimse"):
        kept = password if colon else user
        yield from (kept, unquote(kept))
    for match in re.finditer(r"[?&;][^=&;]*=([^&;#]+)", rest):
        yield from (match[1], unquote(match[1]))


def _without_password(match: re.Match[str]) -> str:
    """The user of a URL stays where it is an AE title, or where a password follows it."""
    user, colon, _ = match["user"].partition(":")
    if not colon and match["scheme"].lower() == "dimse":
        return match[0]
    shown = f"{user}:{MASK}" if colon and "/" not in user else MASK
    return f"{match['scheme']}://{shown}@"
