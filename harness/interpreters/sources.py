"""Checkouts of the packages that no registry has: recognised by what they hold, or cloned on request."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lram.envs.checkouts import commit_of, git_environment
from lram.envs.session import Domain, SourceTree
from lram.harness.data_folder import data_folder
from lram.harness.errors import LramError
from lram.harness.interpreters.folder import UsedSource
from lram.harness.words import count

_CLONE_TIMEOUT_S = 1800


class SourcesNeededError(LramError):
    """Checkouts are needed; ``commands`` make them, one tree's after the other's."""

    def __init__(self, message: str, commands: Sequence[str]) -> None:
        super().__init__(message)
        self.commands = tuple(commands)


@dataclass(frozen=True, slots=True)
class FoundTree:
    """The checkouts for a domain.

    Attributes:
        used: Those to put on the interpreter's path.
        absent: Trees that some tasks need and that are not there.
        warnings: What is odd about them, a sentence each.
    """

    used: tuple[UsedSource, ...]
    absent: tuple[SourceTree, ...]
    warnings: tuple[str, ...]


def clone_commands(tree: SourceTree) -> tuple[str, str]:
    """Return the two commands that make a checkout of ``tree`` at the proven commit."""
    folder = repository_name(tree)
    return f"git clone {tree.url} {folder}", f"git -C {folder} checkout --quiet {tree.commit}"


def repository_name(tree: SourceTree) -> str:
    """Return what ``git clone`` calls the folder by itself."""
    return tree.url.rstrip("/").rpartition("/")[2].removesuffix(".git")


def find_sources(
    domain: Domain,
    given: Sequence[Path],
    earlier: Sequence[UsedSource],
    *,
    clone: bool,
    say: Callable[[str], None],
) -> FoundTree:
    """Return the checkouts for ``domain``: given, used by it before, cloned before, or cloned now.

    Args:
        domain: Tells which packages to look for.
        given: Folders; each holds one of the packages or more, or is one.
        earlier: What its interpreter uses, where one is installed.
        clone: Clone what is still missing, after printing its licence.
        say: Told what is done.

    Raises:
        SourcesNeededError: A package that every task needs is not there.
        LramError: A folder holds none of the packages or has an impossible name, two hold the same one, or
            git fails.
    """
    roots: dict[str, Path] = {}
    for path in given:
        for tree, root in _recognised(domain, path):
            if roots.setdefault(tree.module, root) != root:
                raise LramError(
                    f"both {roots[tree.module]} and {root} hold the package {tree.module}; give one of them"
                )
    for tree in domain.sources:
        if tree.module in roots:
            continue
        known = [Path(source.path) for source in earlier if source.module == tree.module]
        there = [place for place in (*known, _own_folder(tree)) if _root(tree, place) == place]
        if there:
            roots[tree.module] = there[0]
        elif clone:
            say(f"cloning {tree.url} (licence: {tree.licence})")
            roots[tree.module] = _clone(tree)
    absent = [tree for tree in domain.sources if tree.module not in roots]
    if needed := [tree for tree in absent if not tree.tasks]:
        raise _needed(domain, needed, [tree for tree in absent if tree.tasks])
    for root in roots.values():
        _check_line(root)
    trees = [tree for tree in domain.sources if tree.module in roots]
    used = [
        UsedSource(tree.module, str(root), commit_of(root / tree.module), tree.licence)
        for tree, root in ((tree, roots[tree.module]) for tree in trees)
    ]
    warnings = [
        f"{source.path} is {short_commit(source.commit)}; proven is {tree.commit[:7]} of {tree.url}"
        for tree, source in zip(trees, used, strict=True)
        if source.commit != tree.commit
    ]
    return FoundTree(tuple(used), tuple(absent), tuple(warnings))


def _check_line(root: Path) -> None:
    """Raise LramError for a folder that cannot be a line of a .pth file; some lines there are executed."""
    text = str(root)
    if text.splitlines() != [text] or text != text.strip() or text.startswith(("import", "#")):
        raise LramError(
            f"the checkout in {text!r} cannot be used: its path must have no line break and no space at its "
            "ends, and not begin with 'import' or '#'; move it"
        )


def short_commit(commit: str) -> str:
    """Return what people read of a commit that may have ``+changes`` after it."""
    digits, plus, changes = commit.partition("+")
    return f"{digits[:7]}{plus}{changes}" if commit else "of no known commit"


def _recognised(domain: Domain, path: Path) -> list[tuple[SourceTree, Path]]:
    place = path.expanduser().absolute()
    if not domain.sources:
        raise LramError(f"the domain {domain.name} uses no checkout; leave --source out")
    found = [(tree, root) for tree in domain.sources if (root := _root(tree, place)) is not None]
    if not found:
        wanted = " or ".join(f"{tree.module}/__init__.py" for tree in domain.sources)
        problem = "does not exist" if not place.exists() else f"holds no {wanted}"
        raise LramError(
            f"{place} {problem}; --source takes a checkout of "
            f"{' or '.join(tree.url for tree in domain.sources)}"
        )
    return found


def _root(tree: SourceTree, place: Path) -> Path | None:
    """Return the folder to put on the path for ``tree``, if ``place`` is that or the package itself."""
    if (place / tree.module / "__init__.py").is_file():
        return place
    if place.name == tree.module and (place / "__init__.py").is_file():
        return place.parent
    return None


def _needed(
    domain: Domain, trees: Sequence[SourceTree], optional: Sequence[SourceTree]
) -> SourcesNeededError:
    commands = []
    for tree in (*trees, *optional):
        purpose = f"; for {', '.join(tree.tasks)} only" if tree.tasks else ""
        commands.append(f"# {tree.module} (licence: {tree.licence}{purpose})")
        commands.extend(clone_commands(tree))
    given = " ".join(f"--source {repository_name(tree)}" for tree in (*trees, *optional))
    commands.append(f"lram env install {domain.name} {given}")
    names = " and ".join(tree.module for tree in trees)
    return SourcesNeededError(
        f"the domain {domain.name} needs a checkout of {names}, which no package registry has: clone it and "
        "give its folder with --source, or let --clone do that",
        commands,
    )


def _own_folder(tree: SourceTree) -> Path:
    return data_folder() / "sources" / tree.module


def _clone(tree: SourceTree) -> Path:
    folder = _own_folder(tree)
    scratch = folder.with_name(f".{tree.module}.{os.getpid()}")
    by_hand = " && ".join(clone_commands(tree))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git("clone", "--quiet", tree.url, str(scratch))
        _git("-C", str(scratch), "checkout", "--quiet", tree.commit)
        if not (scratch / tree.module / "__init__.py").is_file():
            raise LramError(f"{tree.url} at {tree.commit[:7]} holds no {tree.module}/__init__.py")
        scratch.replace(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise LramError(
            f"{tree.url} cannot be cloned ({_reason(error)}); where git can, run: {by_hand}; "
            "then give the folder with --source"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _git(*arguments: str) -> None:
    subprocess.run(
        ["git", *arguments],
        env=git_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_CLONE_TIMEOUT_S,
        check=True,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no git"
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line.strip() for line in str(error.stderr).splitlines() if line.strip()]
        # What follows it is advice, such as to check one's access rights.
        why = [line for line in lines if line.startswith(("fatal:", "error:"))]
        return (why or lines[-1:] or [f"git ended with {error.returncode}"])[0]
    if isinstance(error, subprocess.TimeoutExpired):
        return f"git did not end within {_CLONE_TIMEOUT_S} s"
    return str(error)


def left_out(domain: Domain, absent: Sequence[SourceTree], tasks: Sequence[str]) -> str:
    """Return which of ``tasks`` cannot be played without the ``absent`` trees, in words; empty: none."""
    texts = []
    for tree in absent:
        names = [name for name in tasks if tree.needed(name)]
        if names:
            shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            how = " && ".join(map(shlex.join, (command.split() for command in clone_commands(tree))))
            texts.append(
                f"without {tree.module} ({tree.licence}) {count(len(names), 'task')} of {domain.name} "
                f"{'is' if len(names) == 1 else 'are'} left out ({shown}): {how}, then give it with "
                "--source, too"
            )
    return "; ".join(texts)
