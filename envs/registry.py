"""The task table, selections from it, and the domains that can run them.

A selection is a comma list of terms; a term after ``!`` takes tasks away, wherever in the list it stands:

=========================  =======================================================
``metaworld``              every task of a domain
``metaworld/door-*``       tasks by shell pattern (``*``, ``?``, ``[abc]``)
``atari/freeway``          one task, whatever letters of patterns are in its name
``@heldout``               a split of all domains (``train``, ``heldout``, ``extra``)
``dmcontrol@train``        a split of one domain; also after a pattern
``lram432``, ``atari41``   a named suite (:func:`suites`)
``gym:CartPole-v1``        a task that its domain makes from the name (``Domain.on_demand``)
=========================  =======================================================

Patterns over all domains (``*``, ``@train``) cover the 469 tasks of the paper; tasks outside it, such
as the toy ones, are selected by naming their domain. Tasks that are made to fail or to hang
(:attr:`lram.envs.session.Domain.faulty`) are selected by their own names only (:func:`left_out`).
"""

from __future__ import annotations

import csv
import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import cast

from lram.envs import announced, domain_files, score_file
from lram.envs.domain_files import DomainFile
from lram.envs.errors import AnnouncedError, SelectionError
from lram.envs.session import Domain
from lram.envs.task import ActionKind, ObservationKind, ScoreKind, Split, Task
from lram.envs.text import printable

ENTRY_POINT_GROUP = announced.GROUP
DEMO_SUITE = (
    "metaworld/reach-v3",
    "metaworld/drawer-open-v3",
    "dmcontrol/cartpole-swingup",
    "dmcontrol/cartpole-balance",
    "procgen/coinrun",
    "procgen/starpilot",
    "atari/freeway",
    "atari/breakout",
)
_ADAPTERS = MappingProxyType(
    {
        "metaworld": "lram.envs.domains.metaworld",
        "dmcontrol": "lram.envs.domains.dmcontrol",
        "procgen": "lram.envs.domains.procgen",
        "atari": "lram.envs.domains.atari",
        "robosuite": "lram.envs.domains.robosuite.suite",
        "composuite": "lram.envs.domains.composuite",
        "mimicgen": "lram.envs.domains.mimicgen",
        "darkroom": "lram.envs.domains.darkroom",
        "memory": "lram.envs.domains.memory.domain",
        "toy": "lram.envs.domains.toy",
        "gym": "lram.envs.domains.gym.domain",
    }
)


# A domain, and what of it: as in task ids, or with the colon of names that are in no table.
_PATTERN = re.compile(r"[*?\[@]")
_FILE = re.compile(r"[^:]+\.py(?:[:/].*)?", re.DOTALL)
_NAMED = re.compile(r"(?P<domain>[^/:@*?\[]+)(?:[/:](?P<name>.*))?", re.DOTALL)


@cache
def benchmark_tasks() -> tuple[Task, ...]:
    """Return the 469 tasks of the paper, in the order of the table."""
    text = files("lram.envs").joinpath("data/tasks.csv").read_text(encoding="utf-8")
    return tuple(_task(row) for row in csv.DictReader(text.splitlines()))


@cache
def all_tasks() -> Mapping[str, Task]:
    """Return every known task by id: the paper's, robosuite's, Dark-Room's, memory's, toy ones, those of
    other packages, and of files.
    """
    tasks = {task.id: task for task in benchmark_tasks()}
    for name in domain_names():
        if name not in _domains():
            # One package that is broken must not take everything else away; naming its domain says why.
            with suppress(SelectionError):
                tasks.update({task.id: task for task in load_domain(name).tasks})
    return MappingProxyType(tasks)


@cache
def suites() -> Mapping[str, tuple[str, ...]]:
    """Return the named suites: the whole, the splits and each domain's, named with their sizes."""
    groups: dict[str, list[str]] = {}
    tasks = benchmark_tasks()
    for prefix, members in [("lram", tasks), *((d, [t for t in tasks if t.domain == d]) for d in _domains())]:
        for chosen in (
            members,
            [t for t in members if t.split == "train"],
            [t for t in members if t.split == "heldout"],
        ):
            groups[f"{prefix}{len(chosen)}"] = [task.id for task in chosen]
    return MappingProxyType({**{name: tuple(ids) for name, ids in groups.items()}, "demo8": DEMO_SUITE})


def select(selection: str | Task | Sequence[str | Task]) -> list[Task]:
    """Return the tasks that ``selection`` names, in the order of the table, without repetition.

    Args:
        selection: A comma list of terms (the module's text tells them), a task, or a sequence of these.

    Raises:
        SelectionError: A term names nothing, or nothing is left.
    """
    return _with_users_scores(own_rows(selection))


def own_rows(selection: str | Task | Sequence[str | Task]) -> list[Task]:
    """Return what :func:`select` does, without what the user's file says (:mod:`lram.envs.score_file`).

    Raises:
        SelectionError: As for :func:`select`, but for the file.
    """
    return _resolve(selection)[0]


