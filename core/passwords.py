"""Passwords as they may lie in a configuration: salted scrypt hashes (RFC 7914)."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

FORM = re.compile(r"scrypt:(\d{1,2}):(\d{1,2}):(\d{1,2}):([0-9a-f]{32}):([0-9a-f]{64})")
_COST, _BLOCK, _PARALLEL = 15, 8, 1  # 32 MiB and a tenth of a second
_MEMORY = 64 * 1024 * 1024
SHORTEST = 12


def hashed(password: str) -> str:
    """``scrypt:log2 n:r:p:salt:hash``; ValueError for a password that can be guessed."""
    if len(password) < SHORTEST:
        raise ValueError(f"a password has at least {SHORTEST} characters")
    salt = secrets.token_bytes(16)
    return _form(_COST, _BLOCK, _PARALLEL, salt, password)


def verified(password: str, kept: str | None) -> bool:
    """Whether this is the password. Without a hash the answer is no, and takes as long."""
    match = FORM.fullmatch(kept or "")
    cost, block, parallel = (int(match[i]) for i in (1, 2, 3)) if match else (_COST, _BLOCK, _PARALLEL)
    salt = bytes.fromhex(match[4]) if match else bytes(16)
    given = _form(cost, block, parallel, salt, password)
    return hmac.compare_digest(given.encode(), (kept or "").encode())


def _form(cost: int, block: int, parallel: int, salt: bytes, password: str) -> str:
    digest = hashlib.scrypt(
        password.encode(), salt=salt, n=2**cost, r=block, p=parallel, maxmem=_MEMORY, dklen=32
    ).hex()  # fmt: skip
    return f"scrypt:{cost}:{block}:{parallel}:{salt.hex()}:{digest}"
