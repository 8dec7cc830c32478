"""What stands behind a scheme: a file or folder, and arguments in parentheses as for a factory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.shown import shown


def split_file(where: str, advice: str) -> tuple[Path, str]:
    """Return the file that ``where`` names, and the text of its arguments with the parentheses.

    A file's own name may have parentheses: what exists as it stands has no arguments.

    Args:
        where: ``FILE`` or ``FILE(name=value)``.
        advice: What to give instead, for the message.

    Raises:
        AgentError: There is no such file; one sentence.
    """
    return _split(where, _is_file, lambda name: "is a folder, not a file" if _is_folder(name) else "", advice)


def split_folder(where: str, advice: str) -> tuple[Path, str]:
    """Return the folder that ``where`` names, and its arguments, as :func:`split_file` does a file's."""
    return _split(where, _is_folder, lambda name: "is a file, not a folder" if _is_file(name) else "", advice)


def _split(
    where: str, is_it: Callable[[str], bool], other: Callable[[str], str], advice: str
) -> tuple[Path, str]:
    ends = [place for place, one in enumerate(where) if one == "("] if where.endswith(")") else []
    for end in (len(where), *reversed(ends)):
        if is_it(where[:end].rstrip()):
            return Path(where[:end].rstrip()), where[end:]
    name = where.partition("(")[0].rstrip() if ends else where
    raise AgentError(f"{shown(name, 200)} {other(name) or 'does not exist'}; {advice}")


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _is_folder(name: str) -> bool:
    try:
        return bool(name) and Path(name).is_dir()
    except (OSError, ValueError):
        return False