def left_out(selection: str | Task | Sequence[str | Task]) -> list[Task]:
    """Return the tasks that a selection's patterns match and that are not selected, being made to fail.

    Raises:
        SelectionError: As for :func:`select`.
    """
    return _resolve(selection)[1]


def _resolve(selection: str | Task | Sequence[str | Task]) -> tuple[list[Task], list[Task]]:
    """Return the tasks of a selection, and those that only their own names would select."""
    parts = [selection] if isinstance(selection, (str, Task)) else selection
    if not isinstance(parts, Iterable) or not all(isinstance(part, (str, Task)) for part in parts):
        raise SelectionError(f"a selection of tasks is a text, such as 'metaworld/*', not {selection!r:.80}")
    terms = [
        term.strip()
        for part in parts
        for term in (part.id if isinstance(part, Task) else part).split(",")
        if term.strip()
    ]
    if not terms:
        raise SelectionError("the selection of tasks is empty; 'lram tasks' lists what there is")
    chosen: dict[str, Task] = {}
    faulty: dict[str, Task] = {}
    for term in [term for term in terms if not term.startswith("!")] or ["*"]:
        named = term, term.partition("@")[0]
        for task_id, task in _matches(term).items():
            (faulty if task_id in _faulty() and task_id not in named else chosen)[task_id] = task
    for term in terms:
        if term.startswith("!"):
            for task_id in _matches(term[1:]):
                chosen.pop(task_id, None)
                faulty.pop(task_id, None)
    faulty = {task_id: task for task_id, task in faulty.items() if task_id not in chosen}
    if not chosen and faulty:
        raise SelectionError(
            f"the selection {','.join(terms)!r} matches only tasks that are made to fail "
            f"({', '.join(faulty)}); name those that you want without a pattern"
        )
    if not chosen:
        raise SelectionError(f"the selection {','.join(terms)!r} leaves no task; drop an exclusion")
    order = {task_id: place for place, task_id in enumerate(all_tasks())}
    first, second = (
        # Tasks made on demand stand in no table: they come last, as they were named.
        sorted(tasks.values(), key=lambda task: order.get(task.id, len(order)))
        for tasks in (chosen, faulty)
    )
    return first, second


def _with_users_scores(tasks: list[Task]) -> list[Task]:
    """Return ``tasks`` with what the user's file says of those that are not the paper's."""
    paper = _domains()
    others = {task.id: task for task in score_file.completed(t for t in tasks if t.domain not in paper)}
    return [others.get(task.id, task) for task in tasks]


@cache
def _faulty() -> frozenset[str]:
    """Return the ids of the tasks that are made to fail or to hang."""
    domains = dict.fromkeys(task.domain for task in all_tasks().values() if task.domain not in _domains())
    return frozenset(f"{name}/{task}" for name in domains for task in load_domain(name).faulty)


def domain_names() -> list[str]:
    """Return the names of the domains with an adapter: built in, from other packages, and from files."""
    _named_files()
    return [*_ADAPTERS, *sorted(_entry_points().keys() - _ADAPTERS.keys()), *_in_files]


@cache
def load_domain(name: str) -> Domain:
    """Return the adapter of a domain; SelectionError where there is none."""
    if name in _ADAPTERS:
        return cast(Domain, import_module(_ADAPTERS[name]).DOMAIN)
    if name in _entry_points():
        return announced.load(name, _entry_points()[name])
    if name not in _in_files and (problems := file_problems()):
        raise AnnouncedError(problems[0])  # it may be in there
    if name in _in_files:
        return next(domain for domain in _in_files[name].domains if domain.name == name)
    raise SelectionError(f"there is no domain {name!r}{_hint(name, domain_names())}")


_in_files: dict[str, DomainFile] = {}


def add_file(path: str | Path, digest: str = "") -> DomainFile:
    """Run a Python file that holds a domain, ``DOMAIN`` or several ``DOMAINS``, and make them known.

    Nothing happens where it was added before and is the same; a file that was changed since is run again.

    Args:
        path: The file.
        digest: What its SHA-256 must be; empty: whatever it is.

    Raises:
        AnnouncedError: It cannot be read or run, holds no domain, or one whose name is taken; one sentence.
    """
    _named_files()  # whose names are taken, too
    return _add(path, digest)


def _add(path: str | Path, digest: str = "") -> DomainFile:
    place = Path(os.path.realpath(path))
    for known in _in_files.values():
        if known.path == place and domain_files.digest_of(place) == known.digest == (digest or known.digest):
            return known

    def taken(name: str) -> str:
        if name in _ADAPTERS:
            return "lram-bench itself"
        if name in _entry_points():
            return f"an installed package ({printable(_entry_points()[name].value, 200)})"
        other = _in_files.get(name)
        return str(other.path) if other is not None and other.path != place else ""

    found = domain_files.load(place, digest, taken)
    for name in [name for name, known in _in_files.items() if known.path == place]:
        del _in_files[name]
    _in_files.update({domain.name: found for domain in found.domains})
    for cached in (all_tasks, load_domain, _faulty):
        cached.cache_clear()
    return found


