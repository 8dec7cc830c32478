"""What an interpreter has for a domain, found out without importing a simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import distributions as distributions_on
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lram.envs.errors import InterpreterError
from lram.envs.session import Domain
from lram.envs.text import printable

OLDEST_PYTHON = (3, 9)
# Code given with -c starts with this: before Python 3.11 nothing else keeps the working directory, where
# a research repository may have a folder called like a package that a simulator imports, off the path.
SAFE_PATH = "import sys; sys.path[:] = [place for place in sys.path if place]\n"
# On a disk that has not read an interpreter yet, and on a cluster's file system, the first start of one can
# take more than a minute.
_ANSWER_S = 180.0
# Any Python must be able to read this, if only to say its version.
_PROBE = (
    SAFE_PATH
    + """
import json
facts = {"python": list(sys.version_info[:3]), "absent": [], "versions": {}}
if sys.version_info >= (3, 8):
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec
    modules, distributions = json.loads(sys.argv[1])
    for name in modules:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            spec = None
        # A mere folder of that name is a package to Python, too: a namespace.
        if spec is None or (
            spec.origin is None and (spec.loader is None or "NamespaceLoader" in type(spec.loader).__name__)
        ):
            facts["absent"].append(name)
    for name in distributions:
        try:
            facts["versions"][name] = version(name)
        except PackageNotFoundError:
            pass
print(json.dumps(facts))
"""
)


@dataclass(frozen=True, slots=True)
class Probe:
    """What an interpreter has.

    Attributes:
        python: Its version, such as ``3.11.7``.
        absent: The import names among those asked for that it lacks.
        versions: Version of each distribution asked for that it has.
    """

    python: str
    absent: tuple[str, ...]
    versions: dict[str, str]


def probe(python: str | None, modules: Iterable[str], distributions: Iterable[str] = ()) -> Probe:
    """Return what ``python`` has, in the environment that a worker would start in.

    A folder without an ``__init__.py``, such as a clone that is called like the package in it, is none.

    Args:
        python: Interpreter to ask (None: this one).
        modules: Top-level import names to look for.
        distributions: Distributions to tell the versions of.

    Raises:
        InterpreterError: It cannot be run, does not answer, is too old, or has no numpy.
    """
    if python is None:
        absent = tuple(name for name in modules if not _present(name))
        return Probe(".".join(map(str, sys.version_info[:3])), absent, _versions(distributions))
    facts = _ask(python, sorted({*modules, "numpy"}), list(distributions))
    text = ".".join(map(str, facts["python"]))
    if tuple(facts["python"][:2]) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise InterpreterError(f"is Python {text}, and a worker needs {oldest} or later")
    if "numpy" in facts["absent"]:
        raise InterpreterError("has no numpy, which a worker needs")
    return Probe(text, tuple(name for name in modules if name in facts["absent"]), facts["versions"])


def missing_requirements(domain: Domain, python: str | None = None) -> list[str]:
    """Return the import names that ``domain`` needs for any task and that are not there.

    Args:
        domain: The adapter.
        python: Interpreter to look in (None: this one).

    Raises:
        InterpreterError: The interpreter is of no use.
    """
    return list(probe(python, required_modules(domain)).absent)


def required_modules(domain: Domain, tasks: Sequence[str] | None = None) -> list[str]:
    """Return the import names that ``tasks`` (by their names within ``domain``) need.

    Without tasks: those that every task needs.
    """
    trees = [
        tree.module
        for tree in domain.sources
        if (not tree.tasks if tasks is None else any(tree.needed(task) for task in tasks))
    ]
    return list(dict.fromkeys([*domain.requires, *trees]))


def environment(python: str) -> dict[str, str]:
    """Return the environment variables for a process of ``python`` that serves a domain.

    PYTHONPATH stays: a checkout on it is found wherever a domain runs, and the versions that a protocol
    stands on are looked up with it in place, so that what it hides is noticed.
    """
    variables = dict(os.environ)
    variables["PYTHONSAFEPATH"] = "1"
    if python != sys.executable:
        variables.pop("PYTHONHOME", None)  # this interpreter's standard library
    return variables


def _ask(python: str, modules: list[str], distributions: list[str]) -> dict[str, Any]:
    command = [python, "-c", _PROBE, json.dumps([modules, distributions])]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_ANSWER_S, check=True, env=environment(python)
        )
        return _facts(json.loads(answer.stdout.strip().splitlines()[-1]))
    except subprocess.TimeoutExpired as error:
        raise InterpreterError(f"gave no answer within {_ANSWER_S:g} s") from error
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, RecursionError) as error:
        raise InterpreterError("cannot be run") from error


def _facts(answer: Any) -> dict[str, Any]:
    """Return the facts in an interpreter's answer; ValueError where it is not what the probe prints."""
    if not isinstance(answer, dict) or answer.keys() != {"python", "absent", "versions"}:
        raise ValueError("these are not the facts that were asked for")
    python, absent, versions = answer["python"], answer["absent"], answer["versions"]
    if not (
        isinstance(python, list)
        and len(python) == 3
        and all(type(number) is int and 0 <= number < 1000 for number in python)
        and isinstance(absent, list)
        and all(isinstance(name, str) for name in absent)
        and isinstance(versions, dict)
        and all(isinstance(version, str) for version in versions.values())
    ):
        raise ValueError("these are not the facts that were asked for")
    return {**answer, "versions": {name: printable(version, 200) for name, version in versions.items()}}


def _present(name: str) -> bool:
    """Whether a worker of this interpreter would find a module or package, which is not a mere folder."""
    parent, dot, _ = name.partition(".")
    try:
        # A part of a package is found by importing the package.
        spec = (find_spec(name) if _present(parent) else None) if dot else _found(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and not (
        spec.origin is None and (spec.loader is None or "NamespaceLoader" in type(spec.loader).__name__)
    )


def _found(name: str) -> ModuleSpec | None:
    path = _worker_path()
    specs = (finder.find_spec(name, path if finder is PathFinder else None) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    path = _worker_path()
    found = {name: next(iter(distributions_on(name=name, path=path)), None) for name in distributions}
    return {name: one.version for name, one in found.items() if one is not None}


def _worker_path() -> list[str]:
    """Return where a worker of this interpreter looks for modules.

    Python put the folder of the script, or the working directory, before the standard library for this
    process alone; what PYTHONPATH names there reaches a worker, too.
    """
    own = {"", *_startup_folders()}
    if listed := os.environ.get("PYTHONPATH"):
        own -= {str(Path(place).absolute()) for place in listed.split(os.pathsep)}
    library = str(Path(os.__file__).parent)
    first = sys.path.index(library) if library in sys.path else len(sys.path)
    return [place for index, place in enumerate(sys.path) if place and (index >= first or place not in own)]


def _startup_folders() -> list[str]:
    folders = []
    with suppress(OSError):  # it was removed
        folders.append(str(Path.cwd()))
    if script := getattr(sys.modules.get("__main__"), "__file__", None):
        folders += [str(Path(script).absolute().parent), str(Path(script).resolve().parent)]
    return folders
