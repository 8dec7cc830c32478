"""The token that a client shows to a server: from a file or the environment, never in a name or a record."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lram.agents.errors import AgentError

VARIABLE = "LRAM_SERVE_TOKEN"
"""Environment variable of a client's token."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
_RULE = "16 to 512 letters, digits and characters of ._~+/=- on one line"


def read_token(file: str | os.PathLike[str]) -> str:
    """Return the token in ``file``; AgentError where there is none.

    What does not look like a token is not returned, so no other file's content is ever sent to a server.
    """
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(1024)
    except OSError as error:
        raise AgentError(
            f"the token's file {os.fspath(file)} cannot be read ({error.strerror or error}); name one that "
            "holds what 'lram serve' printed"
        ) from error
    return _checked(content.decode("utf-8", "replace").strip(), f"the file {os.fspath(file)}")


def token_for(file: str) -> str:
    """Return the token in ``file``, or of the environment without a file's name; empty where there is "
    "none."""
    if file:
        return read_token(file)
    given = os.environ.get(VARIABLE, "")
    return _checked(given, f"the environment variable {VARIABLE}") if given else ""


def header(token: str) -> dict[str, str]:
    """Return the HTTP header that shows ``token``, as openpi's client does; none without a token."""
    return {"Authorization": f"Api-Key {token}"} if token else {}


def _checked(token: str, place: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise AgentError(f"{place} holds no token; write {_RULE} into it")
    return token
