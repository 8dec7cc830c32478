"""Domains from plain files, as commands name them, plans keep them, and runs are continued with them.

A term ``FILE.py`` of a selection is every task of the domains in that file, ``FILE.py:NAME`` those that the
name or pattern matches, ``FILE.py@SPLIT`` those of a split. Only what a user names now is run; what a plan
names, where :mod:`lram.harness.trust` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lram.agents.own_code import changed, check_loaded_file, file_digests
from lram.envs.domain_files import digest_of
from lram.envs.errors import AnnouncedError, SelectionError
from lram.envs.registry import add_file, file_of, select
from lram.envs.session import Domain
from lram.harness.errors import LramError, as_lram_error
from lram.harness.storage.records import DomainSource, RunPlan
from lram.harness.trust import vouched
from lram.harness.waiting import say

_TERM = re.compile(r"(?P<without>!?)(?P<file>[^:]+\.py)(?::(?P<name>.*)|@(?P<split>\w+))?", re.DOTALL)


@as_lram_error()
def named(selection: Sequence[str]) -> list[str]:
    """Return the terms of a selection, with ids and patterns where it names files; these are run.

    Raises:
        LramError: A file cannot be run or holds no domain, or has no such task.
    """
    terms = []
    for term in (term.strip() for part in selection for term in part.split(",")):
        found = _TERM.fullmatch(term)
        if found is None:
            terms += [term] if term else []
        else:
            domains = add_file(Path(found["file"]).expanduser()).domains
            split = f"@{found['split']}" if found["split"] else ""
            terms += [found["without"] + one + split for one in _terms(domains, found["name"] or "")]
    return terms


def with_absolute_files(selection: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Return a selection with the files of domains, relative to ``folder``, made absolute."""
    return tuple(",".join(_absolute(term, folder) for term in part.split(",")) for part in selection)


def _absolute(term: str, folder: Path) -> str:
    if (found := _TERM.fullmatch(term.strip())) is None:
        return term
    place = (folder / Path(found["file"]).expanduser()).absolute()
    rest = "" if found["name"] is None else f":{found['name']}"
    return f"{found['without']}{place}{rest}" + ("" if found["split"] is None else f"@{found['split']}")


def sources(domains: Iterable[str]) -> dict[str, DomainSource]:
    """Return where those of ``domains`` are from that files hold, and of what code, for a plan.

    Raises:
        LramError: The process has loaded other files by the names of modules beside one of them.
    """
    files = {name: file_of(name) for name in domains}
    for file in files.values():
        if file is not None:
            with as_lram_error():
                check_loaded_file(file.path)
    return {
        name: DomainSource(str(file.path), file.digest, _beside(file.path))
        for name, file in files.items()
        if file is not None
    }


def noted(files: Mapping[str, DomainSource]) -> dict[str, str]:
    """Return SHA-256 by what it is of: ``domain NAME``, ``module NAME of the domain NAME``; no paths."""
    found = {}
    for name, source in files.items():
        found[f"domain {name}"] = source.digest
        found |= {f"module {one} of the domain {name}": digest for one, digest in source.modules.items()}
    return found


def differing(one: Mapping[str, DomainSource], other: Mapping[str, DomainSource]) -> list[str]:
    """Return what has another source in the two (as :func:`noted` has it), of the domains that both note."""
    first, second = (noted({name: files[name] for name in one if name in other}) for files in (one, other))
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def paths(plan: RunPlan) -> dict[str, str]:
    """Return the files that continuing a run would run, by domain: all but those that a user named now."""
    return {name: source.path for name, source in plan.domain_files.items() if file_of(name) is None}


def reopen(files: Mapping[str, DomainSource]) -> None:
    """Make the domains known that a plan has from files, which somebody vouches for.

    Raises:
        LramError: A file is gone, or its code is not what the plan was made with.
    """
    for name, source in files.items():
        known = file_of(name)
        path = Path(source.path) if known is None else known.path
        if known is None and not path.is_file():
            raise LramError(
                f"the domain {name} is from the file {path}, which is not there; put it back, or name "
                "where it lies now with LRAM_DOMAINS=FILE.py"
            )
        with as_lram_error():
            now = digest_of(path)
        if others := [path.name] * (now != source.digest) + changed(source.modules, _beside(path)):
            raise LramError(
                f"the domain {name} is not the one that was started with: {', '.join(others)} in "
                f"{path.parent} changed since; put it back, or start anew"
            )
        with as_lram_error():
            if name not in {domain.name for domain in add_file(path).domains}:
                raise LramError(f"{path} holds no domain {name} any more; put the file back, or start anew")


def recall(plan_file: Path, plan: RunPlan) -> None:
    """Make domains from files known for a report, where that runs only what this user ran before.

    A report does without what a domain tells; why, is said where its file is another one now.
    """
    absent = paths(plan)
    if absent and vouched(plan_file):
        try:
            reopen({name: plan.domain_files[name] for name in absent})
        except LramError as error:
            say(f"lram: a report goes without what a domain tells of its tasks: {error}")


def _beside(path: Path) -> dict[str, str]:
    return {name: digest for name, digest in file_digests(path).items() if name != path.stem}


def _terms(domains: Sequence[Domain], name: str) -> list[str]:
    if not name:
        return [domain.name for domain in domains]
    found, refused = [], []
    for domain in domains:
        term = f"{domain.name}{':' if domain.on_demand is not None else '/'}{name}"
        try:
            select(term)
        except AnnouncedError:
            raise
        except SelectionError as error:
            refused.append(error)
        else:
            found.append(term)
    if not found:
        raise refused[0]
    return found
