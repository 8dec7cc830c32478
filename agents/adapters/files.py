"""What stands behind a scheme: a file or folder, and arguments in parentheses as for a factory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.shown import shown


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """The files that an adapter reads, to be brought to another machine.

    Attributes:
        named: The path in the agent's name.
        folder: In which all of them lie.
        names: Of the files, relative to ``folder``.
        inside: What ``named`` is, relative to ``folder``; empty: the folder itself.
    """

    named: str
    folder: Path
    names: tuple[str, ...]
    inside: str = ""


def named_in(where: str, arguments: str) -> str:
    """Return the path in ``where`` as it is written, for what :func:`split_file` gave as ``arguments``."""
    return where.removesuffix(arguments).rstrip()


def beside(named: str, *others: Path) -> AdapterFiles:
    """Return the file ``named`` and those of the ``others`` that exist, all in its folder.

    Raises:
        AgentError: One of them lies elsewhere; one sentence.
    """
    file = Path(named)
    return AdapterFiles(named, file.parent, _names(file.parent, (file, *others)), file.name)


def within(named: str, *files: Path) -> AdapterFiles:
    """Return those of the ``files`` that exist, all in the folder ``named``; AgentError where one is not."""
    return AdapterFiles(named, Path(named), _names(Path(named), files))


def _names(folder: Path, files: Iterable[Path]) -> tuple[str, ...]:
    names = []
    for file in files:
        try:
            name = file.relative_to(folder)
        except ValueError:
            name = Path("..")
        if ".." in name.parts:
            raise AgentError(
                f"{file} does not lie in {folder}, and only what does is brought to other machines; copy it "
                "there"
            )
        names += [name.as_posix()] if file.is_file() else []
    return tuple(dict.fromkeys(names))


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