def file_of(domain: str) -> DomainFile | None:
    """Return the file that a domain was read from; None where it is built in, installed or not known."""
    if domain in _ADAPTERS or domain in _entry_points():
        return None
    if domain not in _in_files:
        _named_files()
    return _in_files.get(domain)


def file_problems() -> tuple[str, ...]:
    """Return what is wrong with files that ``LRAM_DOMAINS`` names, a sentence each."""
    return _named_files()


def _named_files() -> tuple[str, ...]:
    """Make the domains known of the files that the variable names; return what is wrong with others."""
    return _read_files(os.environ.get(domain_files.VARIABLE, ""))


@cache
def _read_files(text: str) -> tuple[str, ...]:
    problems = []
    for path in dict.fromkeys(filter(None, text.split(os.pathsep))):
        try:
            _add(path)
        except AnnouncedError as error:
            problems.append(f"{domain_files.VARIABLE}: {error}")
    return tuple(problems)


@cache
def _entry_points():  # type: ignore[no-untyped-def]  # importlib's types differ between versions
    if sys.version_info >= (3, 10):
        points = entry_points(group=ENTRY_POINT_GROUP)
    else:  # a worker's interpreter
        points = entry_points().get(ENTRY_POINT_GROUP, ())
    return {printable(point.name, 200): point for point in points}


@cache
def _domains() -> tuple[str, ...]:
    """Return the domains of the paper, in the order of the table."""
    return tuple(dict.fromkeys(task.domain for task in benchmark_tasks()))


def _on_demand(term: str) -> Task | None:
    """Return the task that a domain makes from the name in ``term``; None where it is of another kind."""
    found = _NAMED.fullmatch(term)
    if found is None or found["domain"] not in domain_names():
        return None
    domain = load_domain(found["domain"])
    if domain.on_demand is None:
        return None
    name = found["name"]
    if domain.tasks and (not name or _PATTERN.search(name)):
        return None  # patterns and splits are of the domain's table
    if not name:
        raise SelectionError(
            f"the domain {domain.name} makes its tasks from their names; name one after {domain.name}:"
        )
    known = next((task for task in domain.tasks if task.name == name), None)
    return known or announced.made_on_demand(domain, name)


def _matches(term: str) -> dict[str, Task]:
    if (made := _on_demand(term)) is not None:
        return {made.id: made}
    if "/" in term and term in all_tasks():  # before patterns: a name may have their letters in it
        return {term: all_tasks()[term]}
    if term in suites():
        return {task_id: all_tasks()[task_id] for task_id in suites()[term]}
    pattern, _, split = term.partition("@")
    if split and split not in ("train", "heldout", "extra"):
        raise SelectionError(f"there is no split {split!r} (in {term!r}); use train, heldout or extra")
    pattern = pattern or "*"
    everywhere = pattern == "*" or (pattern.startswith("*/"))
    if pattern != "*" and "/" not in pattern:
        pattern += "/*"
    pattern = "*/*" if pattern == "*" else pattern
    tasks = benchmark_tasks() if everywhere else all_tasks().values()
    found = {task.id: task for task in tasks if fnmatchcase(task.id, pattern) and split in ("", task.split)}
    if not found:
        domain = pattern.partition("/")[0]
        if domain in _entry_points():
            load_domain(domain)  # says what is wrong with it, if that is why
        if _FILE.fullmatch(pattern):
            raise SelectionError(
                f"{term!r} names the file of a domain, which is run where a command line, "
                f"{domain_files.VARIABLE} or lram.envs.registry.add_file names it; here, name its tasks"
            )
        if problems := file_problems():
            raise AnnouncedError(problems[0])
        choices = [*all_tasks(), *suites(), *_domains(), *domain_names()]
        raise SelectionError(f"no task matches {term!r}{_hint(term, choices)}")
    return found


def _hint(name: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "; 'lram tasks' lists what there is"


def _task(row: Mapping[str, str]) -> Task:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    def count(name: str) -> int | None:
        return int(row[name]) if row[name] else None

    return Task(
        domain=row["domain"],
        name=row["name"],
        split=cast(Split, row["split"]),
        horizon=count("horizon"),
        observation=cast(ObservationKind, row["observation"]),
        observation_size=count("observation_size"),
        action=cast(ActionKind, row["action"]),
        action_size=count("action_size"),
        target_return=number("target_return"),
        reward_scale=float(row["reward_scale"]),
        score_random=number("score_random"),
        score_reference=number("score_reference"),
        score_kind=cast(ScoreKind, row["score_kind"]),
        reference_name=row["reference_name"],
        sources=tuple(
            (name, text) for name, _, text in (part.partition("=") for part in row["sources"].split("; "))
        ),
    )
