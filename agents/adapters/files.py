"""What stands behind a scheme: a file, and arguments in parentheses as for a factory."""

from __future__ import annotations

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
    ends = [place for place, one in enumerate(where) if one == "("] if where.endswith(")") else []
    for end in (len(where), *reversed(ends)):
        file = Path(where[:end].rstrip())
        try:
            if file.is_file():
                return file, where[end:]
        except (OSError, ValueError):  # too long for a name, or no name at all
            continue
    name = where.partition("(")[0].rstrip() if ends else where
    what = "is a folder, not a file" if _is_folder(name) else "does not exist"
    raise AgentError(f"{shown(name, 200)} {what}; {advice}")


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False
