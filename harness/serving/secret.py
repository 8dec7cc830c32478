"""The token of a server."""

from __future__ import annotations

import hmac
import secrets


def make_token() -> str:
    """Return a new token of 43 characters (256 random bits)."""
    return secrets.token_urlsafe(32)


def shows(authorization: str | None, token: str) -> bool:
    """Return whether a request's ``Authorization`` header shows ``token``, as ``Api-Key`` or ``Bearer``."""
    scheme, _, given = (authorization or "").partition(" ")
    known = scheme.lower() in ("api-key", "bearer")
    return hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode()) and known
