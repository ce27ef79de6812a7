"""The DICOMweb door's token."""

from __future__ import annotations

import base64
import hmac


def has_token(authorization: str, token: str) -> bool:
    """Whether an Authorization header carries the token: as Bearer, or as the password of Basic with any user."""
    scheme, _, given = authorization.partition(" ")
    given = given.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.encode())
